"""Points of three coordinates or more: each pair of coordinates in a panel of its own, and in space the points from one side."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.plane import BINS, count_outside, draw_curve, draw_points, limits_of, set_plane
from diffusion_cli.figures.space import Floats, axes_of_view
from diffusion_cli.figures.style import BLUE, DOUBLE, GREY, INK, TRUTH, house_style, new_figure

# Coordinates that are shown, the first ones.
SHOWN = 6
# Samples are shown out to this many times the extent of the truth.
VIEW = 1.4
NAMES = ("$x$", "$y$", "$z$")


@house_style
def pairs(x: ArrayLike, truth: ArrayLike | None = None, title: str | None = None) -> Figure:
    """Samples x (n, d), d > 2, over the truth: each pair of coordinates; in space also the points from one side, else the
    histogram of each coordinate on the diagonal.

    truth: points (m, d), or None.
    """
    points = np.asarray(x, dtype=np.float64)
    true = None if truth is None else np.asarray(truth, dtype=np.float64)
    figure = new_figure(DOUBLE, DOUBLE)
    (_in_space if points.shape[1] == 3 else _corner)(figure, points, true)
    hidden = points.shape[1] - SHOWN
    rest = f", the first {SHOWN} of {points.shape[1]} coordinates" if hidden > 0 else ""
    figure.suptitle((title or f"{len(points):,} samples") + rest, parse_math=False)
    return figure


def _in_space(figure: Figure, x: Floats, truth: Floats | None) -> None:
    axes = figure.subplots(2, 2).ravel()
    _scatter(axes[0], x, truth, DOUBLE / 2)
    axes[0].set(xticks=[], yticks=[])
    _compass(axes[0])
    for ax, both in zip(axes[1:], combinations(range(3), 2), strict=True):
        _scatter(ax, x[:, both], None if truth is None else truth[:, both], DOUBLE / 2)
        ax.set(xlabel=NAMES[both[0]], ylabel=NAMES[both[1]])


def _compass(ax: Axes) -> None:
    """The directions of the axes of space, in a corner."""
    left, right, bottom, _ = (*ax.get_xlim(), *ax.get_ylim())
    length = 0.1 * (right - left)
    start = np.array([left + 1.4 * length, bottom + 1.2 * length])
    for axis, name in zip(axes_of_view()[:, :2], NAMES, strict=True):
        ax.plot(*np.stack((start, start + length * axis), 1), color=INK, lw=0.7)
        place = start + 1.4 * length * axis
        ax.text(float(place[0]), float(place[1]), name, ha="center", va="center", fontsize=7)


def _corner(figure: Figure, x: Floats, truth: Floats | None) -> None:
    d = min(x.shape[1], SHOWN)
    axes = figure.subplots(d, d)
    for row, column in np.ndindex(d, d):
        ax, both = axes[row, column], [column, row]
        if column > row:
            ax.remove()
            continue
        if column == row:
            _histogram(ax, x[:, row], None if truth is None else truth[:, row])
        else:
            _scatter(ax, x[:, both], None if truth is None else truth[:, both], DOUBLE / d)
        ax.tick_params(labelbottom=row == d - 1, labelleft=column == 0 and row > 0)
        if row == d - 1:
            ax.set_xlabel(f"$x_{{{column + 1}}}$")
        if column == 0 and row:
            ax.set_ylabel(f"$x_{{{row + 1}}}$")


def _histogram(ax: Axes, x: Floats, truth: Floats | None) -> None:
    left, right, _, _ = limits_of([x], truth, VIEW)
    edges = np.linspace(left, right, BINS + 1).tolist()
    ax.hist(x, edges, density=True, color=BLUE, alpha=0.7)
    if truth is not None:
        ax.hist(truth, edges, density=True, histtype="step", color=TRUTH, lw=1)
    ax.set(xlim=(left, right), yticks=[])
    ax.locator_params(axis="x", nbins=4, steps=(1, 2, 5, 10))


def _scatter(ax: Axes, x: Floats, truth: Floats | None, width: float) -> None:
    limits = limits_of([x], truth, VIEW)
    set_plane(ax, limits)
    draw_curve(ax, truth)
    draw_points(ax, x, width)
    lost = count_outside(x, limits)
    if lost:
        ax.set_title(f"{lost:,} outside", fontsize=6, color=GREY)
