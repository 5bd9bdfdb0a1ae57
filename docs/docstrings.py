"""Docstrings of the package as Markdown: lines `name: text` become a list, and examples blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

ARGUMENT = re.compile(r"([a-zT]\w*(?:, \w+)*): +(?=\S)")


class Plain(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(doc: str) -> str:
    """The docstring with lists and blocks of code as Markdown writes them; paragraphs stay as they are."""
    return "\n\n".join(_block(block) for block in re.split(r"\n\s*\n", doc))


def _block(text: str) -> str:
    """One paragraph, list or example."""
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    lines, listed = [], False
    for line in text.splitlines():
        item = bool(ARGUMENT.match(line))
        if item != listed and not line.startswith(" "):
            lines += [""] * bool(lines)
            listed = item
        lines.append(ARGUMENT.sub(r"- `\1`: ", line, count=1) if item else line)
    return "\n".join(lines)
