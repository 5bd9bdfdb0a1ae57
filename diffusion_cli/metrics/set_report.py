"""Generated sets of points beside held-out ones, each value beside its floor.

Even real sets do not reach the ideal of a metric between finite collections, so each value stands beside its floor:
the same for training sets. Of stars and chairs also the form is judged: see `metrics.stars` and `metrics.chairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from diffusion_cli.dataset.chair_family import ChairFamily
from diffusion_cli.dataset.star_family import StarFamily
from diffusion_cli.metrics import chairs
from diffusion_cli.metrics.catalogue import CHAMFER, EARTH_MOVER, JSD, Metric
from diffusion_cli.metrics.measurement import (
    Measurement,
    Report,
    beside_floor,
    measurements,
    table_of,
)
from diffusion_cli.metrics.progress import Progress, ProgressBar, silent
from diffusion_cli.metrics.sets import (
    Matrix,
    Sets,
    as_sets,
    chamfer,
    earth_mover,
    jensen_shannon,
    scores,
    subset,
)
from diffusion_cli.metrics.stars import star_form, star_metrics
from diffusion_cli.noise import Stream, mix

Measure = Callable[[Sets], dict[str, float]]


class Sides(NamedTuple):
    """Collections of n sets each: the model's, real ones to compare with, and the reference of both."""

    ours: list[Sets]
    real: list[Sets]
    reference: Sets

    def subset(self, points: int, seed: int) -> Sides:
        """The same with at most so many random points of each set."""
        ours, real = ([subset(x, points, seed) for x in side] for side in (self.ours, self.real))
        return Sides(ours, real, subset(self.reference, points, seed))


def evaluate_sets(
    draw: Callable[[int], ArrayLike],
    train: ArrayLike,
    test: ArrayLike,
    n: int = 64,
    points: int = 512,
    draws: int = 3,
    floor_draws: int = 4,
    emd_points: int | None = 128,
    family: StarFamily | ChairFamily | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Measurement]:
    """Compare a model's sets with held-out ones, and training sets with the same held-out ones.

    draw: draw(k) gives the model's k-th independent collection of at least n sets, (., P, d), k = 0..draws-1.
    train, test: real sets.
    n: sets on either side, fewer where train or test hold fewer.
    points: random ones of each set, all where it has no more.
    draws: collections of the model.
    floor_draws: disjoint random parts of `train`, as many as it holds.
    emd_points: of each set, for the earth mover's distance, which is slow and sees the first of the draws only; None
        leaves it out.
    family: of the stars or chairs that the sets should be, or None.
    seed: of what is random here.
    progress: a bar over the pairs of sets between which distances are computed.

    Returns a `Measurement` for each of mmd_, coverage_, one_nn_ with _cd and _emd, jsd; of stars outline_mean,
    outline_p90 and the fractions arms_4, arms_5, ...; of chairs surface_mean, surface_p90 and the fraction armed.

    Raises ValueError when fewer than 2 sets are on a side, and for sets that are not finite.
    """
    train, test = as_sets(train), as_sets(test)
    n = min(n, len(test), len(train))
    if n < 2 or draws < 1 or floor_draws < 1:
        raise ValueError("needs at least 2 sets on either side, and a draw on each")
    order = (
        np.random.default_rng(mix(seed, Stream.REFERENCES))
        .permutation(len(train))[: len(train) // n * n]
        .reshape(-1, n)
    )
    whole = Sides(
        [as_sets(draw(k))[:n] for k in range(draws)], [train[rows] for rows in order[:floor_draws]], test[:n]
    )
    sides = whole.subset(points, seed)
    first = Sides(whole.ours[:1], whole.real[:1], whole.reference).subset(emd_points or 1, seed)

    among = n * (n - 1) // 2
    pairs = among + (len(sides.ours) + len(sides.real)) * (n * n + among)
    few = among + 2 * (n * n + among) if emd_points else 0
    with progress(pairs + few, unit="pair") as bar:
        report = _report(CHAMFER, sides, _scores(sides.reference, chamfer, "_cd", bar), pairs)
        if emd_points:
            by_earth = _scores(first.reference, earth_mover, "_emd", bar)
            report |= _report(EARTH_MOVER, first, by_earth, few)
    report |= _report([JSD], sides, lambda x: {"jsd": jensen_shannon(x, sides.reference)})
    if isinstance(family, StarFamily):
        report |= _report(star_metrics(family), sides, lambda x: star_form(x, family))
    if isinstance(family, ChairFamily):
        report |= _report(chairs.METRICS, sides, chairs.chair_form)
    return report


def _scores(reference: Sets, distance: Callable[..., Matrix], suffix: str, bar: ProgressBar) -> Measure:
    """The scores of a collection under a distance between sets."""
    within = distance(reference, bar=bar)

    def measure(x: Sets) -> dict[str, float]:
        found = scores(distance(x, reference, bar), distance(x, bar=bar), within)
        return {name + suffix: value for name, value in found.items()}

    return measure


def _report(
    metrics: Iterable[Metric], sides: Sides, measure: Measure, pairs: int = 0
) -> dict[str, Measurement]:
    ours, real = ([measure(x) for x in side] for side in (sides.ours, sides.real))
    report: dict[str, Measurement] = {}
    for metric in metrics:
        values, floors = ([result[metric.name] for result in results] for results in (ours, real))
        entry = beside_floor(metric, values, floors, n=len(sides.reference))
        report[metric.name] = {**entry, "points": sides.reference.shape[1], "pairs": pairs}
    return report


def sets_table(report: Report) -> str:
    """The report of `evaluate_sets` as lines of aligned text, and the number of pairs that were measured."""
    entries = measurements(report)
    entry = entries["mmd_cd"]
    pairs = sum(entries[name]["pairs"] for name in ("mmd_cd", "mmd_emd") if name in entries)
    end = f"{entry['n']} sets on either side, {entry['draws']} draws, floor of {entry['floor_draws']}; {pairs:,} pairs"
    return f"{table_of(report, points=lambda entry: str(entry['points']))}\n{end}"
