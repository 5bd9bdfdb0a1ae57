"""`diffusion runs` and `diffusion list`: what they find, choose, compare and remove, on directories written by hand."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffusion_cli.__main__ import main
from diffusion_cli.cli.words import parse
from diffusion_cli.errors import UserError
from diffusion_cli.options.files import CONFIGS
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.listing import age_text, directories, holds, size_text

DAY = 86400


def write_run(
    path: Path,
    dataset: str = "circle",
    value: float = 0.5,
    days: float = 0.0,
    status: str = "finished",
    spread: float = 0.05,
    **config: Any,
) -> Path:
    """A run directory as `train` leaves it, last written so many days ago."""
    (path / "checkpoints").mkdir(parents=True)
    record = {"seed": 0, "dataset": {"n": 1}, "model": {"width": 128}, **config}
    about = {
        "command": "train",
        "choices": {"dataset": dataset},
        "overrides": [f"dataset={dataset}"],
        "extensions": [],
    }
    (path / "config.json").write_text(json.dumps(record | about))
    metrics = {
        "sliced_w2": {
            "value": value,
            "ratio": value * 2,
            "floor": 0.5,
            "floor_spread": spread,
            "better": "lower",
        },
        "coverage": {"value": value, "spread": spread, "draws": 1, "better": "higher"},
    }
    done = {"metrics": metrics} if status == "finished" else {"error": "it broke"}
    (path / "summary.json").write_text(json.dumps({"status": status, "steps": 100, "loss": value, **done}))
    (path / "checkpoints" / "step_00000100.safetensors").write_bytes(b"0" * 5000)
    then = time.time() - days * DAY
    for file in path.rglob("*"):
        os.utime(file, (then, then))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    train = tmp_path / "outputs" / "train"
    write_run(train / "circle" / "a", value=0.5, days=1)
    write_run(train / "circle" / "b", value=0.25, days=2, model={"width": 64})
    write_run(train / "square" / "c", "square", value=0.75, days=40)
    write_run(train / "square" / "d", "square", days=3, status="failed")
    write_run(train / "square" / "e", "square", days=50, status="running")
    return tmp_path


def named(out: str) -> list[str]:
    """The last parts of the run directories in the first column."""
    return [line.split()[0].rpartition("/")[2] for line in out.splitlines() if line.startswith("outputs/")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "abdce"),
        (["sort=-age"], "ecdba"),
        (["dataset=circle"], "ab"),
        (["dataset=circle,square", "status=finished"], "abc"),
        (["status=failed,interrupted"], "de"),
        (["age=..36h"], "a"),
        (["age=30d.."], "ce"),
        (["age=2d..45d"], "bdc"),
        (["size=1MB.."], ""),
        (["model.width=64"], "b"),
        (["metrics.sliced_w2=0.5.."], "ac"),
        (["sliced_w2=..0.3"], "b"),
        (["sort=metrics.sliced_w2"], "bacde"),
        (["sort=-metrics.coverage", "status=finished"], "bac"),
        (["sort=metrics.coverage", "status=finished"], "cab"),
        (["limit=2"], "ab"),
    ],
)
def test_the_list_holds_what_is_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert main(["runs", *words]) == 0
    assert "".join(named(capsys.readouterr().out)) == expected


def test_a_run_whose_process_is_gone_counts_as_interrupted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "status=interrupted"]) == 0
    assert named(capsys.readouterr().out) == ["e"]
    with RunDirectory(home / "outputs/train/square/e").lock():
        assert main(["runs", "status=running"]) == 0
        assert named(capsys.readouterr().out) == ["e"]
        assert main(["runs", "clean", "yes=true"]) == 0
    assert sorted(path.name for path in Path("outputs/train/square").iterdir()) == ["c", "e"]


def test_show_says_what_a_run_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show"]) == 0
    out = capsys.readouterr().out
    assert "outputs/train/circle/a" in out and "diffusion train dataset=circle" in out
    assert ["sliced_w2", "0.5", "1", "0.5"] in [line.split() for line in out.splitlines()]
    assert main(["runs", "show", "outputs/train/square/e"]) == 0
    assert "dataset=square hydra.run.dir=outputs/train/square/e resume=true" in capsys.readouterr().out


def test_compare_shows_what_differs_and_marks_the_best(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "compare", "outputs/train/circle/a", "outputs/train/circle/b", "sort=-age"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model.width", "64", "128"] in rows and not any(row[:1] == ["seed"] for row in rows)
    assert ["sliced_w2", "0.25", "*", "0.5"] in rows and ["coverage", "0.25", "0.5", "*"] in rows
    # of a loss nothing says how far it is by chance
    assert ["loss", "0.25", "0.5"] in rows


def test_a_difference_within_the_error_has_no_star_and_best_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(home / "outputs/train/circle/near", value=0.26, spread=0.05)
    assert main(["runs", "compare", *(f"outputs/train/circle/{name}" for name in ("b", "near"))]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert any(row[:1] == ["sliced_w2"] for row in rows) and not any("*" in row for row in rows)
    assert main(["runs", "best", "dataset=circle"]) == 0
    assert "outputs/train/circle/b" in (out := capsys.readouterr().out) and "1 within the error" in out


def test_best_is_of_each_dataset(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "best"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["circle", "outputs/train/circle/b"],
        ["square", "outputs/train/square/c"],
    ]
    assert main(["runs", "best", "by=metrics.coverage", "dataset=circle"]) == 0
    assert "outputs/train/circle/a" in capsys.readouterr().out


def test_clean_asks_and_takes_only_what_is_no_use(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = home / "outputs" / "train"
    assert main(["runs", "clean"]) == 2
    assert "yes=true" in capsys.readouterr().err and len([*directories(train)]) == 5
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(["runs", "clean"]) == 0 and len([*directories(train)]) == 5
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main(["runs", "clean"]) == 0
    assert [path.name for path in directories(train)] == ["a", "b", "c"]
    assert main(["runs", "clean", "status=any", "age=30d..", "yes=true"]) == 0
    assert [path.name for path in directories(train)] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lst"], "action=lst: must be one of the choices; did you mean list?"),
        (["sotr=age"], "sotr=age: no such key; did you mean sort?"),
        (["sort=nothing"], "sort=nothing: no such key in these runs; choose from"),
        (["status=done"], "status=done: no such status"),
        (["age=7d"], "age=7d: say 7d.. for at least so much, or ..7d for at most"),
        (["age=7y.."], "age=7y: must be a number and one of s, m, h, d, w"),
        (["limit=0"], "limit=0: must be a whole number >= 1"),
        (["root=elsewhere"], "root=elsewhere: no such directory"),
        (["compare", "latest"], "two or more are needed"),
        (["show", "nowhere"], "nowhere"),
        (["best", "by=nothing"], "by=nothing: no finished run has such a number"),
        (["--cfg", "job"], "--cfg: is no flag of runs"),
        (["limit=1", "limit=2"], "limit=2: said twice"),
    ],
)
def test_a_mistake_is_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(["runs", *words]) == 2
    err = capsys.readouterr().err
    assert line in err and err.count("\n") == 1
    assert len([*directories(home)]) == 5


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str, attribute: str) -> list[str]:
        return [found[attribute] or "" for tag, found in self.tags if tag == name and attribute in found]


def test_the_report_has_a_card_for_each_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = home / "outputs/train/circle/b"
    (run / "figures").mkdir()
    Image.new("RGB", (900, 300), "red").save(run / "figures" / "samples.png")
    page = home / "outputs/plot/circle/p"
    page.mkdir(parents=True)
    (page / "report.html").touch()
    record = {"seed": 0, "run": str(run), "command": "plot"}
    (page / "config.json").write_text(json.dumps(record))
    write_run(home / "outputs/train/circle/<b>x", value=0.7)
    assert main(["runs", "report", "dataset=circle", "sort=sliced_w2"]) == 0
    assert capsys.readouterr().out == f"3 of 3 runs; open {Path('outputs', 'runs.html')}\n"
    html = Path("outputs/runs.html").read_text()
    found = Tags(html)
    links = ["plot/circle/p/report.html", "train/circle/a/", "train/circle/%3Cb%3Ex/"]
    assert found.all("a", "href") == [link for link in links for _ in "12"]
    (source,) = found.all("img", "src")
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as shown:
        assert shown.size == (600, 200) and shown.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    # of the three the least sliced_w2 is the best, and the largest coverage
    cards = [Tags(card).text for card in html.split("<article")[1:]]
    assert ["★" in card for card in cards] == [True, False, True]
    assert "sliced w20.25 ★0.5" in cards[0] and "coverage0.7 ★" in cards[2] and "<b>x" in cards[2]
    assert "model.width" not in found.text and "3 finished" in found.text and "dataset=circle" in found.text


def test_the_report_says_what_failed_and_what_differs(home: Path) -> None:
    file = home / "outputs/train/circle/b/config.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"overrides": ["dataset=circle", "model.width=64"]}))
    assert main(["runs", "report", "file=all.html", "limit=4"]) == 0
    found = Tags(Path("all.html").read_text())
    assert found.text.count("model.width") == 4 and "it broke" in found.text
    assert found.all("a", "href")[0] == "outputs/train/circle/b/"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model.width=3"], "root=outputs: holds no runs of which all of the line is true"),
        (["root=empty"], "root=empty: holds no runs"),
        (["file=page.txt"], "file=page.txt: its name must end in .html"),
        (["file=nowhere/page.html"], "file=nowhere/page.html: no such directory"),
        (["file=taken.html"], "file=taken.html: cannot be written"),
    ],
)
def test_a_report_that_cannot_be_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    Path("empty").mkdir()
    Path("taken.html").mkdir()
    assert main(["runs", "report", *words]) == 2
    err = capsys.readouterr().err
    assert line in err and err.count("\n") == 1
    assert not [*home.rglob("*.part*")] and not [file for file in home.rglob("*.html") if file.is_file()]


def test_damaged_runs_are_left_out_aloud(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "outputs/train/circle/a/config.json").write_text("{")
    assert main(["runs", "dataset=circle"]) == 0
    out, err = capsys.readouterr()
    assert named(out) == ["b"] and "left out" in err and "circle/a" in err


def test_units_and_texts() -> None:
    assert holds("age", 90, "1m..2m") and not holds("age", 130, "1m..2m")
    assert holds("size", 2e6, "1.5MB..") and not holds("size", None, "1MB..")
    assert [age_text(s) for s in (5, 120, 7200, 3 * DAY)] == ["5 s", "2 min", "2 h", "3 d"]
    assert [size_text(n) for n in (0, 12, 3.4e6)] == ["0 B", "12 B", "3.4 MB"]


def test_words_are_read_by_their_ranges() -> None:
    keys, others = parse("runs", ["compare", "a", "b", "yes=true", "x.y=1e-3"])
    assert (keys["action"], keys["runs"], keys["yes"], others) == (
        "compare",
        ["a", "b"],
        True,
        {"x.y": "1e-3"},
    )
    assert parse("runs", ["root=12"])[0]["root"] == "12"
    assert parse("runs", ["action=show", "runs=[a, b]"])[0]["runs"] == ["a", "b"]
    with pytest.raises(UserError, match="one word at most"):
        parse("list", ["models", "samplers"])


def test_list_names_every_option_of_every_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    groups = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {name.removesuffix("s") for name in groups} == {
        path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "hydra"
    }
    for group in groups:
        assert main(["list", group]) == 0
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        files = {file.stem for file in (CONFIGS / group.removesuffix("s")).glob("[!_]*.yaml")}
        assert {line[0] for line in lines} == files and all(len(line) == 2 for line in lines)


def test_a_thousand_runs_without_torch(tmp_path: Path) -> None:
    """How long it takes is measured elsewhere: here, that torch, numpy and Hydra are not needed for it."""
    for i in range(1000):
        write_run(tmp_path / "outputs" / "train" / "circle" / f"{i:04d}", value=i)
    (tmp_path / "code.py").write_text(
        "import sys, time\nfrom diffusion_cli.__main__ import main\nstarted = time.monotonic()\n"
        "assert main(['runs', 'list', 'sort=metrics.sliced_w2']) == 0\n"
        "assert main(['runs', 'report', 'limit=3']) == 0\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'hydra'} & sys.modules.keys()\n"
        "print(f'{time.monotonic() - started:.2f} s', *heavy, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "code.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(named(done.stdout)) == 1000
    print(done.stderr)
    assert done.stderr.split()[1:] == ["s"]
