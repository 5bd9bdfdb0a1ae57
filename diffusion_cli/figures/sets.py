"""The view of sets of points, in the plane or in space: a panel for each set, on common limits; and sets beside their nearest
neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.paths import trajectories_2d
from diffusion_cli.figures.plane import (
    Limits,
    as_points,
    draw_points,
    limits_of,
    note_outside,
    panel_axes,
    set_plane,
)
from diffusion_cli.figures.space import flat
from diffusion_cli.figures.style import BLUE, GREY, house_style, set_title
from diffusion_cli.figures.view import Names, States, View, each

# Generated sets are shown out to this many times the extent of true ones, and where noise is shown too, to that many.
VIEW, NOISE_VIEW = 1.05, 1.7
# Points of a set whose trajectories are drawn.
FOLLOWED = 40
# Of points (P, d) each.
Sets = Sequence[ArrayLike]


class SetView(View):
    """Sets of points in the plane, or in space, seen from one side.

    truth: (m, P, d), sets of the data, by whose extent the limits are set; None: by that of the sets shown.
    """

    panels = True
    followed = 4

    def __init__(self, truth: ArrayLike | None = None) -> None:
        self.truth = truth

    @house_style
    def grid(self, x: ArrayLike, names: Names = None, columns: int = 8, title: str | None = None) -> Figure:
        sets = each(x)
        starts = range(0, len(sets), columns)
        titles = None if names is None else [names[i : i + columns] for i in starts]
        return panels([sets[i : i + columns] for i in starts], self.limits([x]), titles=titles)

    @house_style
    def strip(self, states: Sequence[ArrayLike], titles: Sequence[str], wide: bool = False) -> Figure:
        if not len(states) or len(states) != len(titles):
            raise ValueError(f"{len(states)} columns of sets do not fit {len(titles)} titles")
        rows = [*zip(*map(each, states), strict=True)]
        below = [[""] * len(titles)] * (len(rows) - 1)
        return panels(rows, self.limits(states, wide), titles=[list(titles), *below], counted=not wide)

    @house_style
    def compare(self, samples: Mapping[str, ArrayLike], names: Names = None, wide: bool = False) -> Figure:
        rows = [each(sets) for sets in samples.values()]
        titles = None if names is None else [names, *[[""] * len(names)] * (len(rows) - 1)]
        limits = self.limits(list(samples.values()), wide)
        return panels(rows, limits, titles=titles, names=list(samples), counted=not wide)

    def paths(self, states: States, followed: int | None = None, columns: int = 10) -> Figure:
        shown = range(min(followed or self.followed, states.x.shape[1]))
        paths = {f"sample {i}": flat(states.x[:, i, :FOLLOWED]) for i in shown}
        return trajectories_2d(paths, {f"sample {i}": states.x[-1, i] for i in shown}, states.times)

    def limits(self, states: Sequence[ArrayLike], wide: bool = False) -> Limits:
        if self.truth is None:
            return limits_of([x for sets in states for x in each(sets)])
        return limits_of(each(self.truth), widen=NOISE_VIEW if wide else VIEW)

    def panel(self, ax: Axes, x: ArrayLike, limits: Limits, width: float) -> None:
        """The sets side by side, as many as make a square."""
        sets = each(x)
        side = int(np.sqrt(len(sets)))
        left, right, bottom, top = limits
        for k, points in enumerate(sets[: side * side]):
            places = as_points(points)
            inside = (places >= (left, bottom)).all(1) & (places <= (right, top)).all(1)
            corner = ((right - left) * (k % side), (bottom - top) * (k // side))
            draw_points(ax, points[inside], width / side, corner=corner)
        set_plane(ax, (left, left + side * (right - left), top - side * (top - bottom), top))
        ax.set(xticks=[], yticks=[])


@house_style
def beside_nearest(
    generated: Sets, nearest: Sequence[Sets], distances: Sequence[Sequence[float]], pairs_in_row: int = 4
) -> Figure:
    """Each generated set (P, d), blue, and to its right its nearest sets of the data, grey, with their distances.

    nearest: for each generated set the same number of sets.
    distances: as many numbers.
    pairs_in_row: generated sets in a row of the figure.
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
    truth = [x for others in nearest for x in others]
    return panels(
        [[x for x, _, _ in row] for row in rows],
        limits_of(truth, widen=VIEW),
        [[color for _, color, _ in row] for row in rows],
        [[title for _, _, title in row] for row in rows],
    )


def panels(
    rows: Sequence[Sets],
    limits: Limits,
    colors: Sequence[Sequence[str]] | None = None,
    titles: Sequence[Sequence[str]] | None = None,
    names: Sequence[str] = (),
    counted: bool = True,
) -> Figure:
    """One panel for each set; on the first one of the last row the scale, which all share.

    titles: above each panel, by row.
    names: to the left of each row.
    counted: a panel says how many points its limits do not show.
    """
    if not len(rows) or not all(map(len, rows)):
        raise ValueError("no sets to draw")
    titled = 0 if titles is None else sum(any(row) for row in titles)
    figure, axes, width = panel_axes(len(rows), max(map(len, rows)), titled_rows=titled)
    for r, row in enumerate(rows):
        for c, (ax, x) in enumerate(zip(axes[r], row, strict=False)):
            set_plane(ax, limits)
            # Seen from one side, no axis of the picture is one of the data.
            if c or r < len(rows) - 1 or np.shape(x)[-1] == 3:
                ax.set(xticks=[], yticks=[])
            draw_points(ax, x, width, color=BLUE if colors is None else colors[r][c])
            if counted:
                note_outside(ax, x, limits, size=5)
            if titles is not None:
                set_title(ax, titles[r][c])
        if names:
            axes[r, 0].set_ylabel(names[r], parse_math=False)
        for ax in axes[r, len(row) :]:
            ax.remove()
    return figure
