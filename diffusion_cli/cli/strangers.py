"""YAML that may be a stranger's, read so that nothing in it is looked up, unfolded or waited for."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

LARGEST = 256 * 1024  # bytes; no config of ours ever was a tenth of it
DEEPEST = 32
REFERENCE = re.compile(r"\$\{\s*[A-Za-z_][\w.]*\s*\}")  # to another key of the same file
MOST_REFERENCES = 12  # each may double what the file unfolds to
OPENS = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken,
         yaml.FlowSequenceStartToken)  # fmt: skip
CLOSES = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def read_text(file: Path) -> str:
    """The text of a file of modest size. Raises ValueError or OSError, with a reason that follows the file's name."""
    if not file.is_file():  # a pipe would be waited for without end
        raise ValueError("is no ordinary file")
    if file.stat().st_size > LARGEST:
        raise ValueError(f"is larger than {LARGEST // 1024} kB")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("is no text") from None


def check_yaml(text: str, outside: bool) -> None:
    """Refuses aliases (230 bytes of them can take a minute to unfold), great depth and, unless `outside`, values from
    outside: `${oc.env:HOME}` would read the environment, in whatever way it is spelt. Raises ValueError or YAMLError.
    """
    depth = references = 0
    for token in yaml.scan(text):
        depth += isinstance(token, OPENS) - isinstance(token, CLOSES)
        if depth > DEEPEST:
            raise ValueError("is nested too deeply")
        if isinstance(token, yaml.AliasToken):
            raise ValueError("has YAML aliases")
        if isinstance(token, yaml.ScalarToken) and "${" in token.value and not outside:
            references += token.value.count("${")
            if "${" in REFERENCE.sub("", token.value):
                raise ValueError("asks for values from outside (${...:...})")
            if references > MOST_REFERENCES:
                raise ValueError("refers to itself too often")
