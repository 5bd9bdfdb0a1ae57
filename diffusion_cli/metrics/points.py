"""How far a set of points is from a known distribution: transport, energy, distance to the curve and coverage.

A distance between finite sets is never 0, not even between two draws of the same distribution, so a bare number says
little. `evaluate_points` therefore sets beside each one its floor, the same figure for true samples of the same
size, with the spread of both over independent draws. A ratio of 1 cannot be distinguished from the truth.

The truth is represented by `density.reference(m)`, which is spread evenly and has no randomness of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density
from diffusion_cli.metrics.catalogue import DISTANCES, OUTSIDE, POINTS, Metric
from diffusion_cli.metrics.floors import kept
from diffusion_cli.metrics.measurement import Measurement, Report, beside_floor, table_of
from diffusion_cli.metrics.progress import NoBar, Progress, ProgressBar, silent
from diffusion_cli.metrics.protocol import Each, one_by_one
from diffusion_cli.noise import Stream, generator, mix

Rows = npt.NDArray[np.float64]

VERSION = 3  # of what is computed here: with another one no floor is taken from the cache
PROJECTIONS = 50  # random directions of the sliced distance, the same for every draw
ENERGY_POINTS = 4_000  # energy looks at all pairs: its cost is quadratic
COVERAGE_POINTS = 2_000
COVERAGE_REFERENCE = 10_000
ROUNDING = 1e-6  # of the extent of the data: a floor below this is float32 rounding, nothing to divide by
CHUNK = 100  # rows of a matrix of distances at a time: they stay in the cache


class PointMetrics:
    """The metrics of sets of n points against one distribution; what depends on that alone is computed once.

    A call takes x (n, *shape) and gives name -> value, in data units, 0 = perfect. With R_m = density.reference(m):

    * sliced_w2: sqrt of the mean over directions u (|u| = 1) of W2^2(u.x, u.R_n) (Bonneel et al. 2015, Sliced and Radon
      Wasserstein Barycenters of Measures). On a line the i-th smallest point goes to the i-th smallest one.
    * outliers: fraction of x outside of `box` (`density.box()` if None) by more than a tenth of its longest side
      (`dataset.box.Box`).
    * energy: sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|) between the first 4,000 points and as many of R, over all
      pairs, each point with itself included: a V-statistic, never negative; scipy.stats.energy_distance in one
      dimension (Szekely and Rizzo 2013, Energy Statistics).
    * coverage: mean distance from R_10,000 to the nearest of 2,000 points, averaged over the disjoint blocks of
      2,000 in x. It grows when a part of the distribution is missed, which distances to the curve cannot see.
    * distance_mean, distance_p99: mean and 99th percentile of `density.distance(x)`, the distance to the curve
      (of a jittered distribution: to the curve before jitter, where the value of true samples is the best one).
    * outside: of solids, such as the squares of a checkerboard, the fraction of x that lies in none of them.

    A set smaller than one of these sizes is used whole. Raises ValueError when x is not (n, *shape) or not finite.

    Example: `PointMetrics(Ring(), 10_000)(x)["sliced_w2"]`. Proved in tests/test_metrics_points.py.
    """

    def __init__(self, density: Density, n: int, seed: int = 0, box: Box | None = None) -> None:
        if n < 2:
            raise ValueError(f"n must be at least 2, not {n}")
        self.density = density
        self.n = n
        self.reference = density.reference(n)
        self.metrics = metrics_of(density)
        self.box = box or density.box()
        self.extent = self.reference.abs().max().item()
        d = math.prod(density.shape)
        # In one dimension all directions are the same one.
        self.directions = random_directions(d, 1 if d == 1 else PROJECTIONS, mix(seed, Stream.PROJECTIONS))
        self._projected = self._project(self.reference)
        self._energy_reference = density.reference(min(n, ENERGY_POINTS)).flatten(1)
        self._energy_within = mean_distance_within(self._energy_reference)
        self._coverage_reference = _rows(density.reference(COVERAGE_REFERENCE))

    def sizes(self) -> dict[str, int]:
        """How many points enter each metric."""
        fewer = {"energy": min(self.n, ENERGY_POINTS), "coverage": min(self.n, COVERAGE_POINTS)}
        return {metric.name: fewer.get(metric.name, self.n) for metric in self.metrics}

    def __call__(self, x: Tensor) -> dict[str, float]:
        if tuple(x.shape) != (self.n, *self.density.shape):
            raise ValueError(f"expected {(self.n, *self.density.shape)} samples, not {tuple(x.shape)}")
        bad = self.n - int(x.flatten(1).isfinite().all(1).sum())
        if bad:
            raise ValueError(f"{bad} of {self.n} samples are not finite")
        x = x.detach().cpu()
        distance = self.density.distance(x).double()
        found = {
            "sliced_w2": self._sliced_w2(x),
            "outliers": self.box.outliers(x),
            "energy": self._energy(x),
            "coverage": self._coverage(x),
            "distance_mean": distance.mean().item(),
            "distance_p99": distance.quantile(0.99).item(),
            "outside": float((distance > ROUNDING * self.extent).double().mean()),
        }
        return {metric.name: found[metric.name] for metric in self.metrics}

    def _project(self, x: Tensor) -> Rows:
        """The projections (directions, n), each sorted. Rows in one piece are sorted 30 times faster than columns."""
        return np.sort(self.directions @ _rows(x).T, axis=1)

    def _sliced_w2(self, x: Tensor) -> float:
        # The root of the mean square over directions and points.
        return float(np.linalg.norm(self._project(x) - self._projected)) / math.sqrt(self._projected.size)

    def _energy(self, x: Tensor) -> float:
        x = x.flatten(1)[:ENERGY_POINTS].float()
        across = mean_distance(x, self._energy_reference)
        # Rounding may take the difference of two equal sets below 0.
        return math.sqrt(max(2 * across - mean_distance_within(x) - self._energy_within, 0.0))

    def _coverage(self, x: Tensor) -> float:
        # Here: half a second, which training should not wait for.
        from scipy.spatial import cKDTree

        size = min(self.n, COVERAGE_POINTS)
        blocks = _rows(x)[: self.n // size * size].reshape(-1, size, self.directions.shape[1])
        return float(np.mean([cKDTree(block).query(self._coverage_reference)[0].mean() for block in blocks]))


def evaluate_points(
    draw: Callable[[int], Tensor],
    density: Density,
    n: int = 10_000,
    draws: int = 3,
    floor_draws: int = 16,
    seed: int = 0,
    trained: Density | None = None,
    progress: Progress = silent,
    each: Each = one_by_one,
) -> dict[str, Measurement]:
    """Compare samples of a model with the distribution they should follow, and with true samples of it.

    draw: draw(k) gives the k-th independent set (n, *shape) of the model's samples, k = 0..draws-1.
    density: the distribution.
    n: points in each set, >= 2.
    draws: sets of the model, >= 1.
    floor_draws: sets of true samples, >= 1; 16 or more for a floor to divide by. They are measured once: see
        `metrics.floors`.
    trained: of points, of which `density` is that of those held out: the density of those trained on, which the floor is of.
    seed: of the true samples and of the projections; the sets of the model are the business of `draw`.
    progress: a bar over the true sets.
    each: measures sets, in this process or in several, each set in one of them.

    Returns a `Measurement` for each metric of `PointMetrics`. There is no ratio where the floor is 0 but for rounding,
    as for the distance to a curve without jitter; there the value speaks for itself.

    Example: `evaluate_points(lambda k: sample(10_000, seed=k), Ring())["sliced_w2"]["ratio"]`
    """
    if draws < 1 or floor_draws < 1:
        raise ValueError(f"draws and floor_draws must be at least 1, not {draws} and {floor_draws}")
    real = trained or density
    metrics = PointMetrics(density, n, seed, real.box())
    measure = partial(_measured, metrics)
    ours = each(measure, [draw(k) for k in range(draws)], NoBar())
    g = generator(seed, Stream.TRUE_SAMPLES)
    true = [real.sample(n, g) for _ in range(floor_draws)]
    # What the metrics read of the density, beside the seed of their directions.
    read = {"reference": metrics.reference, "distance": density.distance(true[0].x0),
            "low": metrics.box.low, "high": metrics.box.high}  # fmt: skip
    about = {"of": "points", "version": VERSION, "seed": seed, **read}
    floors = kept(about, true, lambda bar: each(measure, [batch.x0 for batch in true], bar), progress)
    sizes, rounding = metrics.sizes(), ROUNDING * metrics.extent
    report = {}
    for metric in metrics.metrics:
        values, floor = ([result[metric.name] for result in results] for results in (ours, floors))
        report[metric.name] = beside_floor(metric, values, floor, sizes[metric.name], rounding)
    return report


def metrics_of(density: Density) -> tuple[Metric, ...]:
    """The metrics of points. With jitter true points lie beside the curve: samples that are nearer to it are no better."""
    metrics = (*POINTS, OUTSIDE) if density.solid else POINTS
    if not density.jitter:
        return metrics
    return tuple(replace(metric, better="floor") if metric in DISTANCES else metric for metric in metrics)


def _measured(metrics: PointMetrics, here: object, x: Tensor, bar: ProgressBar) -> dict[str, float]:
    """The work of measuring one set."""
    bar.update()
    return metrics(x)


def points_table(report: Report) -> str:
    """The report of `evaluate_points` as lines of aligned text, for a terminal of 80 columns."""
    return table_of(
        report,
        digits=5,
        n=lambda entry: f"{entry['n']:,}",
        draws=lambda entry: f"{entry['draws']} / {entry['floor_draws']}",
    )


def random_directions(d: int, count: int, seed: int) -> Rows:
    """Unit vectors (count, d), uniform on the sphere."""
    # NumPy's older generator, whose numbers are POT's (ot.sliced.get_random_projections).
    normal = np.random.RandomState(seed % 2**32).normal(size=(d, count))
    return np.ascontiguousarray((normal / np.linalg.norm(normal, axis=0)).T)


def mean_distance(a: Tensor, b: Tensor) -> float:
    """Mean Euclidean distance over all pairs of rows of a (n, d) and b (m, d)."""
    a, b = a.T.contiguous(), b.T.contiguous()
    total = sum(_sum(_distances(part, b)) for part in a.split(CHUNK, dim=1))
    return total / (a.shape[1] * b.shape[1])


def mean_distance_within(a: Tensor) -> float:
    """mean_distance(a, a) from half of the pairs: each pair of two chunks counts twice."""
    a = a.T.contiguous()
    total, n = 0.0, a.shape[1]
    for start in range(0, n, CHUNK):
        part = _distances(a[:, start : start + CHUNK], a[:, start:])
        total += 2 * _sum(part) - _sum(part[:, :CHUNK])
    return total / n**2


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (n, m) between the columns of a (d, n) and of b (d, m)."""
    # By coordinates: the expansion |a|^2 + |b|^2 - 2 a.b has a rounding as large as the energies of good samples.
    squares = (a[0][:, None] - b[0]).square_()
    for p, q in zip(a[1:], b[1:], strict=True):
        difference = p[:, None] - q
        squares.addcmul_(difference, difference)
    return squares.sqrt_()


def _sum(x: Tensor) -> float:
    return x.sum(dtype=torch.float64).item()


def _rows(x: Tensor) -> Rows:
    return x.flatten(1).double().numpy()
