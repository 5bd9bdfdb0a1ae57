"""The README: short, and with pictures that exist. Its commands and snippets run in tests/test_docs.py."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_every_command_in_it_runs():
    """All but the lines that set up a machine; what has a line above it that says so is run."""
    fences = re.findall(r"^([^\n]*)\n```\w+\n(.*?)^```$", TEXT, re.M | re.S)
    assert len(fences) > 3
    assert [code for above, code in fences if above != "<!-- run -->" and "pip install" not in code] == []


def test_its_pictures_exist():
    pictures = re.findall(r"outputs/report/[\w.]+", TEXT)
    assert len(pictures) > 5
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 1000
