"""Generated sets of points beside held-out ones, each value beside its floor.

Even real sets do not reach the ideal of a metric between finite collections, so each value stands beside its floor:
the same for training sets. Of stars and chairs also the form is judged: see `metrics.stars` and `metrics.chairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
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
from diffusion_cli.metrics.progress import NoBar, Progress, ProgressBar, silent
from diffusion_cli.metrics.protocol import Each, one_by_one
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

Values = dict[str, float]
# Of a matrix of distances, that are computed together.
ROWS = 8


class Sides(NamedTuple):
    """Collections of n sets each: the model's, real ones to compare with, and the reference of both."""

    ours: list[Sets]
    real: list[Sets]
    reference: Sets

    @property
    def collections(self) -> list[Sets]:
        """The model's, and then the real ones."""
        return [*self.ours, *self.real]

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
    each: Each = one_by_one,
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
    each: computes these, and fits forms, in this process or in several.

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
        report = _report(CHAMFER, sides, _scores(sides, chamfer, "_cd", each, bar), pairs)
        if emd_points:
            report |= _report(EARTH_MOVER, first, _scores(first, earth_mover, "_emd", each, bar), few)
    report |= _report([JSD], sides, [{"jsd": jensen_shannon(x, sides.reference)} for x in sides.collections])
    if isinstance(family, StarFamily):
        forms = each(partial(_form, partial(star_form, family=family)), sides.collections, NoBar())
        report |= _report(star_metrics(family), sides, forms)
    if isinstance(family, ChairFamily):
        forms = each(partial(_form, chairs.chair_form), sides.collections, NoBar())
        report |= _report(chairs.METRICS, sides, forms)
    return report


def _form(form: Callable[[Sets], Values], here: object, x: Sets, bar: ProgressBar) -> Values:
    """The work of judging the form of the sets of one collection."""
    return form(x)


@dataclass(frozen=True)
class _Rows:
    """The work of computing some rows of a matrix of distances between the sets of two collections; within one from the
    diagonal on."""

    distance: Callable[..., Matrix]
    collections: list[Sets]

    def __call__(self, here: object, item: tuple[int, int, int], bar: ProgressBar) -> Matrix:
        x, y, first = item
        some, others = self.collections[x][first : first + ROWS], self.collections[y]
        if x != y:
            return self.distance(some, others, bar)
        among, others = self.distance(some, bar=bar), others[first + ROWS :]
        return np.hstack([among, self.distance(some, others, bar)]) if len(others) else among


def _scores(
    sides: Sides, distance: Callable[..., Matrix], suffix: str, each: Each, bar: ProgressBar
) -> list[Values]:
    """The scores of each collection under a distance between sets."""
    collections, n = [sides.reference, *sides.collections], len(sides.reference)
    wanted = [(0, 0), *((x, y) for x in range(1, len(collections)) for y in (0, x))]
    items = [(*pair, first) for pair in wanted for first in range(0, n, ROWS)]
    matrices = {pair: np.zeros((n, n)) for pair in wanted}
    for (x, y, first), rows in zip(items, each(_Rows(distance, collections), items, bar), strict=True):
        matrix, last = matrices[x, y], first + len(rows)
        matrix[first:last, n - rows.shape[1] :] = rows
        if x == y:
            matrix[last:, first:last] = rows[:, len(rows) :].T
    found = (scores(matrices[x, 0], matrices[x, x], matrices[0, 0]) for x in range(1, len(collections)))
    return [{name + suffix: value for name, value in values.items()} for values in found]


def _report(
    metrics: Iterable[Metric], sides: Sides, results: list[Values], pairs: int = 0
) -> dict[str, Measurement]:
    """results: of each of the collections of the sides, name -> value."""
    ours, real = results[: len(sides.ours)], results[len(sides.ours) :]
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
