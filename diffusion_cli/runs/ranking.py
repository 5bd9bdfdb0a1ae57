"""Which of several results is clearly the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

ROUNDING = 1e-6


def cost(value: float, better: str | float | None) -> float:
    """A value turned so that small is good. better: None where nothing says; then small is good already, as of a loss."""
    if isinstance(better, float):
        return abs(value - better)
    return -value if better == "higher" else value


def error_of(entry: Mapping[str, Any]) -> float | None:
    """The standard error of a measurement; of one draw the spread of true samples, as many; None where nothing says."""
    if entry.get("error") is not None:
        return entry["error"]
    if entry.get("spread") is not None:
        return entry["spread"] / math.sqrt(entry.get("draws") or 1)
    of_true = entry.get("floor_spread")
    # True samples are all on their curve, but for rounding: how far others are from it varies.
    return None if of_true is None or of_true <= ROUNDING * abs(entry["value"] or 0.0) else of_true


def clear_best(costs: Sequence[tuple[float, float | None]]) -> int | None:
    """The place of the least cost, if it is below every other by more than twice the error of their difference.

    costs: with their standard errors; None where one is unknown, and nothing can be told.

    >>> clear_best([(1.0, 0.1), (2.0, 0.1)]), clear_best([(1.0, 0.1), (1.2, 0.1)])
    (0, None)
    """
    if len(costs) < 2 or any(error is None for _, error in costs):
        return None
    least = min(range(len(costs)), key=lambda i: costs[i][0])
    own, error = costs[least]
    rivals = (costs[i] for i in range(len(costs)) if i != least)
    clear = all(other - own > 2 * math.hypot(error or 0.0, more or 0.0) for other, more in rivals)
    return least if clear else None


class Rival(Protocol):
    """A result, or the mean of several."""

    def cost(self, name: str) -> float | None: ...
    def standard_error(self, name: str) -> float | None: ...
    def basis(self, name: str) -> str: ...


def leaders(rivals: Sequence[Rival], name: str) -> set[int]:
    """The places of those that are clearly the best by a number, each among the ones with which it can be compared."""
    found: dict[str, list[tuple[int, float, float | None]]] = {}
    for place, rival in enumerate(rivals):
        cost = rival.cost(name)
        if cost is not None:
            found.setdefault(rival.basis(name), []).append((place, cost, rival.standard_error(name)))
    best = {basis: clear_best([entry[1:] for entry in entries]) for basis, entries in found.items()}
    return {found[basis][place][0] for basis, place in best.items() if place is not None}
