"""Runs found below a folder, chosen by what they are, and put in order. (Plain files; no torch, no Hydra.)"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_cli.errors import UserError, closest, shown
from diffusion_cli.runs.comparison import place
from diffusion_cli.runs.ranking import clear_best
from diffusion_cli.runs.results import Result, directories, read_result
from diffusion_cli.runs.session import bar

AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
UNITS: dict[str, Mapping[str, float]] = {"age": AGES, "size": SIZES}
ANY = "any"


@dataclass(frozen=True)
class Listed:
    """A run as it lies on the disk.

    result: what it is and what came of it.
    age: seconds since anything of it was last written.
    size: bytes of all its files.
    """

    result: Result
    age: float
    size: int

    def value(self, name: str) -> object:
        """The value of a filter or of an order: age, size, status, command, a key or a number; None where it has none."""
        result = self.result
        own = {"age": self.age, "size": self.size, "status": result.status, "command": result.command}
        for known in (own, result.numbers, result.keys):
            if name in known:
                return known[name]
        return result.numbers.get(f"metrics.{name}")

    def cost(self, name: str) -> float | None:
        """The number of this name, turned so that small is good; None where it has none."""
        return self.result.cost(full_name(self, name))


def full_name(run: Listed, name: str) -> str:
    """The number that a name means: a metric's may do without "metrics."."""
    return name if name in run.result.numbers else f"metrics.{name}"


def listed(path: Path) -> Listed:
    """The run in a directory. UserError where it is none."""
    result = read_result(path)
    files = [entry.stat() for entry in _files(path)]
    changed = max((file.st_mtime for file in files), default=0.0)
    return Listed(result, max(0.0, time.time() - changed), sum(file.st_size for file in files))


def found_below(root: str) -> tuple[list[Listed], list[UserError]]:
    """All runs below a folder, and what is wrong with those that cannot be read."""
    if not Path(root).is_dir():
        raise UserError("root", root, "no such directory")
    runs, damaged = [], []
    paths = [*directories(Path(root))]
    with bar(len(paths), unit="run", alone=False) as progress:
        for path in paths:
            try:
                runs.append(listed(path))
            except UserError as error:
                damaged.append(error)
            progress.update()
    return runs, damaged


def filtered(runs: Sequence[Listed], wanted: Mapping[str, str]) -> list[Listed]:
    """The runs of which every filter holds. Raises UserError for one that could hold of none.

    wanted: name -> LOW..HIGH, of which one may be left out; or values, separated by commas. A name is age, size, status,
        command, a key of the configuration or a number of summary.json.
    """
    for name in wanted:
        if runs and all(run.value(name) is None for run in runs):
            names = {key for run in runs for key in (*run.result.keys, *run.result.numbers)}
            near = closest(name, [*names, *UNITS, "status", "command", "sort", "by", "yes", "root"])
            raise UserError(name, wanted[name], "no such key" + (f"; did you mean {near}?" if near else ""))
    return [run for run in runs if all(holds(name, run.value(name), text) for name, text in wanted.items())]


def holds(name: str, value: object, text: str) -> bool:
    """Whether a value is in LOW..HIGH, or among values that are separated by commas.

    >>> holds("size", 2_000_000, "1MB.."), holds("dataset", "circle", "square,stars")
    (True, False)
    """
    low, dots, high = text.partition("..")
    if dots:
        ends = [number(name, end) if end else None for end in (low, high)]
        if not isinstance(value, (int, float)):
            return False
        return (ends[0] is None or value >= ends[0]) and (ends[1] is None or value <= ends[1])
    if name in UNITS:
        raise UserError(name, text, f"say {text}.. for at least so much, or ..{text} for at most")
    return any(word == ANY or _same(value, word) for word in text.split(","))


def number(name: str, text: str) -> float:
    """A number, for age and size with its unit: 30m, 7d, 10MB. UserError for what is none."""
    units = UNITS.get(name, {})
    match = re.fullmatch(r"(-?[\d.]+(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)", text)
    try:
        assert match
        return float(match[1]) * (units[match[2]] if match[2] or units else 1)
    except (AssertionError, ValueError, KeyError):
        unit = f" and one of {', '.join(units)}" if units else ""
        raise UserError(name, text, f"must be a number{unit}") from None


def sorted_by(runs: Sequence[Listed], by: str) -> list[Listed]:
    """Sorted by age (the newest first), size, a key or a number (the best first); -NAME the other way round. What has no
    such value comes last."""
    name = by.removeprefix("-")
    if runs and all(run.value(name) is None for run in runs):
        numbers = dict.fromkeys(key for run in runs for key in run.result.better)
        raise UserError("sort", by, "no such key in these runs", ["age", "size", "loss", *numbers])
    having = [run for run in runs if run.value(name) is not None]

    def order(run: Listed) -> tuple[int, float, str]:
        cost = run.cost(name)
        return place(run.value(name) if cost is None else cost)

    ordered = sorted(having, key=order, reverse=by.startswith("-"))
    return ordered + [run for run in runs if run.value(name) is None]


def best_of(runs: Sequence[Listed], by: str | None) -> dict[str, tuple[str, Listed, int]]:
    """Dataset -> the number that decides, the run that is best by it, and how many others it cannot be told from: values of
    different data are not compared.

    by: the number; None: the first metric of the dataset's runs.
    """
    found = {}
    for dataset in dict.fromkeys(shown(run.value("dataset")) for run in runs):
        rivals = [run for run in runs if shown(run.value("dataset")) == dataset]
        name = by or next((name for run in rivals for name in run.result.better), "loss")
        costs = [(cost, run.result.standard_error(full_name(run, name)), run) for run in rivals
                 if (cost := run.cost(name)) is not None]  # fmt: skip
        if costs:
            least = min(costs, key=lambda entry: entry[0])
            close = sum(clear_best([least[:2], rival[:2]]) is None for rival in costs if rival is not least)
            found[dataset] = name, least[2], close
    if not found:
        numbers = dict.fromkeys(name for run in runs for name in (*run.result.better, "loss"))
        raise UserError("by", by, "no finished run has such a number", numbers)
    return found


def _same(value: object, word: str) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(word) == value
        except ValueError:
            return False
    return shown(value) == word


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield entry
    except OSError:
        # it has gone meanwhile, or is not ours to read
        return


def age_text(seconds: float) -> str:
    """An age in its largest unit: 40 s, 5 min, 3 h, 12 d."""
    for unit, long in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= long:
            return f"{seconds / long:.0f} {unit}"
    return f"{seconds:.0f} s"


def size_text(count: float) -> str:
    """A number of bytes in its largest unit: 12 kB, 3.4 MB."""
    for unit in reversed(SIZES):
        if count >= SIZES[unit]:
            return f"{count / SIZES[unit]:.3g} {unit}"
    return "0 B"
