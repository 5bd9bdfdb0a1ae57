"""How far generated sets of points are from held-out ones: the metrics of PointFlow (Yang et al. 2019), in the plane or in space.

Each compares n generated sets X with n reference sets Y under a distance D between sets (section 5.1 there):

    MMD    mean over Y of min over X of D                    quality: small is good
    COV    fraction of Y that is the nearest reference of some X   diversity: large is good
    1-NNA  leave-one-out accuracy of telling X from Y by the nearest other set: 1/2 is perfect, 1 is worst
    JSD    Jensen-Shannon divergence, in bits, of the points of all X and of all Y on a grid; blind to single sets

Proved by tests/test_metrics_sets.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.metrics.progress import ProgressBar
from diffusion_cli.noise import Stream, mix

Sets = NDArray[np.float64]  # (n, P, d), d = 2 or 3
Matrix = NDArray[np.float64]  # (n, m)
Histogram = NDArray[np.float64]

GRID = 28  # cells on a side, as PointFlow's


def as_sets(x: ArrayLike) -> Sets:
    """(n, P, d) float64, contiguous; ValueError for another shape, for empty sets and for values not finite."""
    sets = np.ascontiguousarray(x, dtype=np.float64)
    if sets.ndim != 3 or sets.shape[2] not in (2, 3) or not sets.size:
        raise ValueError(f"expected sets of points (n, P, 2) or (n, P, 3), not {sets.shape}")
    if not np.isfinite(sets).all():
        raise ValueError(f"{int((~np.isfinite(sets)).any((1, 2)).sum())} of {len(sets)} sets are not finite")
    return sets


def chamfer(a: ArrayLike, b: ArrayLike | None = None, bar: ProgressBar | None = None) -> Matrix:
    """Chamfer distances (n, m) between the sets a (n, P, d) and b (m, Q, d), exact; b None: among a.

    PointFlow's convention: mean over x of min_y |x - y|^2 plus mean over y of min_x |x - y|^2, squared distances.

    bar: counts the pairs that are done, n m or n (n - 1) / 2 in the end.
    """
    a = as_sets(a)
    if b is None:
        one_way = _nearest(a, a, bar, (len(a) - 1) / 2)
        return one_way + one_way.T
    b = as_sets(b)
    return _nearest(a, b, bar, len(b) / 2) + _nearest(b, a, bar, len(a) / 2).T


def _nearest(a: Sets, b: Sets, bar: ProgressBar | None, pairs: float) -> Matrix:
    """(n, m): mean over the points of b_j of the squared distance to the nearest point of a_i."""
    # Here: half a second, which training should not wait for.
    from scipy.spatial import cKDTree

    flat = b.reshape(-1, b.shape[2])
    result = np.empty((len(a), len(b)))
    for row, points in zip(result, a, strict=True):
        distance, _ = cKDTree(points).query(flat)
        row[:] = np.square(distance).reshape(len(b), -1).mean(1)
        if bar is not None:
            bar.update(pairs)
    return result


def earth_mover(a: ArrayLike, b: ArrayLike | None = None, bar: ProgressBar | None = None) -> Matrix:
    """Earth mover's distances (n, m) between sets of equally many points, exact; b None: among a.

    min over one-to-one assignments f of the mean over x of |x - f(x)| (Rubner et al. 2000), by linear assignment:
    cubic in P, some 1.2 ms a pair for 128 points and 40 ms for 512. ValueError for sets of unequal size.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    a, among = as_sets(a), b is None
    b = a if b is None else as_sets(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"sets of {a.shape[1]} and of {b.shape[1]} points have no one-to-one assignment")
    result = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        for j in range(i + 1 if among else 0, len(b)):
            cost = cdist(a[i], b[j])
            result[i, j] = cost[linear_sum_assignment(cost)].mean()
        if bar is not None:
            bar.update(len(b) - (i + 1 if among else 0))
    return result + result.T if among else result


def scores(between: Matrix, within_x: Matrix, within_y: Matrix) -> dict[str, float]:
    """mmd, coverage and one_nn from distances X-Y (n, m), X-X (n, n) and Y-Y (m, m).

    Of several nearest sets the first counts; in 1-NNA X stand before Y.
    """
    n, m = between.shape
    joint = np.block([[within_x, between], [between.T, within_y]])
    # Leave one out.
    np.fill_diagonal(joint, np.inf)
    nearest_is_x = joint.argmin(1) < n
    return {
        "mmd": float(between.min(0).mean()),
        "coverage": len(np.unique(between.argmin(1))) / m,
        "one_nn": float(np.mean(nearest_is_x == (np.arange(n + m) < n))),
    }


def jensen_shannon(x: ArrayLike, y: ArrayLike, cells: int = GRID) -> float:
    """Jensen-Shannon divergence in bits between all points of x and all of y, on cells^d cubes over the extent of y.

    Points outside are counted in the nearest cube at the border.
    """
    x, y = (np.concatenate(as_sets(sets)) for sets in (x, y))
    low, side = y.min(0), np.ptp(y, axis=0).max() or 1.0
    p, q = (_histogram((points - low) / side, cells) for points in (x, y))
    middle = (p + q) / 2
    return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def _histogram(unit: Matrix, cells: int) -> Histogram:
    place = np.clip((unit * cells).astype(np.int64), 0, cells - 1) @ cells ** np.arange(unit.shape[1])
    return np.bincount(place, minlength=cells ** unit.shape[1]) / len(unit)


def _relative_entropy(p: Histogram, q: Histogram) -> float:
    held = p > 0
    return float(np.sum(p[held] * np.log2(p[held] / q[held])))


def subset(sets: ArrayLike, points: int, seed: int) -> Sets:
    """The same `points` random places of all sets (n, P, d); whole sets where P is no larger."""
    sets = as_sets(sets)
    if sets.shape[1] <= points:
        return sets
    return sets[:, np.random.default_rng(mix(seed, Stream.SUBSETS)).permutation(sets.shape[1])[:points]]
