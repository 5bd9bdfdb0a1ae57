"""`diffusion list`: what there is to choose from, a line each."""

from __future__ import annotations

from diffusion_cli.errors import UserError
from diffusion_cli.options.browsing import Line
from diffusion_cli.options.files import names_of, title_of
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.options.help import EXPERIMENT
from diffusion_cli.options.keys import keys_of
from diffusion_cli.options.signature import Argument


def main(line: Line) -> None:
    for name, value in line.others.items():
        raise UserError(name, value, "no such key; say the name of a group alone: diffusion list datasets")
    chosen = line.keys["group"]
    if chosen is None:
        argument = keys_of("list")["group"]
        assert isinstance(argument, Argument) and argument.range is not None
        groups = {plural: GROUPS.get(plural.removesuffix("s")) for plural in argument.range.choices}
        rows = [(plural, group.text if group else EXPERIMENT) for plural, group in groups.items()]
    else:
        one = chosen.removesuffix("s")
        rows = [(name, title_of(one, name, line.folders)) for name in names_of(one, line.folders)]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")
