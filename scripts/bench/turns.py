"""Turns of several sides in one process, and rows of a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Turns(NamedTuple):
    """Seconds of one call in each turn, of each side."""

    of: dict[str, list[float]]

    def seconds(self, side: str) -> float:
        """The median."""
        return statistics.median(self.of[side])

    def ratio(self, side: str, other: str) -> str:
        """side / other over neighbouring turns: the median, and the quartiles."""
        pairs = zip(self.of[side], self.of[other], strict=True)
        low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def take_turns(sides: Mapping[str, Callable[[], object]], rounds: int, times: int, threads: int) -> Turns:
    """Turns of `times` calls, side after side; the first round warms up and is not counted."""
    clock = time.process_time if threads == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, action in sides.items():
            start = clock()
            for _ in range(times):
                action()
            taken[name].append((clock() - start) / times)
    return Turns({name: seconds[1:] for name, seconds in taken.items()})


def heading(*columns: str) -> None:
    """The head of a table."""
    row(*columns)
    row(*("---" for _ in columns))


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def milliseconds(seconds: float | Sequence[float]) -> str:
    """With three digits."""
    value = 1000 * (seconds if isinstance(seconds, float) else statistics.median(seconds))
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
