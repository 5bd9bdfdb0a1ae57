"""Sorting a command line: the command word, Hydra's flags, and the overrides. Imports nothing heavy."""

from __future__ import annotations

from diffusion_cli.errors import UserError, closest, suggestion
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.options.keys import COMMANDS, keys_of

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
BARE = {
    "--help": "-h",
    "--hydra-help": None,
    "--version": None,
    "--resolve": None,
    "--run": "-r",
    "--multirun": "-m",
    "--shell-completion": "-sc",
}
# Flags with a value, and the values where they are few.
VALUED: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "--cfg": ("-c", ("job", "hydra", "all")),
    "--package": ("-p", ()),
    "--config-path": ("-cp", ()),
    "--config-name": ("-cn", ()),
    "--config-dir": ("-cd", ()),
    "--info": ("-i", INFO),
}
LONG = {short: long for long, short in BARE.items()} | {short: long for long, (short, _) in VALUED.items()}
ACTIONS = ("--run", "--multirun", "--cfg", "--shell-completion", "--info")  # one of them at most
UNPICKLES = "--experimental-rerun"


def sort(argv: list[str]) -> tuple[list[str], list[str]]:
    """(flags, words) of a command line: flags in their long form with their values, wherever they stood.

    Hydra's parser wants the overrides in one piece, so that `dataset=circle -m seed=1,2` fails there; and its
    complaints are several lines long. Raises `UserError` for what Hydra would not understand.

    >>> sort(["train", "dataset=circle", "-m", "seed=1,2"])
    (['--multirun'], ['train', 'dataset=circle', 'seed=1,2'])
    """
    flags: list[str] = []
    words: list[str] = []
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if not token.startswith("-") or token == "-":
            words.append(token)
            continue
        name, equals, value = token.partition("=")
        name = LONG.get(name, name)
        if name in VALUED:
            if not equals:
                value = _value(name, rest)
            choices = VALUED[name][1]
            if choices and value not in choices:
                raise UserError(name, value, "no such choice", choices)
            flags.append(f"{name}={value}")
        elif name in BARE and not equals:
            flags.append(name)
        else:
            following = rest[0] if rest and not rest[0].startswith("-") and "=" not in rest[0] else ""
            raise _unknown(name, value or following)
    _refuse_contradiction(flags)
    return flags, words


def split_command(words: list[str]) -> tuple[str, list[str]]:
    """(command, overrides). Raises `UserError` where the first word is no command."""
    word, overrides = words[0], words[1:]
    if word in COMMANDS:
        return word, overrides
    if "=" in word or word.startswith(("+", "~")):
        raise UserError(word, ..., "a command comes first" + suggestion("", COMMANDS))
    raise UserError(word, ..., "no such command" + suggestion(word, COMMANDS))


def _value(name: str, rest: list[str]) -> str:
    if name == "--info" and (not rest or rest[0] not in INFO):
        return "all"
    if not rest or rest[0].startswith("-"):
        raise UserError(name, ..., "a value is needed", VALUED[name][1])
    return rest.pop(0)


def _unknown(name: str, value: str) -> UserError:
    """A flag that is none. value: after its `=`, or the next word where that may have been meant for it."""
    if name == UNPICKLES:
        return UserError(name, ..., "not offered: it runs whatever the given pickle holds")
    near, key = closest(name, [*BARE, *VALUED]), name.removeprefix("--")
    known = {*GROUPS, *(first for command in COMMANDS for first in keys_of(command))}
    if key.partition(".")[0] in known:
        return UserError(name, ..., f"no such flag; a key has no dashes: {key}={value or 'VALUE'}")
    return UserError(name, ..., "no such flag" + (f"; did you mean {near}?" if near else ""))


def _refuse_contradiction(flags: list[str]) -> None:
    names = [flag.partition("=")[0] for flag in flags]
    actions = [name for name in dict.fromkeys(names) if name in ACTIONS]
    if len(actions) > 1:
        raise UserError(" ".join(actions), ..., "only one of these at a time")
    if "--resolve" in names and "--cfg" not in names and "--help" not in names:
        raise UserError("--resolve", ..., "goes with --cfg job or --help only")
