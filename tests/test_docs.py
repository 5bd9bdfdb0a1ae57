"""What the documentation promises: the site builds, its commands and snippets run, what it names exists.

A block of code is run where the line above it is `<!-- run -->`. `<!-- run: KEY=VALUE ... -->` makes it quicker: the words
are added to each command, and in a snippet of Python VALUE takes the place of the one given to KEY. `<!-- write: FILE -->`
makes a file of it. The blocks of a page run one after the other, in one folder; those of Python share their names.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from diffusion_cli.__main__ import main
from diffusion_cli.options.files import names_of

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [*PAGES, *sorted(ROOT.glob("*.md"))]
BLOCK = re.compile(
    r"^<!-- (?P<what>run|write)(?:: (?P<words>.+?))? -->\n```(?P<language>\w+)\n(?P<code>.+?)^```$",
    re.M | re.S,
)
# What a training takes less of here, unless the block says otherwise.
QUICK = [
    "steps=20",
    "threads=1",
    "n=64",
    "stages.every=0",
    "evaluation.n=64",
    "evaluation.draws=1",
    "evaluation.floor_draws=2",
    *(
        f"figures.{name}=null"
        for name in ("stages", "metric_curve", "forward_strip", "reverse_strip", "trajectories")
    ),
]
# The same for a training in a snippet: what has a dot; its keywords are its own.
DOTTED = [word for word in QUICK if "." in word]
# The same of a student.
TAUGHT = [*QUICK, "trajectories=512", "trajectory_steps=4", "batch_size=64", "model.width=16"]


class Block(NamedTuple):
    what: str
    language: str
    code: str
    words: list[str]


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [
        Block(match["what"], match["language"], match["code"], (match["words"] or "").split())
        for match in found
    ]


def key(word: str) -> str:
    return word.partition("=")[0]


def shortened(given: list[str], words: list[str]) -> list[str]:
    """The arguments of a command with these words in place of those of the same keys."""
    if given[0] in ("train", "distill"):
        quick = QUICK if given[0] == "train" else TAUGHT
        words = [word for word in quick if key(word) not in map(key, words)] + words
    return [word for word in given if key(word) not in map(key, words)] + words


def run(block: Block, names: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    if block.what == "write":
        file = Path(*block.words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.code)
    elif block.language == "python":
        code = block.code
        for word in block.words:
            code, count = re.subn(rf"\b{key(word)}=\w+", word, code)
            assert count, f"{word}: not in the snippet"
        # quicker, whatever they train and measure
        code = code.replace("train(", f"train(*{DOTTED}, ")
        exec(compile(code, "snippet", "exec"), names)
    else:
        assert block.language == "sh"
        for line in block.code.splitlines():
            program = shlex.split(line, comments=True)
            while "=" in program[0]:
                monkeypatch.setenv(*program.pop(0).split("=", 1))
            assert program[0] == "diffusion", line
            arguments = shortened(program[1:], block.words)
            assert main(arguments) == 0, shlex.join(arguments)


@pytest.mark.parametrize(
    "page", [pytest.param(text, id=str(text.relative_to(ROOT))) for text in TEXTS if blocks(text)]
)
def test_what_a_page_shows_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        run(block, names, monkeypatch)


def test_every_mark_stands_above_a_block() -> None:
    marked = sum(
        len(re.findall("^<!-- (?:run|write)", text.read_text(encoding="utf-8"), re.M)) for text in TEXTS
    )
    assert marked == sum(len(blocks(text)) for text in TEXTS) > 10


@pytest.mark.parametrize("text", [pytest.param(text, id=str(text.relative_to(ROOT))) for text in TEXTS])
def test_what_a_page_names_exists(text: Path) -> None:
    """Links to files of the repository, and paths in backticks; links among the pages are the site's own to check."""
    content = text.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img src=\"([^\"]+)\"", content)
    targets = [text.parent / (link or picture) for link, picture in links if "://" not in link + picture]
    if text in PAGES:
        targets = [target for target in targets if target.suffix != ".md"]
    paths = re.findall(r"`((?:\.ci|\.github|configs|diffusion_cli|docs|scripts|tests)/[\w./-]*)", content)
    figures = re.findall(r"(?:diffusion )?plot figure=(\w+)", content)
    assert {*figures} - {"NAME"} <= {*names_of("figure")}
    missing = [str(target) for target in (*targets, *(ROOT / path for path in paths)) if not target.exists()]
    assert missing == []


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="needs the extra docs")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """By reading the package alone: a torch that cannot be imported stands in the way. Pages load nothing from elsewhere."""
    (tmp_path / "torch.py").write_text("raise ImportError('the site needs no torch')")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    foreign = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?https?:")
    pages = [*site.rglob("*.html")]
    assert len(pages) > len(PAGES)
    assert [str(page) for page in pages if foreign.search(page.read_text(encoding="utf-8"))] == []
