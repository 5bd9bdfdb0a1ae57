"""Arguments of Python as words of the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

from diffusion_cli.cli.plain import quoted
from diffusion_cli.errors import ArgumentError, shown

# What Hydra reads as it stands; other texts are quoted.
PLAIN = re.compile(r"[A-Za-z_][\w-]*(?:[./][A-Za-z_][\w-]*)*")
NO_TEXTS = ("null", "true", "false", "inf", "nan")


def words_of(words: Sequence[str], keys: Mapping[str, object]) -> list[str]:
    """The words of a line: strings as they are, then each keyword argument as KEY=VALUE.

    >>> words_of(["optimizer.lr=1e-3"], {"dataset": "circle", "label": [0, 1], "stages": None})
    ['optimizer.lr=1e-3', 'dataset=circle', 'label=[0,1]', 'stages=null']
    """
    for word in words:
        if not isinstance(word, str) or word.startswith("-") or "=" not in word:
            raise ArgumentError(str(word), ..., 'must be a string such as "optimizer.lr=1e-3"')
    return [*words, *(f"{key}={typed(key, value)}" for key, value in keys.items())]


def typed(key: str, value: object) -> str:
    """A value as it is typed. ArgumentError for `key` where it cannot be."""
    if value is None or isinstance(value, bool):
        return shown(value)
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(typed(key, item) for item in value) + "]"
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        return text if PLAIN.fullmatch(text) and text.lower() not in NO_TEXTS else quoted(text)
    reason = f'takes no {type(value).__name__}; a key with a dot is a string: "{key}.NAME=VALUE"'
    raise ArgumentError(key, value, reason)
