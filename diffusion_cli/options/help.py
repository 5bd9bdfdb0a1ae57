"""What a command offers, in text: its groups with their options, and its keys with type, default and meaning."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffusion_cli.errors import UserError, shown
from diffusion_cli.options.check import TARGET, arguments_of
from diffusion_cli.options.files import names_of, node_of, title_of
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.options.keys import keys_of, signature_of_command
from diffusion_cli.options.signature import MISSING, Argument

CHOSEN = {"train": [*(g for g in GROUPS if g != "figure"), "experiment"],
          "distill": ["dataset", "model", "parameterization", "objective", "optimizer", "guidance", "sampler", "evaluation",
                      "logger"],
          "sample": ["sampler", "guidance"],
          "evaluate": ["sampler", "guidance", "evaluation"],
          "plot": ["figure", "sampler", "guidance"],
          "doctor": ["sampler", "guidance"],
          "runs": [], "list": []}  # fmt: skip
EXPERIMENT = "a whole recipe, dataset included"
FOOTER = """\
  diffusion {command} --help GROUP=OPTION    the keys of an option
  diffusion {command} ... --cfg job          the configuration that would be used
  -m sweeps over comma-separated values, --config-dir DIR adds your own options, hydra.run.dir=DIR is where output goes"""
RUNS_FOOTER = """\
  diffusion runs sort=metrics.sliced_w2 dataset=circle age=..7d        any key or number of the runs is a filter, too
  diffusion runs compare latest DIR
  diffusion runs clean status=any age=30d.."""
WIDEST = 100


def help_of(command: str, chosen: Mapping[str, str], folders: Sequence[Path] = ()) -> str:
    """The help of a command. chosen: group -> option, whose keys are shown instead of all others."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    if chosen:
        return "\n\n".join(_option(group, name, folders, width) for group, name in chosen.items())
    parts = [f"diffusion {command}: {signature_of_command(command).title.lower()}"]
    rows = []
    for group in CHOSEN[command]:
        text = GROUPS[group].text if group in GROUPS else EXPERIMENT
        rows.append((group, f"{text}: {', '.join(names_of(group, folders))}"))
    if rows:
        parts.append("Groups, chosen as GROUP=OPTION\n\n" + _table(rows, width))
    rows = [(key, _line(argument)) for key, argument in flat_keys(command)]
    of_option = " (of an option: GROUP.KEY=VALUE)" if CHOSEN[command] else ""
    parts.append(f"Keys, set as KEY=VALUE{of_option}\n\n" + _table(rows, width))
    if CHOSEN[command]:
        parts.append(FOOTER.format(command=command))
    if command == "runs":
        parts.append(RUNS_FOOTER)
    return "\n\n".join(parts)


def _option(group: str, name: str, folders: Sequence[Path], width: int) -> str:
    choices = names_of(group, folders)
    if name not in choices:
        raise UserError(group, name, "no such option", choices)
    head = "\n".join(textwrap.wrap(f"{group}={name}: {title_of(group, name, folders)}", width))
    rows = [(key, _line(argument)) for key, argument in keys_of_option(group, name, folders)]
    return f"{head}\n\n{_table(rows, width)}" if rows else head


def flat_keys(command: str) -> list[tuple[str, Argument]]:
    """The keys of a command, those of its sections as SECTION.KEY."""
    return [
        (f"{key}.{name}" if name else key, argument)
        for key, entry in keys_of(command).items()
        for name, argument in (entry if isinstance(entry, dict) else {"": entry}).items()
    ]


def keys_of_option(group: str, name: str, folders: Sequence[Path] = ()) -> list[tuple[str, Argument]]:
    """The keys of an option, with the values that its file sets as their defaults."""
    node = node_of(group, name, folders)
    arguments = arguments_of(group, str(node.get(TARGET))) if group in GROUPS else None
    return [
        (f"{group}.{key}", argument._replace(default=node.get(key, argument.default)))
        for key, argument in (arguments or {}).items()
    ]


def _line(argument: Argument) -> str:
    """Type, default and meaning of a key."""
    allowed = kind_of(argument)
    default = "must be given" if argument.default == MISSING else f"default {shown(argument.default)}"
    return f"{argument.text} [{allowed + '; ' if allowed else ''}{default}]"


def kind_of(argument: Argument) -> str:
    """What a key may be, in words; its choices where they are few."""
    if argument.range is None:
        return ""
    if argument.range.choices:
        rest = re.sub(r"(, or )?one of the choices(, or )?", "", argument.range.text)
        return "|".join(argument.range.choices) + (f", or {rest.removeprefix(', or ')}" if rest else "")
    return argument.range.text


def _table(rows: Sequence[tuple[str, str]], width: int) -> str:
    """Names in a column, texts wrapped beside them."""
    indent = min(max((len(name) for name, _ in rows), default=0), 26) + 4
    lines, blank = [], " " * indent
    for name, text in rows:
        first = f"  {name:<{indent - 2}}"
        if len(first) > indent:
            lines.append(first)
            first = blank
        lines += textwrap.wrap(text, max(width, indent + 30), initial_indent=first, subsequent_indent=blank)
    return "\n".join(lines)
