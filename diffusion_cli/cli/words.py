"""The lines of the commands that need no configuration: words and KEY=VALUE, read without Hydra."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from diffusion_cli.cli.streams import spoken
from diffusion_cli.errors import UserError, in_group
from diffusion_cli.options.browsing import POSITIONAL, Line
from diffusion_cli.options.keys import defaults_of, keys_of
from diffusion_cli.options.signature import Argument
from diffusion_cli.ranges import Config, check_value

FOLDER = "--config-dir="


def run(command: str, flags: Sequence[str], words: Sequence[str]) -> None:
    """Calls the command's `main` with what its line says."""
    others = [flag for flag in flags if not flag.startswith(FOLDER) or command != "list"]
    if others:
        raise UserError(others[0].partition("=")[0], ..., f"is no flag of {command}")
    folders = [Path(flag.removeprefix(FOLDER)) for flag in flags]
    keys, others_said = parse(command, words)
    with spoken():
        importlib.import_module(f"diffusion_cli.commands.{command}").main(Line(keys, others_said, folders))


def parse(command: str, words: Sequence[str]) -> tuple[Config, dict[str, str]]:
    """The keys of a command, and NAME=VALUE of others. Raises UserError for a bad value.

    >>> parse("list", ["samplers"])
    ({'group': 'samplers'}, {})
    """
    said: dict[str, str] = {}
    loose: list[str] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            loose.append(word)
        elif name in said:
            raise UserError(name, text, "said twice")
        else:
            said[name] = text
    keys = defaults_of(command)
    for name, value in _by_place(command, loose):
        if name in said:
            raise UserError(name, said.pop(name), "said twice")
        keys[name] = _checked(command, name, value)
    for name in [name for name in said if name in keys]:
        keys[name] = _checked(command, name, said.pop(name))
    return keys, said


def _by_place(command: str, loose: list[str]) -> Iterator[tuple[str, str | list[str]]]:
    """Names and values of the words without `=`."""
    first, *rest = POSITIONAL[command]
    if len(loose) > 1 and not rest:
        raise UserError(loose[1], ..., f"one word at most follows {command}")
    if loose:
        yield first, loose[0]
    if loose[1:]:
        yield rest[0], loose[1:]


def _checked(command: str, name: str, given: str | list[str]) -> object:
    """A value of a key: as YAML reads it, or the text itself, whichever is in the range of the key."""
    argument = keys_of(command)[name]
    assert isinstance(argument, Argument) and argument.range is not None
    candidates = [given] if isinstance(given, list) else [_plain(given), given]
    for value in candidates:
        if argument.range.accepts(value):
            return value
    with in_group(""):
        check_value(name, candidates[0], argument.range)
    return None


def _plain(text: str) -> object:
    """A number, true, false, null, or a list of texts."""
    if text.startswith("[") and text.endswith("]"):
        return [item.strip() for item in text[1:-1].split(",") if item.strip()]
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, (bool, int, float, type(None))) else text
