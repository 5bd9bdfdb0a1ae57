"""How far a set of points is from a known law: transport, energy, distance to the curve and coverage.

A distance between finite sets is never 0, not even between two draws of the same law, so a bare number says
little. `evaluate_points` therefore sets beside each one its floor, the same figure for true samples of the same
size, with the spread of both over independent draws. A ratio of 1 cannot be told from the truth.

The truth is represented by `density.reference(m)`, which is spread evenly and has no randomness of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.density import Density

PROJECTIONS = 50  # random directions of the sliced distance, the same for every draw
ENERGY_POINTS = 4_000  # energy looks at all pairs: its cost is quadratic
COVERAGE_POINTS = 2_000
COVERAGE_REFERENCE = 10_000
ROUNDING = 1e-6  # of the extent of the data: a floor below this is float32 rounding, nothing to divide by

LABELS = {
    "sliced_w2": "sliced W2",
    "energy": "energy distance",
    "coverage": "coverage",
    "distance_mean": "distance, mean",
    "distance_p99": "distance, 99 %",
}


class PointMetrics:
    """The metrics of sets of n points against one law; what depends on the law alone is computed once.

    A call takes x (n, *shape) and gives name -> value, in data units, 0 = perfect. With R_m = density.reference(m):

    * sliced_w2: sqrt of the mean over directions u (|u| = 1) of W2^2(u.x, u.R_n), by POT (Bonneel et al. 2015,
      Sliced and Radon Wasserstein Barycenters of Measures).
    * energy: sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|) between the first 4,000 points and as many of R, over all
      pairs, each point with itself included: a V-statistic, never negative; scipy.stats.energy_distance in one
      dimension (Szekely and Rizzo 2013, Energy Statistics).
    * coverage: mean distance from R_10,000 to the nearest of 2,000 points, averaged over the disjoint blocks of
      2,000 in x. It grows when a part of the law is missed, which distances to the curve cannot see.
    * distance_mean, distance_p99: mean and 99th percentile of `density.distance(x)`, the distance to the curve
      (of a jittered law: to the curve before jitter).

    A set smaller than one of these sizes is used whole. Raises ValueError when x is not (n, *shape) or not finite.

    Example: `PointMetrics(Ring(), 10_000)(x)["sliced_w2"]`. Proved in tests/test_metrics_points.py.
    """

    def __init__(self, density: Density, n: int, seed: int = 0) -> None:
        if n < 2:
            raise ValueError(f"n must be at least 2, not {n}")
        self.density = density
        self.n = n
        self.extent = density.reference(n).abs().max().item()
        d = math.prod(density.shape)
        import ot  # here: it takes more than a second, which training should not wait for

        self._wasserstein_1d = ot.wasserstein_1d
        # In one dimension all directions are the same one.
        count = 1 if d == 1 else PROJECTIONS
        self._directions = ot.sliced.get_random_projections(d, count, seed % 2**32)  # (d, count)
        self._projected = self._project(_rows(density.reference(n)))
        self._energy_reference = density.reference(min(n, ENERGY_POINTS)).flatten(1)
        self._energy_within = _mean_distance(self._energy_reference, self._energy_reference)
        self._coverage_reference = _rows(density.reference(COVERAGE_REFERENCE))

    def sizes(self) -> dict[str, int]:
        """How many points enter each metric."""
        size = dict.fromkeys(LABELS, self.n)
        return size | {"energy": min(self.n, ENERGY_POINTS), "coverage": min(self.n, COVERAGE_POINTS)}

    def __call__(self, x: Tensor) -> dict[str, float]:
        if tuple(x.shape) != (self.n, *self.density.shape):
            raise ValueError(f"expected {(self.n, *self.density.shape)} samples, not {tuple(x.shape)}")
        bad = self.n - int(x.flatten(1).isfinite().all(1).sum())
        if bad:
            raise ValueError(f"{bad} of {self.n} samples are not finite")
        x = x.detach().cpu()
        distance = self.density.distance(x).double()
        return {
            "sliced_w2": self._sliced_w2(x),
            "energy": self._energy(x),
            "coverage": self._coverage(x),
            "distance_mean": distance.mean().item(),
            "distance_p99": distance.quantile(0.99).item(),
        }

    def _project(self, rows: np.ndarray) -> np.ndarray:
        # Sorted here because POT would sort the reference anew for every set.
        return np.sort(rows @ self._directions, axis=0)

    def _sliced_w2(self, x: Tensor) -> float:
        squared = self._wasserstein_1d(self._project(_rows(x)), self._projected, p=2, require_sort=False)
        return math.sqrt(squared.mean())

    def _energy(self, x: Tensor) -> float:
        x = x.flatten(1)[:ENERGY_POINTS].float()
        across = _mean_distance(x, self._energy_reference)
        # Rounding may take the difference of two equal sets below 0.
        return math.sqrt(max(2 * across - _mean_distance(x, x) - self._energy_within, 0.0))

    def _coverage(self, x: Tensor) -> float:
        size = min(self.n, COVERAGE_POINTS)
        blocks = _rows(x)[: self.n // size * size].reshape(-1, size, self._directions.shape[0])
        from scipy.spatial import cKDTree  # here, as POT above

        return float(np.mean([cKDTree(block).query(self._coverage_reference)[0].mean() for block in blocks]))


def evaluate_points(
    draw: Callable[[int], Tensor],
    density: Density,
    n: int = 10_000,
    draws: int = 3,
    floor_draws: int = 16,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Compare samples of a model with the law they should follow, and with true samples of that law.

    Args:
        draw: draw(k) gives the k-th independent set (n, *shape) of the model's samples, k = 0..draws-1.
        density: the law.
        n: points in each set, >= 2.
        draws: sets of the model, >= 1.
        floor_draws: sets of true samples, >= 1; 16 or more for a floor to divide by.
        seed: of the true samples and of the projections; the sets of the model are the business of `draw`.

    Returns, for each metric of `PointMetrics`, a plain dict ready for JSON: `value` and `spread` (mean and
    standard deviation over the sets), `floor` and `floor_spread` (the same for true samples), `ratio` = value /
    floor, `n`, `draws`, `floor_draws`. A spread over one set is None. So is the ratio where the floor is 0 but for
    rounding, as for the distance to a curve without jitter; there the value speaks for itself.

    Example: `evaluate_points(lambda k: sample(10_000, seed=k), Ring())["sliced_w2"]["ratio"]`
    """
    if draws < 1 or floor_draws < 1:
        raise ValueError(f"draws and floor_draws must be at least 1, not {draws} and {floor_draws}")
    metrics = PointMetrics(density, n, seed)
    ours = [metrics(draw(k)) for k in range(draws)]
    generator = torch.Generator().manual_seed(seed)
    true = [metrics(density.sample(n, generator).x0) for _ in range(floor_draws)]
    report: dict[str, dict[str, Any]] = {}
    for name, size in metrics.sizes().items():
        values, floors = ([result[name] for result in results] for results in (ours, true))
        report[name] = beside_floor(values, floors, size, ROUNDING * metrics.extent)
    return report


def beside_floor(
    values: list[float], floors: list[float], n: int, rounding: float = ROUNDING
) -> dict[str, Any]:
    """A metric over several sets of n samples, and over sets of true ones: the entry that `evaluate_points` returns."""
    value, spread = _mean_and_spread(values)
    floor, floor_spread = _mean_and_spread(floors)
    return {
        "value": value,
        "spread": spread,
        "floor": floor,
        "floor_spread": floor_spread,
        "ratio": value / floor if floor > rounding else None,
        "n": n,
        "draws": len(values),
        "floor_draws": len(floors),
    }


def points_table(report: dict[str, dict[str, Any]]) -> str:
    """The report of `evaluate_points` as lines of aligned text, for a terminal of 80 columns."""
    head = ("metric", "value", "floor", "ratio", "n", "draws")
    rows = [
        (
            LABELS.get(name, name),
            _with_spread(entry["value"], entry["spread"]),
            "0" if entry["ratio"] is None else _with_spread(entry["floor"], entry["floor_spread"]),
            "" if entry["ratio"] is None else f"{entry['ratio']:.2f}",
            f"{entry['n']:,}",
            f"{entry['draws']} / {entry['floor_draws']}",
        )
        for name, entry in report.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    template = "  ".join([f"{{:<{widths[0]}}}"] + [f"{{:>{width}}}" for width in widths[1:]])
    return "\n".join(template.format(*row) for row in (head, *rows))


def _rows(x: Tensor) -> np.ndarray:
    return x.flatten(1).double().numpy()


def _mean_distance(a: Tensor, b: Tensor) -> float:
    """Mean Euclidean distance over all pairs of rows."""
    # Without the expansion |a|^2 + |b|^2 - 2ab, whose rounding is as large as the energies of good samples.
    # A hundred rows at a time stay in the cache.
    chunks = (torch.cdist(part, b, compute_mode="donot_use_mm_for_euclid_dist") for part in a.split(100))
    return sum(chunk.sum().item() for chunk in chunks) / (len(a) * len(b))


def _mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _with_spread(value: float, spread: float | None) -> str:
    return f"{value:.5f}" if spread is None else f"{value:.5f} ± {spread:.5f}"
