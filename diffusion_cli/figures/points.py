"""Views of points: samples share a panel, a histogram on a line or a scatter plot, over the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.line import trajectories_1d
from diffusion_cli.figures.pairs import pairs
from diffusion_cli.figures.paths import trajectories_2d
from diffusion_cli.figures.plane import (
    Curve,
    Limits,
    as_points,
    as_polylines,
    count_outside,
    draw_cloud,
    histogram_top,
    limits_of,
    note_outside,
    titled_panels,
)
from diffusion_cli.figures.space import Floats, flat
from diffusion_cli.figures.style import (
    BAND,
    BLUE,
    GREY,
    LIGHT,
    SINGLE,
    VERMILION,
    house_style,
    literally,
    new_figure,
    set_title,
)
from diffusion_cli.figures.view import Names, States, View

# Samples are shown out to this many times the extent of the truth.
VIEW = 1.4
# Panels in a row, at most.
WRAP = 6
# Positions at which the density on a line is drawn.
POSITIONS = 400


class PointView(View):
    """Points, whatever the number of their coordinates.

    truth: the curve that the points lie on, as polylines (V, 2) or a dense cloud (m, d); None where it is not known.
    """

    panels = False

    def __init__(self, truth: Curve | None = None) -> None:
        self.truth = truth

    def grid(self, x: ArrayLike, names: Names = None, columns: int = 8, title: str | None = None) -> Figure:
        return scatter(x, self.truth, title)

    def strip(self, states: Sequence[ArrayLike], titles: Sequence[str], wide: bool = False) -> Figure:
        return wrapped(states, titles, self.truth, self.limits(states, wide))

    def compare(self, samples: Mapping[str, ArrayLike], names: Names = None, wide: bool = False) -> Figure:
        return self.strip(list(samples.values()), list(samples), wide)

    def limits(self, states: Sequence[ArrayLike], wide: bool = False) -> Limits:
        if wide:
            return limits_of(states, self.truth)
        return limits_of([] if self.truth is not None else [states[-1]], self.truth, widen=VIEW)

    def panel(self, ax: Axes, x: ArrayLike, limits: Limits, width: float) -> None:
        draw_cloud(ax, x, limits, self.truth, width)


class PlaneView(PointView):
    """Points in the plane."""

    followed = 4

    def paths(self, states: States, followed: int | None = None, columns: int = 10) -> Figure:
        return trajectories_2d(
            flat(states.x[:, : followed or self.followed]), states.x[-1], states.times, self.truth
        )


class SpaceView(PlaneView):
    """Points of three coordinates or more, the truth as a cloud.

    In one panel beside others they are seen from one side, or, of more than three coordinates, by the first two.
    """

    def grid(self, x: ArrayLike, names: Names = None, columns: int = 8, title: str | None = None) -> Figure:
        return pairs(x, cast(ArrayLike | None, self.truth), title)


class LineView(PointView):
    """Points on a line.

    density: the probability density of the data at given positions; None where they have none.
    """

    followed = 150

    def __init__(self, truth: Curve | None = None, density: Callable[[Floats], Floats] | None = None) -> None:
        super().__init__(truth)
        self.density = density

    def limits(self, states: Sequence[ArrayLike], wide: bool = False) -> Limits:
        left, right, _, _ = super().limits(states, wide)
        return left, right, 0.0, histogram_top([*states, *as_polylines(self.truth)], (left, right))

    def paths(self, states: States, followed: int | None = None, columns: int = 10) -> Figure:
        ends = states.x[-1, :, 0]
        reach = 0.1 * np.ptp(ends) + 1e-6
        grid = np.linspace(ends.min() - reach, ends.max() + reach, POSITIONS)
        density = None if self.density is None else (grid, self.density(grid))
        shown = states.x[:, : followed or self.followed, 0].T
        return trajectories_1d(shown, states.times, density, "data", ends)


@house_style
def scatter(x: ArrayLike, curve: Curve | None = None, title: str | None = None) -> Figure:
    """Samples x (n, d) over the true curve; d = 1 gives a histogram.

    Example: `scatter(x, curve=ring.reference(2000))`
    """
    one_line = as_points(x).shape[1] == 1
    figure = new_figure(SINGLE, 2.4 if one_line else SINGLE)
    ax = figure.subplots()
    limits = limits_of([x], curve, reach=VIEW)
    draw_cloud(ax, x, limits, curve, SINGLE)
    if one_line:
        ax.set(xlabel="$x_0$", ylabel="density")
        if as_polylines(curve):
            literally(figure.legend(loc="outside lower center", ncols=2))
    else:
        ax.set(xlabel="$x$", ylabel="$y$")
        if curve is not None:
            legend_of_truth(figure, curve)
    lost = count_outside(x, limits)
    set_title(ax, (title or f"{len(as_points(x)):,} samples") + (f", {lost:,} outside" if lost else ""))
    return figure


@house_style
def beside_nearest_points(
    x: Floats, data: Floats, rows: NDArray[np.int64], copy: NDArray[np.bool_]
) -> Figure:
    """Samples x (n, 2), each joined by a line to its nearest of the training points data (N, 2).

    rows: (n,) which of the training points that is.
    copy: (n,) which samples are copies.
    """
    figure = new_figure(SINGLE, SINGLE)
    ax = figure.subplots()
    limits = limits_of([x, data], reach=VIEW)
    ax.set(xlim=limits[:2], ylim=limits[2:], aspect="equal", xlabel="$x$", ylabel="$y$")
    ax.plot(*data.T, "o", ms=3, mfc="none", mew=0.6, color=GREY, label="training points")
    for chosen, color, name in ((~copy, BLUE, "samples"), (copy, VERMILION, "copies")):
        lines = np.stack([x[chosen], data[rows[chosen]]], 1)
        ax.add_collection(LineCollection([*lines], colors=color, linewidths=0.5))
        ax.plot(*x[chosen].T, "o", ms=1.8, mew=0, color=color, label=name)
    lost = count_outside(x, limits)
    title = f"{len(x):,} samples, {copy.sum():,} of them copies"
    set_title(ax, title + (f", {lost:,} outside" if lost else ""))
    literally(figure.legend(loc="outside lower center", ncols=3))
    return figure


def legend_of_truth(figure: Figure, curve: Curve) -> None:
    """What is the truth, a curve or a cloud, and what are samples."""
    truth = (
        Line2D([], [], color=BAND, lw=3)
        if isinstance(curve, (list, tuple))
        else Line2D([], [], color=LIGHT, marker="o", ls="")
    )
    dot = Line2D([], [], color=BLUE, marker="o", ms=2, ls="")
    literally(
        figure.legend(handles=[truth, dot], labels=["truth", "samples"], loc="outside lower center", ncols=2)
    )


@house_style
def wrapped(xs: Sequence[ArrayLike], titles: Sequence[str], curve: Curve | None, limits: Limits) -> Figure:
    """One panel for each of these sets of points (n, d), over the curve and on the same limits, in as few rows as the
    width allows, evenly filled. A panel says how many points its limits do not show.
    """
    if not len(xs) or len(titles) != len(xs):
        raise ValueError(f"{len(xs)} sets of points do not fit {len(titles)} titles")
    on_a_line = as_points(xs[0]).shape[1] == 1
    legend = on_a_line and curve is not None
    figure, axes, width = titled_panels(titles, WRAP, legend, ylabel="density" if on_a_line else "")
    for ax, x in zip(axes, xs, strict=True):
        draw_cloud(ax, x, limits, curve, width)
        note_outside(ax, x, limits)
    if legend:
        handles, labels = axes[0].get_legend_handles_labels()
        literally(figure.legend(handles=handles, labels=labels, loc="outside lower center", ncols=2))
    return figure
