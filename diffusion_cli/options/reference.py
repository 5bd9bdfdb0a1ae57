"""The reference of every key as Markdown, for the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_cli.errors import shown
from diffusion_cli.options.files import names_of, title_of
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.options.help import EXPERIMENT, flat_keys, keys_of_option, kind_of
from diffusion_cli.options.keys import COMMANDS, signature_of_command
from diffusion_cli.options.signature import MISSING, Argument


def pages() -> dict[str, str]:
    """Path -> page: one for each command and one for each group."""
    found = {}
    for command in COMMANDS:
        title = signature_of_command(command).title
        found[f"reference/commands/{command}.md"] = (
            f"# diffusion {command}\n\n{title}.\n\n{table(flat_keys(command))}"
        )
    for group in [*GROUPS, "experiment"]:
        text = GROUPS[group].text if group in GROUPS else EXPERIMENT
        lines = [f"# {group}", "", f"{text[0].upper()}{text[1:]}.", ""]
        for name in names_of(group):
            rows = keys_of_option(group, name)
            lines += [f"## {group}={name}", "", f"{title_of(group, name).rstrip('.')}.", ""]
            lines += [table(rows), ""] if rows else []
        found[f"reference/{group}.md"] = "\n".join(lines)
    return found


def table(rows: Sequence[tuple[str, Argument]]) -> str:
    """Keys as the rows of a table."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, argument in rows:
        default = "must be given" if argument.default == MISSING else f"`{shown(argument.default)}`"
        cells = (f"`{key}`", kind_of(argument).replace("|", " | "), default, argument.text)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"
