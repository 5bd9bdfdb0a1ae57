"""Trajectories of one-dimensional samples over time, beside the distribution in which they end."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.space import Floats
from diffusion_cli.figures.style import (
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    house_style,
    literally,
    new_figure,
    set_title,
)

# Paths in colours of their own, for the eye to follow; the others are the crowd.
FOLLOWED = 5


@house_style
def trajectories_1d(
    paths: ArrayLike,
    times: ArrayLike,
    density: tuple[ArrayLike, ArrayLike] | None = None,
    density_label: str = "N(0, 1)",
    final: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Trajectories over time, with the histogram of their ends on the same axis.

    paths: (m, K + 1), one trajectory in each row.
    times: (K + 1,), rising or falling; time runs left to right.
    density: positions (G,) and probability density (G,) that the ends should follow.
    density_label: of it, in the legend.
    final: (n,) ends for the histogram when more are known than are drawn; None for paths[:, -1].
    title: above the trajectories.

    Example: `trajectories_1d(paths, range(51), density=(grid, normal_pdf))`
    """
    path, time = np.asarray(paths, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if path.ndim != 2 or path.shape[1:] != time.shape:
        raise ValueError(f"paths (m, K + 1) and times (K + 1,) do not fit: {path.shape} and {time.shape}")
    ends = path[:, -1] if final is None else np.asarray(final, dtype=np.float64).ravel()
    figure = new_figure(DOUBLE, 2.6)
    ax, side = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1), gridspec_kw={"wspace": 0.04})
    _draw_lines(ax, path, time)
    # Points that end as one are still to be seen: no bar is thinner than a hundredth of the axis.
    thinnest = np.ptp(path) / 100
    wide = max(thinnest, np.ptp(ends))
    bins = int(min(np.clip(1.5 * np.sqrt(len(ends)), 10, 60), wide / thinnest))
    span = (ends.min() + ends.max()) / 2 + np.array([-wide / 2, wide / 2])
    side.hist(
        ends, bins, range=span, density=True, orientation="horizontal", color=SKY, label=f"{len(ends):,} ends"
    )
    if density is not None:
        side.plot(density[1], density[0], color=VERMILION, label=density_label)
    side.set(xlabel="density")
    side.tick_params(labelleft=False)
    side.set_title(f"$x_t$ at $t = {time[-1]:g}$")
    handles, labels = side.get_legend_handles_labels()
    literally(figure.legend(handles=handles, labels=labels, loc="outside lower right", ncols=2))
    set_title(ax, title)
    return figure


def _draw_lines(ax: Axes, path: Floats, time: Floats) -> None:
    alpha = float(np.clip(4 / np.sqrt(len(path)), 0.1, 0.6))
    ax.plot(time, path[FOLLOWED:].T, color=GREY, lw=0.4, alpha=alpha)
    for values, color in zip(path[:FOLLOWED], (BLUE, VERMILION, GREEN, PURPLE, ORANGE), strict=False):
        ax.plot(time, values, color=color, lw=0.9)
    ax.set(xlabel="time $t$", ylabel="$x_t$", xlim=(time[0], time[-1]))


@house_style
def two_point_trajectories(
    forward: ArrayLike,
    reverse: ArrayLike,
    forward_times: ArrayLike,
    reverse_times: ArrayLike,
    points: ArrayLike = (-0.5, 0.5),
    title: str | None = None,
) -> Figure:
    """Forward trajectories (solid) and reverse ones (dashed) of two-point data over the same time axis.

    forward: (m, K + 1), at forward_times (K + 1,), which rise.
    reverse: (m', K' + 1), at reverse_times (K' + 1,), which fall.
    points: the data's positions, marked at t = 0.
    """
    figure = new_figure(DOUBLE, 2.8)
    ax = figure.subplots()
    for paths, times, style, name in (
        (forward, forward_times, "-", "forward"),
        (reverse, reverse_times, "--", "reverse"),
    ):
        path = np.asarray(paths, dtype=np.float64)
        color = BLUE if name == "forward" else VERMILION
        for i, values in enumerate(path):
            ax.plot(times, values, color=color, ls=style, lw=0.7, alpha=0.8, label=None if i else name)
    position = np.asarray(points, dtype=np.float64).ravel()
    ax.plot(np.zeros_like(position), position, "ko", ms=4, clip_on=False, zorder=5, label="data")
    ax.set(xlabel="time $t$", ylabel="$x_t$")
    ax.set_xlim(0, float(np.max(np.asarray(forward_times))))
    literally(figure.legend(loc="outside lower center", ncols=3))
    set_title(ax, title)
    return figure
