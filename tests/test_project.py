"""Files about the project that repeat what stands elsewhere: they say the same."""

from __future__ import annotations

import re
from pathlib import Path

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
