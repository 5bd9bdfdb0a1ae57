"""Results of many runs as tables: on the terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from diffusion_cli.errors import shown
from diffusion_cli.runs.atomic import replacing
from diffusion_cli.runs.comparison import Cell, group, metrics, varied
from diffusion_cli.runs.directory import FINISHED
from diffusion_cli.runs.ranking import leaders
from diffusion_cli.runs.results import Result

SHOWN = 3  # metrics on the terminal


def terminal(results: Sequence[Result]) -> str:
    """A line for each job: its keys, its status, and what came of it; below, what failed and why."""
    keys = [*varied(results), "seed"] if len(results) > 1 else list(results[0].said if results else ())
    names = [name for name in metrics(results) if name != "loss"][:SHOWN]
    head = ["job", *keys, "status", "steps", "loss", *(name.removeprefix("metrics.") for name in names)]
    rows = [
        [
            result.name,
            *(shown(result.keys.get(key)) for key in keys),
            result.status or "not begun",
            *(number_text(result.numbers.get(name)) for name in ("steps", "loss", *names)),
        ]
        for result in results
    ]
    return "\n".join([columns(head, rows), *failures(results, keys)])


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (map(str.ljust, row, widths) for row in (head, *rows))
    return "\n".join("  ".join(line).rstrip() for line in lines)


def failures(results: Sequence[Result], keys: Sequence[str]) -> list[str]:
    """A line for each run that has not finished, with its values of these keys."""
    return [
        f"job {result.name} ({', '.join(f'{key}={shown(result.keys.get(key))}' for key in keys)}): "
        + (result.error or result.status or "not begun")
        for result in results
        if result.status != FINISHED
    ]


def write_tables(results: Sequence[Result], folder: Path, name: str) -> None:
    """`name`.csv with every metric's mean and standard deviation over the seeds, `name`.md to be read."""
    keys = varied(results)
    cells, names = group(results, keys), metrics(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, "runs", *(column for name in names for column in (name, f"{name} std"))])
    for cell in cells:
        numbers = [value for name in names for value in (cell.mean(name), cell.std(name))]
        texts = ("" if number is None else f"{number:.9g}" for number in numbers)
        writer.writerow([*map(shown, cell.values), len(cell.results), *texts])
    for suffix, content in ((".csv", text.getvalue()), (".md", _markdown(results, keys, cells, names))):
        with replacing(folder / f"{name}{suffix}") as part:
            part.write_text(content)


def _markdown(
    results: Sequence[Result], keys: Sequence[str], cells: Sequence[Cell], names: Sequence[str]
) -> str:
    best = {name: leaders(cells, name) for name in names}
    head = [*keys, "runs", *(name.removeprefix("metrics.") for name in names)]
    rows = [
        [
            *map(shown, cell.values),
            str(len(cell.results)),
            *(f"**{cell.text(name)}**" if i in best[name] else cell.text(name) for name in names),
        ]
        for i, cell in enumerate(cells)
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    note = "Mean and sample standard deviation over the runs of each row; in bold the best mean"
    note += " for each dataset" if "dataset" in keys else ""
    note += ", where it is better than every other by more than twice the error of the difference."
    failed = failures(results, [*varied(results), "seed"])
    missing = ["", "Not in the table:", "", *(f"- {line}" for line in failed)] if failed else []
    return "\n".join([*lines, "", note, *missing]) + "\n"


def number_text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
