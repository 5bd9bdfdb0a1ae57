"""What a sweep found: a metric over a swept key, and samples over two of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.curves import DASHES, only_ticks, set_scale
from diffusion_cli.figures.plane import panel_axes, panel_width
from diffusion_cli.figures.style import CYCLE, GREY, SINGLE, house_style, literally, new_figure, set_title
from diffusion_cli.figures.view import View

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
# Ratio of the largest to the smallest number on an axis from which it is logarithmic.
LOG_FROM = 8.0
# Of the room of a name on an axis what its lines take, side by side.
BESIDE = 0.5
LETTER = 0.062  # inches of a letter above a panel, on average
FLOOR = (0, (1, 2))


class SeedLine(NamedTuple):
    """One value of hue, over x.

    x: numbers or names (K,).
    mean: over seeds (K,).
    std: the same; nan for a single run.
    runs: the single values at each x.
    floor: what a perfect model would have there, or nan.
    """

    x: Sequence[object]
    mean: Sequence[float]
    std: Sequence[float]
    runs: Sequence[Sequence[float]]
    floor: Sequence[float]


class Panel(NamedTuple):
    """Samples (n, *shape), the view that draws them, and the text above."""

    samples: ArrayLike
    view: View
    text: str


@house_style
def metric_lines(lines: Mapping[str, SeedLine], xlabel: str, ylabel: str, hue: str | None = None) -> Figure:
    """Mean and standard deviation over seeds against a swept key, one line for each value of `hue`; faint dots are
    the single runs, dotted lines the floor of true samples.

    Numbers lie on an axis, logarithmic where they span much; names lie side by side in the order given.
    """
    figure = new_figure(SINGLE * 1.35, 2.7)
    ax = figure.subplots()
    handles: list[Artist | Container] = []
    names = list(dict.fromkeys(x for line in lines.values() for x in line.x))
    numbers = [x for x in names if isinstance(x, (int, float)) and not isinstance(x, bool)]
    numeric = len(numbers) == len(names)
    for i, (name, line) in enumerate(lines.items()):
        # names have room for their lines side by side
        beside = 0.0 if numeric else BESIDE * ((i + 0.5) / len(lines) - 0.5)
        place = np.array([x if numeric else names.index(x) + beside for x in line.x], dtype=float)
        color, marker = CYCLE[i % len(CYCLE)], MARKERS[i % len(MARKERS)]
        std = np.nan_to_num(np.asarray(line.std, dtype=float))
        bar = ax.errorbar(place, line.mean, std, color=color, ls=DASHES[i % len(DASHES)] if numeric else "none",
                          capsize=2, elinewidth=0.8, label=name, zorder=3, marker=marker, ms=3.5)  # fmt: skip
        handles.append(bar)
        for x, values in zip(place, line.runs, strict=True):
            if len(values) > 1:
                ax.scatter([x] * len(values), values, s=5, color=color, alpha=0.35, lw=0, zorder=2)
        if np.isfinite(line.floor).any():
            ax.plot(
                place,
                line.floor,
                color=color,
                ls=FLOOR if numeric else "none",
                lw=0.8,
                zorder=1,
                marker="" if numeric else "_",
                ms=8,
            )
    if numeric:
        _number_axis(ax, numbers)
    else:
        _name_axis(ax, [str(name) for name in names])
    low = [m - s for line in lines.values() for m, s in zip(line.mean, np.nan_to_num(line.std), strict=True)]
    every = [value for line in lines.values() for values in line.runs for value in values]
    if min(low) > 0:
        set_scale(ax, every, [f for line in lines.values() for f in line.floor if np.isfinite(f) and f > 0])
    ax.set_xlabel(xlabel).set_parse_math(False)
    ax.set_ylabel(ylabel).set_parse_math(False)
    labels = [*lines]
    if any(np.isfinite(line.floor).any() for line in lines.values()):
        handles += ax.plot([], [], color=GREY, ls=FLOOR if numeric else "-", lw=0.8)
        labels.append("floor of true samples")
    if len(handles) > 1 or hue:
        longest = max(map(len, labels))
        columns = min(len(labels), 3 if longest < 14 else 2 if longest < 24 else 1)
        literally(figure.legend(handles=handles, labels=labels, title=hue, loc="outside lower center", ncols=columns,
                   title_fontsize=7))  # fmt: skip
    return figure


def _name_axis(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xticks(range(len(names)), names)
    for label in ax.get_xticklabels():
        label.set_parse_math(False)
        if sum(map(len, names)) > 32:
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.5, len(names) - 0.5)


def _number_axis(ax: Axes, numbers: Sequence[float]) -> None:
    if min(numbers) > 0 and max(numbers) >= LOG_FROM * min(numbers):
        ax.set_xscale("log")
    # Every value that was swept, and no other.
    if len(numbers) <= 8:
        only_ticks(ax.xaxis, sorted(numbers), "{x:.4g}")


def in_lines(text: str, width: float) -> str:
    """The lines of a text above a panel of this width, in inches, broken where they would run into the next one's."""
    most = int(width / LETTER)
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, most) or [""])


@house_style
def sample_grid(
    cells: Mapping[tuple[int, int], Panel], columns: Sequence[str], rows: Sequence[str]
) -> Figure:
    """Samples over two swept keys, on limits that are common to a row.

    cells: by (row, column); a missing one says that there is no run.
    columns, rows: their headings.
    """
    width = panel_width(len(rows), len(columns))
    columns = [in_lines(head, width) for head in columns]
    cells = {place: cell._replace(text=in_lines(cell.text, width)) for place, cell in cells.items()}
    texts = [cell.text for cell in cells.values()]
    lines = sum(max((text.count("\n") + 1 for text in some), default=0) for some in (columns, texts))
    figure, axes, width = panel_axes(len(rows), len(columns), title_lines=lines, titled_rows=len(rows))
    for r, row in enumerate(rows):
        shown = [cells[r, c] for c in range(len(columns)) if (r, c) in cells]
        limits = shown[0].view.limits([cell.samples for cell in shown]) if shown else None
        for c, head in enumerate(columns):
            ax, cell = axes[r, c], cells.get((r, c))
            if cell is None or limits is None:
                ax.set_axis_off()
                ax.text(0.5, 0.5, "no run", ha="center", va="center", color=GREY, transform=ax.transAxes)
            else:
                cell.view.panel(ax, cell.samples, limits, width)
                ax.tick_params(labelbottom=r == len(rows) - 1, labelleft=c == 0)
            above = ([head] if r == 0 else []) + ([cell.text] if cell is not None else [])
            set_title(ax, "\n".join(above))
            if c == 0 and row:
                ax.text(-0.06 if cell is None else -0.2, 0.5, row, rotation=90, ha="right", va="center",
                        transform=ax.transAxes).set_parse_math(False)  # fmt: skip
    return figure
