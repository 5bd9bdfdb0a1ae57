"""Panels of points: the one place that sets limits, aspect and marker size. Points on a line become histograms.

x is array-like (n, d) on the CPU. Points of space are seen from one side (figures.space); of more dimensions the first two
coordinates are drawn. A *curve* is the truth to compare with: a list of polylines (V, 2), or
a dense cloud of points (m, d).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.space import flat, from_afar
from diffusion_cli.figures.style import BAND, BLUE, DOUBLE, GREY, LIGHT, SINGLE, TRUTH, new_figure, set_title

Points = NDArray[np.float64]
Curve = ArrayLike | Sequence[ArrayLike]
Limits = tuple[float, float, float, float]  # left, right, bottom, top

BINS = 60
# Fraction of points on each side that limits leave out, and a panel counts, when they would widen it by more than FAR.
OUTLIERS, FAR = 0.002, 1.6
MARGIN = 0.06
# Strength of the colour of the farthest points of space.
PALEST = 0.25


def as_points(x: ArrayLike) -> Points:
    """Places in the picture, (n, 1) or (n, 2) float64, of any array-like (n, d) or (n,); ValueError for other shapes."""
    points = np.asarray(x, dtype=np.float64)
    points = points[:, None] if points.ndim == 1 else points
    if points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"expected points (n, d), not {points.shape}")
    return flat(points)


def as_polylines(curve: Curve | None) -> list[Points]:
    """The curve as a list of arrays: polylines, or one cloud."""
    if curve is None:
        return []
    if isinstance(curve, (list, tuple)):
        return [as_points(line) for line in curve]
    return [as_points(cast(ArrayLike, curve))]


def limits_of(
    sets: Sequence[ArrayLike], curve: Curve | None = None, reach: float = np.inf, widen: float = 1.0
) -> Limits:
    """Common limits, square in two dimensions, that hold the curve and the sets, but not a few far outliers.

    In one dimension bottom and top are nan: the height of a histogram is not known here.

    reach: with a curve, at most this many times its extent, however far the sets scatter.
    widen: factor on the whole.
    """
    boxes = [box for box in map(_box, map(as_points, sets)) if box is not None]
    true = as_polylines(curve)
    if true:
        truth = np.stack(
            [np.min([line.min(0) for line in true], 0), np.max([line.max(0) for line in true], 0)]
        )
        centre, half = truth.mean(0), reach * np.ptp(truth, axis=0).max() / 2
        boxes = [np.clip(box, centre - half, centre + half) for box in boxes] + [truth]
    if not boxes:
        raise ValueError("no finite points to draw")
    low, high = np.min([box[0] for box in boxes], 0), np.max([box[1] for box in boxes], 0)
    centre, half = (low + high) / 2, (high - low).max() * widen * (0.5 + MARGIN) or 0.5
    left, right = centre[0] - half, centre[0] + half
    return (
        (left, right, np.nan, np.nan)
        if len(centre) == 1
        else (left, right, centre[1] - half, centre[1] + half)
    )


def _box(points: Points) -> Points | None:
    """Lowest and highest coordinates (2, d) of the finite points; of most of them when a few lie far outside."""
    finite = points[np.isfinite(points).all(1)]
    if not len(finite):
        return None
    whole, most = (np.quantile(finite, [out, 1 - out], axis=0) for out in (0, OUTLIERS))
    return whole if (np.ptp(whole, axis=0) <= FAR * np.ptp(most, axis=0)).all() else most


def set_plane(ax: Axes, limits: Limits) -> None:
    """Make the axes a panel of the plane: equal aspect, the same limits everywhere, a frame on all four sides."""
    ax.set(xlim=limits[:2], ylim=limits[2:], aspect="equal")
    ax.spines[:].set_visible(True)
    ax.locator_params(nbins=4, steps=(1, 2, 5, 10))


def draw_curve(ax: Axes, curve: Curve | None) -> None:
    """The truth, in grey below everything else."""
    lines = as_polylines(curve)
    if isinstance(curve, (list, tuple)):
        # Wider than the samples on it, so that it is seen on either side of them; thin where the truth is small.
        extent = max(float(np.ptp(np.concatenate(lines), axis=0).max()), 1e-9)
        width = float(np.clip(3.2 * extent / np.ptp(ax.get_xlim()), 1.6, 3.0))
        outline = LineCollection([*lines], colors=BAND, linewidths=width, capstyle="round", zorder=1)
        ax.add_collection(outline, autolim=False)
    elif lines:
        size, alpha = marker(len(lines[0]), 2.0)
        x, y = lines[0].T
        ax.scatter(x, y, s=2 * size, c=LIGHT, alpha=max(alpha, 0.5), lw=0, zorder=1, rasterized=True)


def marker(n: int, width: float) -> tuple[float, float]:
    """Marker area (points^2) and opacity for n points in a panel `width` inches wide: crowds get small and faint."""
    crowd = np.sqrt(max(n, 1) / 1000) / width * 3
    return float(np.clip(4 / crowd, 0.5, 9)), float(np.clip(0.75 / crowd**0.5, 0.2, 0.85))


def draw_points(
    ax: Axes,
    x: ArrayLike,
    width: float,
    color: str = BLUE,
    shrink: float = 1.0,
    alpha: float | None = None,
    corner: tuple[float, float] = (0.0, 0.0),
) -> PathCollection:
    """Scatter x in a plane panel `width` inches wide.

    shrink: factor on the marker's area.
    alpha: opacity; None: less for more points.
    corner: added to the places in the picture.

    In space, farther points are paler.
    """
    places, near = from_afar(x)
    points = places + corner
    size, usual = marker(len(points), width)
    alpha = usual if alpha is None else alpha
    shade = color if near is None else [*map(tuple, faded(color, near))]
    return ax.scatter(
        points[:, 0], points[:, 1], s=size * shrink, alpha=alpha, c=shade, lw=0, zorder=2, rasterized=True
    )


def faded(color: str, near: Points) -> Points:
    """Colours (n, 3) of points: paler the farther away they are."""
    ink, paper = np.array(to_rgb(color)), np.ones(3)
    return paper + (ink - paper) * (PALEST + (1 - PALEST) * near[:, None])


def count_outside(x: ArrayLike, limits: Limits) -> int:
    """How many points (n, d) a panel with these limits does not show, those that are not finite among them."""
    points = as_points(x)
    low, high = np.array(limits)[[0, 2]], np.array(limits)[[1, 3]]
    d = points.shape[1]
    return int((~((points >= low[:d]) & (points <= high[:d])).all(1)).sum())


def note_outside(ax: Axes, x: ArrayLike, limits: Limits, size: float = 6) -> None:
    """Says below the panel how many points its limits do not show, if any."""
    lost = count_outside(x, limits)
    if lost:
        ax.set_xlabel(f"{lost:,} outside", fontsize=size, color=GREY, labelpad=1)


def draw_histogram(ax: Axes, x: ArrayLike, limits: Limits, curve: Curve | None, color: str = BLUE) -> None:
    """Probability density of points on a line, with the outline of the true ones."""
    edges = np.linspace(limits[0], limits[1], BINS + 1).tolist()
    for line in as_polylines(curve):
        ax.hist(line[:, 0], edges, density=True, histtype="step", color=TRUTH, lw=1, zorder=3, label="truth")
    ax.hist(as_points(x)[:, 0], edges, density=True, color=color, alpha=0.7, label="samples")
    ax.set(xlim=limits[:2])
    if np.isfinite(limits[3]):
        ax.set(ylim=limits[2:])
    ax.locator_params(nbins=4, steps=(1, 2, 5, 10))


def histogram_top(sets: Sequence[ArrayLike], span: tuple[float, float]) -> float:
    """The height of an axes that holds the histograms of all these points (n, 1) over `span`."""
    counts = [np.histogram(as_points(x), BINS, span)[0] for x in sets]
    return (
        1.05 * max(float(count.max() / max(count.sum(), 1)) for count in counts) * BINS / (span[1] - span[0])
    )


def draw_cloud(ax: Axes, x: ArrayLike, limits: Limits, curve: Curve | None, width: float) -> None:
    """Points of either dimension, over the truth."""
    if as_points(x).shape[1] == 1:
        draw_histogram(ax, x, limits, curve)
        return
    set_plane(ax, limits)
    draw_curve(ax, curve)
    draw_points(ax, x, width)


def panel_width(rows: int, columns: int, beside: float = 0.35) -> float:
    """Of a panel of `panel_axes`, in inches, where `beside` is the room beside all of them."""
    if rows * columns == 1:
        return SINGLE + 0.3 - beside
    return min((DOUBLE - beside) / columns, 2.3)


def panel_axes(
    rows: int,
    columns: int,
    title_lines: int = 1,
    titled_rows: int = 1,
    legend: bool = False,
    bar: bool = False,
) -> tuple[Figure, NDArray[np.object_], float]:
    """A figure of square panels that fills the width of the page, its axes (rows, columns), and a panel's width.

    A single panel takes one column of the page.

    title_lines: of text above a panel, in each of `titled_rows` rows.
    legend: whether there is room for one below.
    bar: whether there is room for a colour bar on the right.
    """
    beside = 0.35 + (0.6 if bar else 0)
    width = panel_width(rows, columns, beside)
    below = 0.25 + (0.3 if legend else 0)
    height = rows * (width + 0.04) + titled_rows * (0.08 + 0.14 * title_lines) + below
    figure = new_figure(width * columns + beside, height)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes, width


def titled_panels(
    titles: Sequence[str], wrap: int, legend: bool = False, bar: bool = False, ylabel: str = ""
) -> tuple[Figure, list[Axes], float]:
    """`panel_axes` for titled panels, at most `wrap` in a row and evenly filled. ylabel: of the first of each row."""
    rows = -(-len(titles) // wrap)
    columns = -(-len(titles) // rows)
    lines = max(bool(title) + title.count("\n") for title in titles)
    figure, grid, width = panel_axes(rows, columns, lines, rows, legend, bar)
    axes = list(grid.ravel())
    for ax in axes[len(titles) :]:
        ax.remove()
    for i, (ax, title) in enumerate(zip(axes, titles, strict=False)):
        set_title(ax, title)
        ax.tick_params(labelbottom=i + columns >= len(titles), labelleft=i % columns == 0)
        ax.set_ylabel("" if i % columns else ylabel)
    return figure, axes[: len(titles)], width
