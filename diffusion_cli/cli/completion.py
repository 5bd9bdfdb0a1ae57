"""Tab completion of the console script `diffusion`: what Hydra's completion does not know, which is the command word
and flags between overrides, is offered here and arranged before Hydra completes the rest."""

from __future__ import annotations

import os

from diffusion_cli.cli.flags import BARE, COMMANDS, VALUED, sort
from diffusion_cli.errors import UserError


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
    elif command in COMMANDS:
        try:
            flags, words = sort(rest.removesuffix(last).split())
        except UserError:
            return None
        os.environ["COMP_LINE"] = " ".join([program, *flags, *words, last])
        return command
    return None
