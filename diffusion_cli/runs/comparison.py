"""Results side by side: what differs, the mean over seeds, and what a figure of them shows."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from diffusion_cli.errors import UserError, shown
from diffusion_cli.ranges import Config
from diffusion_cli.runs.directory import FINISHED
from diffusion_cli.runs.ranking import cost
from diffusion_cli.runs.results import Result, number_named, results_of

# what makes no other experiment
NOT_ASKED = ("seed", "resume", "optimize", "plots", "evaluate", "device", "threads", "processes")


def varied(results: Sequence[Result]) -> list[str]:
    """The keys said on any line whose values differ, in order; not the seed, nor what makes no other experiment."""
    said = dict.fromkeys(key for result in results for key in result.said)
    values = {
        key: {shown(result.keys.get(key)) for result in results} for key in said if key not in NOT_ASKED
    }
    return [key for key, different in values.items() if len(different) > 1]


class Cell(NamedTuple):
    """Runs that differ in nothing but their seed. values: of the keys they were grouped by."""

    values: tuple[object, ...]
    results: list[Result]

    def mean(self, name: str) -> float | None:
        found = [result.numbers[name] for result in self.results if name in result.numbers]
        return statistics.fmean(found) if found else None

    def std(self, name: str) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        found = [result.numbers[name] for result in self.results if name in result.numbers]
        return statistics.stdev(found) if len(found) > 1 else None

    def cost(self, name: str) -> float | None:
        """The mean, turned so that small is good."""
        mean = self.mean(name)
        better = (result.better[name] for result in self.results if name in result.better)
        return None if mean is None else cost(mean, next(better, None))

    def standard_error(self, name: str) -> float | None:
        """The standard error of the mean: over the seeds, or of the only run's number."""
        std = self.std(name)
        return self.results[0].standard_error(name) if std is None else std / math.sqrt(len(self.results))

    def basis(self, name: str) -> str:
        return self.results[0].basis(name)

    def text(self, name: str) -> str:
        mean, std = self.mean(name), self.std(name)
        return "" if mean is None else f"{mean:.3g}" + ("" if std is None else f" ± {std:.2g}")


def group(results: Iterable[Result], keys: Sequence[str]) -> list[Cell]:
    """Finished runs by their values of these keys, in the order of the values."""
    cells: dict[str, Cell] = {}
    for result in results:
        if result.status == FINISHED:
            values = tuple(result.keys.get(key) for key in keys)
            cells.setdefault(json.dumps(values, default=str), Cell(values, [])).results.append(result)
    return sorted(cells.values(), key=lambda cell: [place(value) for value in cell.values])


def place(value: object) -> tuple[int, float, str]:
    """Sorts null first, then numbers, then names."""
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, shown(value))


def metrics(results: Iterable[Result]) -> list[str]:
    """The names of the loss and of all metrics that any of these runs has."""
    return [*dict.fromkeys(name for result in results for name in result.numbers
                           if name == "loss" or name in result.better)]  # fmt: skip


class Comparison:
    """What the keys sweep, runs, x, y and hue ask for. Raises UserError, with the choices, where they do not fit."""

    def __init__(self, config: Config):
        self.results = results_of(config["sweep"], config["runs"])
        finished = [result for result in self.results if result.status == FINISHED]
        if not finished:
            raise UserError("sweep", config["sweep"] or config["runs"], "holds no finished run yet")
        swept = varied(finished)
        hue = config["hue"]
        self.hue: Sequence[str] = [] if hue is None else [hue] if isinstance(hue, str) else hue
        self.x = self._key("x", config["x"], finished, swept)
        for key in self.hue:
            self._key("hue", key, finished, swept)
        cells = [cell.results for cell in group(finished, [*self.hue, self.x])]
        others = [
            key for key in swept if any(len({shown(run.keys.get(key)) for run in runs}) > 1 for runs in cells)
        ]
        if others:
            all_of_them = ",".join([*self.hue, *others])
            raise UserError("hue", hue, f"the runs differ in {', '.join(others)} too, over which no mean is taken; "
                            f"say hue=[{all_of_them}]")  # fmt: skip
        numbers = {name: value for result in finished for name, value in result.numbers.items()}
        self.y = number_named(numbers, self._needed("y", config["y"], metrics(finished)), "y")
        self.finished = [result for result in finished if self.y in result.numbers]

    def _key(self, name: str, key: str | None, results: Sequence[Result], swept: list[str]) -> str:
        key = self._needed(name, key, swept or ["seed"])
        if not any(key in result.keys for result in results):
            raise UserError(name, key, "no such key in these runs", swept or results[0].keys)
        return key

    def _needed(self, name: str, value: str | None, choices: Sequence[str]) -> str:
        if value is None:
            raise UserError(name, value, "a choice is needed", choices)
        return value

    def by_hue(self) -> dict[str, list[Cell]]:
        """The finished runs: value of hue -> a cell for each value of x, all in order."""
        found: dict[str, list[Cell]] = {}
        for cell in group(self.finished, [*self.hue, self.x]):
            name = ", ".join(shown(value) for value in cell.values[:-1])
            found.setdefault(name, []).append(Cell(cell.values[-1:], cell.results))
        return found


# What a figure of many runs is given.
Compared = Comparison | list[Result]
