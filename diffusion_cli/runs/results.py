"""What came of many runs: found again, side by side, averaged over seeds. (Plain files; no torch, no Hydra.)

A result has *keys*, what was asked for (`dataset`, `model.width`: a group's name holds the option chosen), and
*numbers*, what came of it (`loss`, `metrics.sliced_w2`, `metrics.sliced_w2.ratio`), as they stand in summary.json.
There each metric says itself which way is better, so that nothing here knows one by its name.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from diffusion_cli.errors import Passage, UserError
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.directory import FINISHED, RunDirectory
from diffusion_cli.runs.jobs import in_order

COMPARED = ("ratio", "floor")  # numbers beside a metric's value that are worth a figure
# Groups whose keys make another loss: its values are not compared.
OF_THE_LOSS = ("schedule", "parameterization", "objective")
# what makes no other experiment
NOT_ASKED = ("seed", "resume", "optimize", "plots", "evaluate", "device", "threads", "processes")


@dataclass(frozen=True)
class Result:
    """One run.

    said: the keys of its command line, in its order.
    better: name of a metric in `numbers` -> lower, higher, or a number, and the nearer to that the better.
    """

    name: str
    path: Path
    config: dict[str, Any]
    keys: dict[str, Any]
    said: tuple[str, ...]
    numbers: dict[str, float]
    better: dict[str, str | float]
    status: str | None
    error: str | None
    command: str = "train"

    def cost(self, name: str) -> float | None:
        """The number of this name, turned so that small is good; None where it has none."""
        return cost(self.numbers[name], self.better.get(name)) if name in self.numbers else None

    def standard_error(self, name: str) -> float | None:
        """The standard error of a number, as `error_of` its measurement."""
        parts = ("error", "spread", "draws", "floor_spread")
        return error_of({part: self.numbers.get(f"{name}.{part}") for part in parts})

    def basis(self, name: str) -> str:
        """What two numbers of this name must have in common to be compared: data, how many samples, and what is the loss."""
        of = [self.keys.get("dataset"), *(self.numbers.get(f"{name}.{part}") for part in ("n", "against"))]
        return json.dumps(
            of + [self.config.get(group) for group in OF_THE_LOSS if name == "loss"], default=str
        )


def cost(value: float, better: str | float | None) -> float:
    """A value turned so that small is good. better: None where nothing says; then small is good already, as of a loss."""
    if isinstance(better, float):
        return abs(value - better)
    return -value if better == "higher" else value


def error_of(entry: Mapping[str, Any]) -> float | None:
    """The standard error of a measurement; of one draw the spread of true samples, as many; None where nothing says."""
    if entry.get("error") is not None:
        return entry["error"]
    spread = entry.get("spread")
    return entry.get("floor_spread") if spread is None else spread / math.sqrt(entry.get("draws") or 1)


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


def read_result(path: str | Path, name: str | None = None) -> Result:
    """The result in a run directory. Raises UserError where it is none, or its config.json is not one."""
    run = RunDirectory(path)
    record = run_config.read_record(run.path)
    config = record.current
    words = [str(word).lstrip("+~").partition("=")[0] for word in record.overrides]
    keys = _flatten(config)
    keys |= {key: value for key, value in record.choices.items() if key in (*config, "experiment")}
    keys |= {"command": record.command, "network_calls": calls_of(config)}
    summary = run.summary
    status = run.status_of(summary)
    return Result(
        name if name is not None else str(path),
        run.path,
        config,
        keys,
        tuple(dict.fromkeys(key for key in words if not key.startswith("hydra"))),
        numbers_of(summary),
        better_of(summary),
        status,
        str(summary["error"]) if "error" in summary and status != FINISHED else None,
        record.command,
    )


def calls_of(config: dict[str, Any]) -> int | None:
    """How often the network is called for a sample, by a configuration; None where it does not say."""
    sampler, schedule = config.get("sampler"), config.get("schedule")
    if not (isinstance(sampler, dict) and isinstance(schedule, dict)):
        return None
    steps = sampler.get("steps") or schedule.get("T")
    twice = str(sampler.get("_target_")).endswith(".Heun")
    return (2 * steps - 1 if twice else steps) if isinstance(steps, int) else None


def value_of(run: RunDirectory, optimize: str | None) -> float | None:
    """What a search is given of a finished run: the number that `optimize=` names. A name that is not there ends the
    sweep at once, since no other job would have it."""
    if optimize is None:
        return None
    try:
        numbers = numbers_of(run.summary)
        return numbers[number_named(numbers, optimize, "optimize")]
    except UserError as error:
        raise Passage(error) from None


def results_of(sweep: str | None, runs: Sequence[str] | None) -> list[Result]:
    """The results that `sweep=DIR` or `runs=[DIR,DIR]` means."""
    if (sweep is None) == (runs is None):
        raise UserError("sweep", sweep, "say sweep=DIR, or a list of runs: runs=[DIR,DIR]")
    return find(sweep) if sweep is not None else [read_result(path) for path in runs or ()]


def find(folder: str | Path) -> list[Result]:
    """All runs below a folder, a sweep's or any other. Raises UserError where there is none."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError("sweep", str(folder), "no such directory")
    marks = (mark for name in (run_config.FILE, run_config.CHECKPOINTS) for mark in root.rglob(name))
    paths = {mark.parent.relative_to(root).as_posix() for mark in marks}
    if not paths:
        raise UserError("sweep", str(folder), "holds no runs")
    return [read_result(root / path, path) for path in sorted(paths, key=in_order)]


def _flatten(node: dict[str, Any]) -> dict[str, Any]:
    """Dotted name -> value, of all that is no dict."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": item for name, item in _flatten(value).items()}
        else:
            found[key] = value
    return found


def numbers_of(summary: dict[str, Any]) -> dict[str, float]:
    """Dotted name -> number, of a summary. A metric's own name stands for its value."""
    chosen = {
        key: value
        for key, value in summary.items()
        if key not in ("versions", "seed", "threads", "processes")
    }
    found = {}
    for name, value in _flatten(chosen).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[name.removesuffix(".value")] = float(value)
    return found


def better_of(summary: dict[str, Any]) -> dict[str, str | float]:
    """Name of a metric, as in `numbers_of` -> which way it is better, as its entry in the summary says."""
    metrics = summary.get("metrics")
    found: dict[str, str | float] = {}
    for name, entry in metrics.items() if isinstance(metrics, dict) else ():
        better = entry.get("better") if isinstance(entry, dict) and "value" in entry else None
        if better in ("lower", "higher"):
            found[f"metrics.{name}"] = better
        elif isinstance(better, (int, float)) and math.isfinite(better):
            found[f"metrics.{name}"] = float(better)
    return found


def number_named(numbers: Iterable[str], name: str, key: str) -> str:
    """The name, if it is one of these; else UserError for `key`, with what there is to choose from."""
    known = list(numbers)
    if name not in known:
        raise UserError(key, name, "no such number in summary.json", [n for n in known if _worth(n, known)])
    return name


def _worth(name: str, known: Sequence[str]) -> bool:
    """Whether a number is worth a figure: not the size of a sample, nor a spread."""
    metric, _, last = name.rpartition(".")
    return metric not in known or last in COMPARED


# Side by side.


def varied(results: Sequence[Result]) -> list[str]:
    """The keys said on any line whose values differ, in order; not the seed, nor what makes no other experiment."""
    said = dict.fromkeys(key for result in results for key in result.said)
    values = {
        key: {_shown(result.keys.get(key)) for result in results} for key in said if key not in NOT_ASKED
    }
    return [key for key, different in values.items() if len(different) > 1]


class Cell(NamedTuple):
    """Runs that differ in nothing but their seed. values: of the keys they were grouped by."""

    values: tuple[Any, ...]
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


def place(value: Any) -> tuple[int, float, str]:
    """Sorts null first, then numbers, then names."""
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, _shown(value))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def show(value: Any) -> str:
    """A key's value as a label."""
    return _shown(value).strip('"')


def metrics(results: Iterable[Result]) -> list[str]:
    """The names of the loss and of all metrics that any of these runs has."""
    return [*dict.fromkeys(name for result in results for name in result.numbers
                           if name == "loss" or name in result.better)]  # fmt: skip


class Comparison:
    """What the keys sweep, runs, x, y and hue ask for. Raises UserError, with the choices, where they do not fit."""

    def __init__(self, config: dict[str, Any]):
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
            key
            for key in swept
            if any(len({_shown(run.keys.get(key)) for run in runs}) > 1 for runs in cells)
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
            name = ", ".join(show(value) for value in cell.values[:-1])
            found.setdefault(name, []).append(Cell(cell.values[-1:], cell.results))
        return found
