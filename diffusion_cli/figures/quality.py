"""Quality against cost: curves of samplers over network calls, and tables of numbers in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.curves import only_ticks, set_scale
from diffusion_cli.figures.style import (
    CYCLE,
    DENSITY,
    GREY,
    INK,
    SINGLE,
    house_style,
    literally,
    new_figure,
    set_title,
)

# The second sign beside colour.
MARKERS = ("o", "s", "^", "D", "v", "P")


class CallsLine(NamedTuple):
    """Network calls (K,) and the metric of the samples (K,)."""

    calls: Sequence[float]
    values: Sequence[float]


@house_style
def over_calls(
    lines: Mapping[str, CallsLine],
    best: Mapping[str, CallsLine],
    ylabel: str,
    floor: bool,
    title: str | None = None,
) -> Figure:
    """Each named sampler's values over network calls. Both axes are logarithmic where that helps.

    best: what each does with the exact score, drawn thin and dashed.
    floor: whether 1 is the value of true samples, drawn as a line.
    """
    figure = new_figure(SINGLE * 1.35, 2.9)
    ax = figure.subplots()
    names = list(dict.fromkeys([*lines, *best]))
    for i, name in enumerate(names):
        color, marker = CYCLE[i % len(CYCLE)], MARKERS[i % len(MARKERS)]
        if name in lines:
            ax.plot(*lines[name], color=color, marker=marker, ms=3.5, label=name)
        if name in best:
            only = None if name in lines else name
            ax.plot(*best[name], color=color, marker=marker, ms=2.5, mfc="white", lw=0.8, ls="--", label=only)
    if floor:
        ax.axhline(1, color=GREY, lw=0.8, zorder=0)
    every = [np.asarray(line.values, dtype=np.float64) for line in (*lines.values(), *best.values())]
    ax.set_xscale("log")
    ticks = sorted({int(c) for line in (*lines.values(), *best.values()) for c in np.ravel(line.calls)})
    far = [t for k, t in enumerate(ticks) if k == 0 or all(t >= 1.25 * u for u in ticks[:k][-1:])]
    only_ticks(ax.xaxis, far, "{x:g}")
    set_scale(ax, *every)
    ax.set(xlabel="network calls for a sample", ylabel=ylabel)
    if lines and best:
        ax.plot([], [], color=INK, lw=0.8, ls="--", label="exact score")
    if floor:
        ax.plot([], [], color=GREY, lw=0.8, label="true samples")
    literally(figure.legend(loc="outside lower center", ncols=3))
    set_title(ax, title)
    return figure


class NumberTable(NamedTuple):
    """Numbers (R, C), nan for an empty cell; their standard errors or nan; the (row, column) that is clearly the best."""

    values: ArrayLike
    errors: ArrayLike
    best: tuple[int, int] | None = None


@house_style
def number_tables(
    rows: Sequence[str], columns: Sequence[str], tables: Mapping[str, NumberTable], groups: Sequence[str]
) -> Figure:
    """Named tables of numbers, one below the other. A cell is darker where its number is larger, on a logarithmic
    scale; the best is in bold, and nan is an empty cell.

    groups: a heading for each column, common to neighbours.
    """
    figure = new_figure(1.0 + 0.78 * len(columns), 0.25 + len(tables) * (0.55 + 0.34 * len(rows)))
    axes = figure.subplots(len(tables), 1, squeeze=False)[:, 0]
    for k, (ax, (name, table)) in enumerate(zip(axes, tables.items(), strict=True)):
        values = np.asarray(table.values, dtype=np.float64)
        if values.shape != (len(rows), len(columns)) or not np.isfinite(values).any():
            raise ValueError(f"{values.shape} numbers do not fit {len(rows)} rows and {len(columns)} columns")
        _number_table(ax, values, np.asarray(table.errors, dtype=np.float64), table.best)
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), rows)
        for tick in (*ax.get_xticklabels(), *ax.get_yticklabels()):
            tick.set_parse_math(False)
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.set_xlabel(name).set_parse_math(False)
        for edge in range(1, len(columns)):
            ax.axvline(edge - 0.5, color="white", lw=4 if groups[edge] != groups[edge - 1] else 1)
        for name_of in dict.fromkeys(groups) if k == 0 else ():
            inside = [c for c, group in enumerate(groups) if group == name_of]
            at = (float(np.mean(inside)), 1.0)
            ax.annotate(name_of, at, (0, 17), xycoords=("data", "axes fraction"), textcoords="offset points",
                        ha="center", weight="bold", parse_math=False)  # fmt: skip
    return figure


def _number_table(
    ax: Axes, table: NDArray[np.float64], errors: NDArray[np.float64], best: tuple[int, int] | None
) -> None:
    positive = table[np.isfinite(table) & (table > 0)]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    norm = LogNorm(low, max(high, 3 * low), clip=True)
    ax.imshow(np.where(table > 0, table, np.where(np.isnan(table), np.nan, low)), aspect="auto", norm=norm,
              cmap=DENSITY.with_extremes(bad="#f4f4f4"))  # fmt: skip
    for (r, c), value in np.ndenumerate(table):
        if np.isfinite(value):
            color = "white" if norm(value) > 0.6 else INK
            weight = "bold" if (r, c) == best else "normal"
            text = short(value) + (f"\n± {short(float(errors[r, c]))}" if np.isfinite(errors[r, c]) else "")
            ax.text(
                c, r, text, ha="center", va="center", color=color, weight=weight, fontsize=6, linespacing=1.1
            )
    for edge in range(1, len(table)):
        ax.axhline(edge - 0.5, color="white", lw=1)
    ax.spines[:].set_visible(False)


def short(value: float) -> str:
    """Two or three digits."""
    if value and not 1e-4 <= abs(value) < 1000:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"
