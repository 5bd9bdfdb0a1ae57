"""What came of many runs, found again. (Plain files; no torch, no Hydra.)

A result has *keys*, what was asked for (`dataset`, `model.width`: a group's name holds the option chosen), and
*numbers*, what came of it (`loss`, `metrics.sliced_w2`, `metrics.sliced_w2.ratio`), as they stand in summary.json.
There each metric says itself which way is better, so that nothing here knows one by its name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_cli.errors import Passage, UserError
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.directory import FINISHED, RunDirectory
from diffusion_cli.runs.jobs import in_order
from diffusion_cli.runs.ranking import cost, error_of

COMPARED = ("ratio", "floor")  # numbers beside a metric's value that are worth a figure
# What summary.json says besides of how the run was made.
NO_RESULTS = ("versions", "seed", "threads", "processes")
# Groups whose keys make another loss: its values are not compared.
OF_THE_LOSS = ("schedule", "parameterization", "objective")


@dataclass(frozen=True)
class Result:
    """One run.

    said: the keys of its command line, in its order.
    better: name of a metric in `numbers` -> lower, higher, or a number, and the nearer to that the better.
    """

    name: str
    path: Path
    config: Config
    keys: Config
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
        found = {part: self.numbers.get(f"{name}.{part}") for part in parts}
        return error_of({"value": self.numbers.get(name), **found})

    def basis(self, name: str) -> str:
        """What two numbers of this name must have in common to be compared: data, how many samples, and what is the loss."""
        of = [self.keys.get("dataset"), *(self.numbers.get(f"{name}.{part}") for part in ("n", "against"))]
        of += [self.config.get(group) for group in OF_THE_LOSS if name == "loss"]
        return json.dumps(of, default=str)


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


def calls_of(config: Config) -> int | None:
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
    paths = [path.relative_to(root).as_posix() for path in directories(root)]
    if not paths:
        raise UserError("sweep", str(folder), "holds no runs")
    return [read_result(root / path, path) for path in sorted(paths, key=in_order)]


def directories(root: Path) -> Iterator[Path]:
    """The directories of runs below a folder, in order; what lies within a run is not looked at."""
    for where, folders, files in os.walk(root):
        if run_config.FILE in files or run_config.CHECKPOINTS in folders:
            folders.clear()
            yield Path(where)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _flatten(node: Facts) -> Facts:
    """Dotted name -> value, of all that is no dict."""
    found: Facts = {}
    for key, value in node.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": item for name, item in _flatten(value).items()}
        else:
            found[key] = value
    return found


def numbers_of(summary: Facts) -> dict[str, float]:
    """Dotted name -> number, of a summary. A metric's own name stands for its value."""
    chosen = {key: value for key, value in summary.items() if key not in NO_RESULTS}
    found = {}
    for name, value in _flatten(chosen).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[name.removesuffix(".value")] = float(value)
    return found


def better_of(summary: Facts) -> dict[str, str | float]:
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
