"""Paths of single samples through the plane, end points side by side, and densities as images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.plane import (
    Curve,
    Limits,
    draw_curve,
    draw_points,
    limits_of,
    note_outside,
    set_plane,
    titled_panels,
)
from diffusion_cli.figures.space import Floats
from diffusion_cli.figures.style import (
    DENSITY,
    INK,
    LIGHT,
    ORANGE,
    TIME,
    VERMILION,
    house_style,
)

# Panels in a row, at most.
WRAP = 4


@house_style
def trajectories_2d(
    paths: ArrayLike | Mapping[str, ArrayLike],
    samples: ArrayLike | Mapping[str, ArrayLike] | None = None,
    times: ArrayLike | None = None,
    curve: Curve | None = None,
) -> Figure:
    """Reverse trajectories from x_T (ring) to x_0 (dot), coloured by time.

    paths: (K, m, 2), m trajectories at K times, first the noise; or a mapping title -> (K, m, 2), one panel each, such as
        the same x_T under several labels and guidance weights.
    samples: (n, 2), drawn faintly behind; or a mapping with those of each panel.
    times: (K,), falling; None for K-1, ..., 0.
    curve: as in `scatter`.

    Example: `trajectories_2d(paths, samples=x_0, times=[50, 40, 30, 20, 10, 0])`
    """
    panels = dict(paths) if isinstance(paths, Mapping) else {"": paths}
    behind = samples if isinstance(samples, Mapping) else dict.fromkeys(panels, samples)
    arrays = {title: np.asarray(path, dtype=np.float64) for title, path in panels.items()}
    for path in arrays.values():
        if path.ndim != 3 or path.shape[2] != 2:
            raise ValueError(f"paths must be (K, m, 2), not {path.shape}")
    steps = len(next(iter(arrays.values())))
    time = np.arange(steps, dtype=np.float64)[::-1] if times is None else np.asarray(times, dtype=np.float64)
    limits = limits_of([path.reshape(-1, 2) for path in arrays.values()], curve)
    figure, axes, width = titled_panels(list(arrays), WRAP, legend=True, bar=True)
    for ax, (title, path) in zip(axes, arrays.items(), strict=True):
        set_plane(ax, limits)
        draw_curve(ax, curve)
        points = behind.get(title)
        if points is not None:
            draw_points(ax, points, width, color=LIGHT, alpha=0.8)
        lines = _draw_paths(ax, path, time)
    bar = figure.colorbar(lines, ax=list(axes), label="time $t$", shrink=0.8, pad=0.02, aspect=25)
    bar.outline.set_visible(False)
    _legend_of_ends(figure, axes[0])
    return figure


def _draw_paths(ax: Axes, path: Floats, time: Floats) -> LineCollection:
    """Paths (K, m, 2) with their ends; returns the lines, to which a colour bar can be attached."""
    segments = np.stack((path[:-1], path[1:]), axis=2).reshape(-1, 2, 2)
    lines = LineCollection(
        segments.tolist(),
        cmap=TIME.reversed(),
        norm=Normalize(time.min(), time.max()),
        lw=0.7,
        alpha=0.8,
        zorder=3,
    )
    lines.set_array(np.repeat((time[:-1] + time[1:]) / 2, path.shape[1]))
    ax.add_collection(lines, autolim=False)
    ax.plot(*path[0].T, ls="", marker="o", ms=3, mfc="white", mec=INK, mew=0.6, zorder=4, label="$x_T$")
    ax.plot(
        *path[-1].T, ls="", marker="o", ms=4, mfc=VERMILION, mec="white", mew=0.5, zorder=6, label="$x_0$"
    )
    return lines


def _legend_of_ends(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


@house_style
def end_points(
    learned: Mapping[str, ArrayLike], exact: Mapping[str, ArrayLike], curve: Curve | None = None
) -> Figure:
    """Where learned and exact chains from the same noise end: one panel for each title -> (n, 2).

    A line joins the two ends of a pair; the root mean square of its length stands in the title.
    """
    if list(learned) != list(exact):
        raise ValueError(
            f"learned and exact must have the same titles, not {list(learned)} and {list(exact)}"
        )
    pairs = {title: (np.asarray(learned[title]), np.asarray(exact[title])) for title in learned}
    titles = []
    for title, (a, b) in pairs.items():
        if a.shape != b.shape:
            raise ValueError(f"{title}: {a.shape} learned and {b.shape} exact end points")
        titles.append(f"{title}\nrms distance {np.sqrt(((a - b) ** 2).sum(1).mean()):.4f}")
    # A learned chain that strays is counted, not followed.
    limits = limits_of(list(exact.values()), curve, widen=1.1)
    figure, axes, _ = titled_panels(titles, WRAP, legend=True)
    for ax, (a, b) in zip(axes, pairs.values(), strict=True):
        set_plane(ax, limits)
        draw_curve(ax, curve)
        joined = LineCollection(np.stack((a, b), 1).tolist(), colors=INK, lw=0.4, zorder=2)
        ax.add_collection(joined, autolim=False)
        ax.plot(*b.T, ls="", marker="o", ms=3, mfc="none", mec=INK, mew=0.5, zorder=3, label="exact")
        ax.plot(*a.T, ls="", marker="o", ms=1.4, mfc=VERMILION, mec="none", zorder=4, label="learned")
        note_outside(ax, a, limits)
    _legend_of_ends(figure, axes[0])
    return figure


@house_style
def density_image(
    log_density: ArrayLike | Mapping[str, ArrayLike],
    extent: Limits,
    samples: ArrayLike | None = None,
    trajectory: ArrayLike | None = None,
    reached: Sequence[int] | None = None,
    labels: tuple[str, str] = ("$x$", "$y$"),
) -> Figure:
    """Densities of the plane as images, each scaled to its own maximum.

    log_density: (H, W), row 0 at the bottom; or a mapping title -> (H, W), one panel each.
    extent: left, right, bottom, top of the image.
    samples: (n, 2), drawn on the image.
    trajectory: (K, 2), drawn in every panel.
    reached: for each panel, the index of the state in `trajectory` that belongs to it, marked there; what follows is
        drawn faintly. None marks the last.
    labels: of the axes, of a single panel.

    Example: `density_image(ring.log_prob(grid, 0.8, 0.6).view(200, 200), (-2, 2, -2, 2))`
    """
    panels = log_density if isinstance(log_density, Mapping) else {"": log_density}
    figure, axes, width = titled_panels(list(panels), WRAP, legend=trajectory is not None, bar=True)
    for k, (ax, values) in enumerate(zip(axes, panels.values(), strict=True)):
        values = np.asarray(values, dtype=np.float64)
        relative = np.exp(values - values.max())
        image = ax.imshow(relative, extent=extent, origin="lower", cmap=DENSITY, vmin=0, vmax=1)
        set_plane(ax, extent)
        if samples is not None:
            draw_points(ax, samples, width, color=INK, shrink=0.4)
        if trajectory is not None:
            path = np.asarray(trajectory, dtype=np.float64)
            _draw_walk(ax, path, len(path) - 1 if reached is None else reached[k])
    if len(panels) == 1:
        axes[0].set(xlabel=labels[0], ylabel=labels[1])
    bar = figure.colorbar(image, ax=axes, label="density / maximum", shrink=0.8, pad=0.02, aspect=25)
    bar.outline.set_linewidth(0.4)
    if trajectory is not None:
        _legend_of_ends(figure, axes[0])
    return figure


def _draw_walk(ax: Axes, path: Floats, now: int) -> None:
    ax.plot(*path[now:].T, color=ORANGE, lw=0.5, alpha=0.6, zorder=3)
    ax.plot(*path[: now + 1].T, color=VERMILION, lw=0.9, zorder=3)
    ax.plot(*path[0], ls="", marker="o", ms=4, mfc="white", mec=INK, mew=0.6, zorder=4, label="$x_T$")
    ax.plot(*path[now], ls="", marker="o", ms=4, mfc=VERMILION, mec="white", mew=0.5, zorder=5, label="$x_t$")
