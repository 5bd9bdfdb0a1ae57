"""Generated sets of points beside held-out ones, in figures that carry their floor.

Even real sets do not reach the ideal of a metric between finite collections, so each value stands beside its floor:
the same for training sets. Of stars also the form is judged: see `metrics.stars`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from diffusion_cli.dataset.stars import StarFamily
from diffusion_cli.metrics.progress import Counter, Progress, silent
from diffusion_cli.metrics.sets import (
    Matrix,
    Sets,
    as_sets,
    chamfer,
    earth_mover,
    jensen_shannon,
    scores,
)
from diffusion_cli.metrics.stars import fit_stars

Values = list[dict[str, float]]  # name -> value, for each of several independent collections

LABELS = {
    "mmd_cd": "MMD, Chamfer",
    "coverage_cd": "COV, Chamfer",
    "one_nn_cd": "1-NNA, Chamfer",
    "mmd_emd": "MMD, earth mover",
    "coverage_emd": "COV, earth mover",
    "one_nn_emd": "1-NNA, earth mover",
    "jsd": "JSD, bits",
    "outline_mean": "outline distance, mean",
    "outline_p90": "outline distance, 90 %",
}


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
    family: StarFamily | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Compare a model's sets with held-out ones, and training sets with the same held-out ones.

    draw(k): the model's k-th independent collection of at least n sets, (., P, 2), k = 0..draws-1. train, test: real
    sets. n: sets on either side, fewer where train or test hold fewer. points: random ones of each set, all where it
    has no more. floor_draws: disjoint random parts of `train`, as many as it holds. emd_points: of each set, for the
    earth mover's distance, which is dear and sees the first of the draws only; None leaves it out. family: of the
    stars that the sets should be, or None. progress: a bar over the pairs of sets between which distances are taken.

    Returns name -> a plain dict ready for JSON: value and spread (mean and standard deviation over the draws), floor
    and floor_spread, ratio = value / floor, n, draws, floor_draws, points of each set, and pairs of sets measured (0
    for what looks at no pairs). Names: mmd_, coverage_, one_nn_ with _cd and _emd, jsd; of stars outline_mean,
    outline_p90 and the shares arms_4, arms_5, ...

    Raises ValueError when fewer than 2 sets are on a side, and for sets that are not finite.
    """
    train, test = as_sets(train), as_sets(test)
    n = min(n, len(test), len(train))
    if n < 2 or draws < 1 or floor_draws < 1:
        raise ValueError("needs at least 2 sets on either side, and a draw on each")
    order = np.random.default_rng(seed).permutation(len(train))[: len(train) // n * n].reshape(-1, n)
    whole = Sides(
        [as_sets(draw(k))[:n] for k in range(draws)], [train[rows] for rows in order[:floor_draws]], test[:n]
    )
    sides = whole.subset(points, seed)
    first = Sides(whole.ours[:1], whole.real[:1], whole.reference).subset(emd_points or 1, seed)

    pairs = n * (n - 1) // 2 + (len(sides.ours) + len(sides.real)) * (n * n + n * (n - 1) // 2)
    few = n * (n - 1) // 2 + 2 * (n * n + n * (n - 1) // 2) if emd_points else 0
    with progress(pairs + few, unit="pair") as counter:
        report = _entries(sides, *_compared(sides, chamfer, counter), suffix="_cd", pairs=pairs)
        if emd_points:
            report |= _entries(first, *_compared(first, earth_mover, counter), suffix="_emd", pairs=few)
    report |= _entries(
        sides, *([{"jsd": jensen_shannon(x, sides.reference)} for x in side] for side in sides[:2])
    )
    if family is not None:
        report |= _entries(sides, *([_form(x, family) for x in side] for side in sides[:2]))
    return report


def subset(sets: Sets, points: int, seed: int) -> Sets:
    """The same `points` random places of all sets (n, P, 2); all of them where P is no larger."""
    places = np.random.default_rng(seed).permutation(sets.shape[1])[:points]
    return sets if sets.shape[1] <= points else np.ascontiguousarray(sets[:, places])


def _compared(sides: Sides, distance: Callable[..., Matrix], counter: Counter) -> tuple[Values, Values]:
    within = distance(sides.reference, counter=counter)

    def against(x: Sets) -> dict[str, float]:
        return scores(distance(x, sides.reference, counter), distance(x, counter=counter), within)

    return [against(x) for x in sides.ours], [against(x) for x in sides.real]


def _form(x: Sets, family: StarFamily) -> dict[str, float]:
    """Distance to the best-fitting outline, and the share of each number of arms."""
    fit = fit_stars(x, family)
    counts = range(family.arms[0], family.arms[1] + 1)
    distances = {
        "outline_mean": float(fit.distance.mean()),
        "outline_p90": float(np.quantile(fit.distance, 0.9)),
    }
    return distances | {f"arms_{k}": float(np.mean(fit.arms == k)) for k in counts}


def _entries(
    sides: Sides, ours: Values, real: Values, suffix: str = "", pairs: int = 0
) -> dict[str, dict[str, Any]]:
    report = {}
    for name in ours[0]:
        value, spread = _mean_and_spread([result[name] for result in ours])
        floor, floor_spread = _mean_and_spread([result[name] for result in real])
        report[name + suffix] = {
            "value": value,
            "spread": spread,
            "floor": floor,
            "floor_spread": floor_spread,
            "ratio": value / floor if floor > 0 else None,
            "n": len(sides.reference),
            "draws": len(ours),
            "floor_draws": len(real),
            "points": sides.reference.shape[1],
            "pairs": pairs,
        }
    return report


def sets_table(report: dict[str, dict[str, Any]]) -> str:
    """The report of `evaluate_sets` as lines of aligned text, and the number of pairs that were measured."""
    head = ("metric", "value", "floor", "ratio", "points")
    rows = [
        (
            LABELS.get(name, f"share with {name.removeprefix('arms_')} arms"),
            _with_spread(entry["value"], entry["spread"]),
            _with_spread(entry["floor"], entry["floor_spread"]),
            "" if entry["ratio"] is None else f"{entry['ratio']:.2f}",
            str(entry["points"]),
        )
        for name, entry in report.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    template = "  ".join([f"{{:<{widths[0]}}}"] + [f"{{:>{width}}}" for width in widths[1:]])
    entry = report["mmd_cd"]
    pairs = sum(report[name]["pairs"] for name in ("mmd_cd", "mmd_emd") if name in report)
    end = f"{entry['n']} sets on either side, {entry['draws']} draws, floor of {entry['floor_draws']}; {pairs:,} pairs"
    return "\n".join([*(template.format(*row) for row in (head, *rows)), end])


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _with_spread(value: float, spread: float | None) -> str:
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"
