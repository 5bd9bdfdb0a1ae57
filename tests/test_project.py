"""Files about the project that repeat what stands elsewhere: they say the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import diffusion_cli

ROOT = Path(__file__).parents[1]


def test_the_hooks_take_the_ruff_of_the_tests() -> None:
    (pinned,) = re.findall(r"^ruff==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert f"ruff-pre-commit\n    rev: v{pinned}\n" in hooks


def test_what_is_cited_is_this_version() -> None:
    assert f"\nversion: {diffusion_cli.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_origin_of_all_bundled_data_is_stated() -> None:
    assets = ROOT / "diffusion_cli" / "dataset" / "assets"
    notice = assets / "NOTICE.md"
    bundled = {path.name for path in (*assets.iterdir(), *assets.parent.glob("*.csv"))} - {notice.name}
    assert bundled == set(re.findall(r"^## (\S+)$", notice.read_text(), re.M))


@pytest.mark.skipif(os.name != "posix", reason="a script of bash")
def test_what_the_demo_ends_with_runs_in_a_fresh_shell(tmp_path: Path) -> None:
    """In a checkout with a blank in its path, whose environment no shell has activated."""
    home = tmp_path / "a checkout"
    bin_ = home / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (home / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo", home / "scripts")
    for file, text in {
        home / "scripts" / "bootstrap": f"#!/bin/sh\necho '{bin_}/python'\n",
        bin_ / "python": '#!/bin/sh\necho python "$@"\n',
        bin_ / "diffusion": '#!/bin/sh\necho diffusion "$@" in "$PWD"\n',
        bin_ / "activate": f"PATH='{bin_}':$PATH\n",
    }.items():
        file.write_text(text)
        file.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}

    def bash(*words: str | Path) -> str:
        done = subprocess.run(
            ["bash", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said, _, following = bash(home / "scripts" / "demo", "steps=10").partition("\nNext:\n")
    assert said == "python -m diffusion_cli train dataset=circle steps=10\n"
    assert bash("-ec", following).splitlines() == [
        f"diffusion {line} in {home}" for line in ("sample sampler=dpmpp sampler.steps=10", "runs", "--help")
    ]
