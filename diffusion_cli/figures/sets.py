"""Pictures of whole sets of points: grids of them, each beside its nearest neighbours, over time and over training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.plane import (
    Limits,
    as_points,
    count_outside,
    draw_points,
    limits_of,
    panel_axes,
    set_plane,
)
from diffusion_cli.figures.style import BLUE, GREY, house_style, set_title

VIEW = 1.05  # generated sets are shown out to this many times the extent of true ones,
NOISE_VIEW = 1.7  # and this many times where noise is shown too
Sets = Sequence[ArrayLike]  # of points (P, 2) each


@house_style
def grid(sets: Sets, columns: int = 8, truth: Sets | None = None, title: str | None = None) -> Figure:
    """Sets (P, 2), one panel each, row by row, on common limits: those of `truth` (sets too), or else of their own.

    Example: `grid(samples[:32])`
    """
    rows = [list(sets[i : i + columns]) for i in range(0, len(sets), columns)]
    figure = panels(rows, limits(sets, truth))
    if title:
        figure.suptitle(title, fontsize=8).set_parse_math(False)
    return figure


@house_style
def beside_nearest(
    generated: Sets, nearest: Sequence[Sets], distances: Sequence[Sequence[float]], pairs_in_row: int = 4
) -> Figure:
    """Each generated set (P, 2), blue, and to its right its nearest sets of the data, grey, with their distances.

    nearest: for each generated set the same number of sets, distances: as many numbers. pairs_in_row: generated sets
    in a row of the figure.
    """
    if not len(generated) or len(generated) != len(nearest) or len(generated) != len(distances):
        raise ValueError(
            f"{len(generated)} sets, {len(nearest)} of neighbours, {len(distances)} of distances do not fit"
        )
    cells = [
        [(ours, BLUE, "generated"), *((x, GREY, f"{d:.3g}") for x, d in zip(others, row, strict=True))]
        for ours, others, row in zip(generated, nearest, distances, strict=True)
    ]
    rows = [list(chain(*cells[i : i + pairs_in_row])) for i in range(0, len(cells), pairs_in_row)]
    return panels(
        [[x for x, _, _ in row] for row in rows],
        limits(generated, [x for others in nearest for x in others]),
        [[color for _, color, _ in row] for row in rows],
        [[title for _, _, title in row] for row in rows],
    )


@house_style
def stages(rows: Sequence[Sets], steps: Sequence[int], truth: Sets | None = None) -> Figure:
    """One set in each row, at each of `steps` of training; limits as of `grid`."""
    return _strip(rows, [f"step {step:,}" for step in steps], limits([x for row in rows for x in row], truth))


@house_style
def strip(rows: Sequence[Sets], times: Sequence[float], truth: Sets | None = None) -> Figure:
    """The forward or the reverse process: one set in each row, its x_t (P, 2) at each of `times`.

    Limits are 1.7 times the extent of the true sets, so that stars are seen; noise further out is left out, uncounted.
    """
    everything = [x for row in rows for x in row]
    view = limits_of(everything) if truth is None else limits_of(truth, widen=NOISE_VIEW)
    return _strip(rows, [f"t = {time:.3g}" for time in times], view, counted=False)


def _strip(rows: Sequence[Sets], titles: Sequence[str], view: Limits, counted: bool = True) -> Figure:
    if any(len(row) != len(titles) for row in rows):
        raise ValueError(f"rows of {[len(row) for row in rows]} sets do not fit {len(titles)} titles")
    below = [[""] * len(titles)] * (len(rows) - 1)
    return panels(rows, view, titles=[list(titles), *below], counted=counted)


def limits(sets: Sets, truth: Sets | None = None) -> Limits:
    """Common limits of the sets; with true ones, VIEW times the extent of these."""
    return limits_of(sets) if truth is None else limits_of(truth, widen=VIEW)


def panels(
    rows: Sequence[Sets],
    limits: Limits,
    colors: Sequence[Sequence[str]] | None = None,
    titles: Sequence[Sequence[str]] | None = None,
    counted: bool = True,
) -> Figure:
    """One panel without ticks for each set; counted: a panel says how many points its limits do not show."""
    if not len(rows) or not all(map(len, rows)):
        raise ValueError("no sets to draw")
    titled = 0 if titles is None else sum(any(row) for row in titles)
    figure, axes, width = panel_axes(len(rows), max(map(len, rows)), titled_rows=titled)
    for r, row in enumerate(rows):
        for c, (ax, x) in enumerate(zip(axes[r], row, strict=False)):
            points = as_points(x)
            set_plane(ax, limits)
            ax.set(xticks=[], yticks=[])
            draw_points(ax, points, width, color=BLUE if colors is None else colors[r][c])
            lost = count_outside(points, limits) if counted else 0
            if lost:
                ax.set_xlabel(f"{lost:,} outside", fontsize=5, color=GREY, labelpad=1)
            if titles is not None:
                set_title(ax, titles[r][c])
        for ax in axes[r, len(row) :]:
            ax.remove()
    return figure
