"""Tab completion of the console script `diffusion`: what Hydra's completion does not know, which is the command word
and flags between overrides, is offered here and arranged before Hydra completes the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from diffusion_cli.cli.flags import BARE, COMMANDS, VALUED, sort
from diffusion_cli.errors import UserError
from diffusion_cli.options.browsing import POSITIONAL
from diffusion_cli.options.groups import EXACT
from diffusion_cli.options.keys import COMPOSED, keys_of
from diffusion_cli.options.signature import Argument
from diffusion_cli.runs.listing import directories


def first_word() -> str | None:
    """The command on the line that is being completed (`COMP_LINE`), from which it is taken off.

    None where Hydra has nothing to add, after printing the commands or flags that fit.
    """
    program, _, line = os.environ.get("COMP_LINE", "").lstrip().partition(" ")
    command, blank, rest = line.lstrip().partition(" ")
    last = rest.split(" ")[-1]
    if not blank:
        print(" ".join(name for name in COMMANDS if name.startswith(command)))
    elif last.startswith("-"):
        print(" ".join(name for name in (*BARE, *VALUED) if name.startswith(last)))
    elif command in POSITIONAL:
        print(" ".join(word for word in _words_of(command) if word.startswith(last)))
    elif command in COMPOSED and last.startswith("run="):
        print(" ".join(f"run={name}" for name in _runs() if name.startswith(last.removeprefix("run="))))
    elif command in COMPOSED:
        try:
            flags, words = sort(rest.removesuffix(last).split())
        except UserError:
            return None
        os.environ["COMP_LINE"] = " ".join([program, *flags, *words, last])
        return command
    return None


def _words_of(command: str) -> Iterator[str]:
    """What may follow a command that Hydra does not know: its first word, and its keys."""
    first = POSITIONAL[command][0]
    for name, argument in keys_of(command).items():
        if isinstance(argument, Argument) and argument.range is not None and name == first:
            yield from argument.range.choices
        else:
            yield f"{name}="


def _runs() -> list[str]:
    """What `run=` may be: latest, exact, and the directories of the trained runs."""
    return [
        "latest",
        EXACT,
        *map(str, directories(Path("outputs", "train"))),
        *map(str, directories(Path("outputs", "multirun"))),
    ]
