"""The star behind a set of points: number of arms, ratio, radius and rotation of the best-fitting outline."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.dataset.star_family import StarFamily
from diffusion_cli.metrics.catalogue import STARS, Metric, arms
from diffusion_cli.metrics.sets import Sets, as_sets

COARSE = (5, 5, 12)  # grid of ratio, radius and rotation on which the fit begins, for each number of arms
COARSE_POINTS = 128  # of each set, until the last halvings
STARTS = 2  # best cells of the grid that are refined
HALVINGS = 9  # of the step, until it is 1/512 of a cell
LAST = 4  # of which are done once more with all points
NEIGHBOURS = np.stack(np.meshgrid(*[(-1.0, 0.0, 1.0)] * 3, indexing="ij"), -1).reshape(-1, 3)


class StarFit(NamedTuple):
    """For each of n sets: arms (int), ratio, radius, rotation in [0, 2 pi / arms), and mean distance to the outline."""

    arms: NDArray[np.int64]
    ratio: NDArray[np.float64]
    radius: NDArray[np.float64]
    rotation: NDArray[np.float64]
    distance: NDArray[np.float64]


def star_metrics(family: StarFamily) -> list[Metric]:
    """What `star_form` measures."""
    return [*STARS, *map(arms, range(family.arms[0], family.arms[1] + 1))]


def star_form(x: ArrayLike, family: StarFamily) -> dict[str, float]:
    """Distance to the best-fitting outline, and the fraction of each number of arms."""
    fit = fit_stars(x, family)
    distances = {
        "outline_mean": float(fit.distance.mean()),
        "outline_p90": float(np.quantile(fit.distance, 0.9)),
    }
    counts = range(family.arms[0], family.arms[1] + 1)
    return distances | {f"arms_{k}": float(np.mean(fit.arms == k)) for k in counts}


def outline_distance(x: Sets, arms: int, shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance (n, c) of the points of n sets (n, P, 2) to the outlines of c stars each.

    shape (n, c, 3): ratio, radius and rotation. Exact: a star is the orbit of half an edge pair under the reflections
    in its 2 x arms axes, so a point's nearest one lies in the wedge into which it is folded, [0, pi / arms], where the
    outline is the one segment from the tip (radius, 0) to the notch.
    """
    ratio, radius, rotation = np.moveaxis(shape[..., None], 2, 0)  # (n, c, 1) each
    angle = np.arctan2(x[..., 1], x[..., 0])[:, None]
    length = np.hypot(x[..., 0], x[..., 1])[:, None]
    wedge = math.pi / arms
    folded = np.abs((angle - rotation + wedge) % (2 * wedge) - wedge)
    px, py = length * np.cos(folded), length * np.sin(folded)  # (n, c, P)
    ex, ey = radius * (ratio * math.cos(wedge) - 1), radius * ratio * math.sin(wedge)  # from tip to notch
    along = np.clip(((px - radius) * ex + py * ey) / (ex**2 + ey**2), 0, 1)
    return np.hypot(px - radius - along * ex, py - along * ey).mean(-1)


def fit_stars(x: ArrayLike, family: StarFamily = StarFamily()) -> StarFit:  # noqa: B008 (an immutable tuple)
    """The star of the family nearest to each of the sets x (n, P, 2), about the origin, by mean distance.

    For each number of arms a grid over ratio, radius and rotation, and from its best cells a descent over the 27
    neighbours with a step that halves. The mean distance, unlike its square, is moved little by stray points.
    Proved by tests/test_metrics_sets.py: it finds the stars from which points were drawn.
    """
    x = as_sets(x)
    counts = range(family.arms[0], family.arms[1] + 1)
    fits = [_fit(x, arms, family) for arms in counts]
    shapes, distances = (np.stack(part) for part in zip(*fits, strict=True))  # (K, n, 3), (K, n)
    best, rows = distances.argmin(0), np.arange(len(x))
    ratio, radius, rotation = shapes[best, rows].T
    arms = best + counts[0]
    return StarFit(arms, ratio, radius, rotation % (2 * math.pi / arms), distances[best, rows])


def _fit(x: Sets, arms: int, family: StarFamily) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best shape (n, 3) and distance (n,) with so many arms."""
    low = np.array([family.ratio[0], family.radius[0], -np.inf])
    high = np.array([family.ratio[1], family.radius[1], np.inf])
    axes = [
        _cells(*family.ratio, COARSE[0]),
        _cells(*family.radius, COARSE[1]),
        _cells(0, 2 * math.pi / arms, COARSE[2]),
    ]
    step = np.array([np.diff(axis).max(initial=0) for axis in axes])
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3)
    few = x[:, :COARSE_POINTS]
    coarse = np.concatenate([outline_distance(one[None], arms, grid) for one in few])
    shape = grid[0, np.argsort(coarse, 1)[:, :STARTS]]  # (n, STARTS, 3)
    for halving in range(1, HALVINGS + 1):
        shape, distance = _better(few, arms, shape, step / 2**halving, low, high)
    best = distance.argmin(1)[:, None, None]
    shape = np.take_along_axis(shape, best, 1)
    for halving in range(HALVINGS - LAST + 1, HALVINGS + 1):
        shape, distance = _better(x, arms, shape, step / 2**halving, low, high)
    return shape[:, 0], distance[:, 0]


def _better(
    x: Sets, arms: int, shape: NDArray[np.float64], step: NDArray[np.float64], *bounds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best of each shape (n, s, 3) and its neighbours a step away, within the bounds, and its distance (n, s)."""
    tried = np.clip(shape[:, :, None] + NEIGHBOURS * step, *bounds)
    distance = outline_distance(x, arms, tried.reshape(len(x), -1, 3)).reshape(tried.shape[:3])
    best = distance.argmin(2)[..., None]
    return np.take_along_axis(tried, best[..., None], 2)[:, :, 0], np.take_along_axis(distance, best, 2)[
        ..., 0
    ]


def _cells(low: float, high: float, count: int) -> NDArray[np.float64]:
    """Centres of `count` equal cells of [low, high]."""
    return low + (high - low) * (np.arange(count) + 0.5) / count
