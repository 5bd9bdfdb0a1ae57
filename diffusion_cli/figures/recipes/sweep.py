"""Figures of many runs: `plot figure=sweep sweep=DIR x=KEY y=NUMBER hue=KEY`."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from diffusion_cli.components import build
from diffusion_cli.errors import UserError, shown
from diffusion_cli.figures import sweep as pictures
from diffusion_cli.figures.recipes.material import examples, view_of
from diffusion_cli.figures.space import Floats
from diffusion_cli.ranges import checked
from diffusion_cli.runs.comparison import Cell, Comparison, place
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.results import Result

# Sets or images in a panel.
MOST = 16


def sweep(results: Comparison) -> Figure:
    """A number of each run's summary over a swept key, mean and standard deviation over seeds."""
    y, lines = results.y, {}
    for name, cells in results.by_hue().items():
        runs = [[result.numbers[y] for result in cell.results if y in result.numbers] for cell in cells]
        lines[name] = pictures.SeedLine(
            [cell.values[0] for cell in cells],
            [or_nan(cell.mean(y)) for cell in cells],
            [or_nan(cell.std(y)) for cell in cells],
            runs,
            [or_nan(cell.mean(f"{y}.floor")) for cell in cells],
        )
    hue = ", ".join(results.hue) or None
    return pictures.metric_lines(lines, results.x, y.removeprefix("metrics."), hue)


def or_nan(value: float | None) -> float:
    return math.nan if value is None else value


@checked
def sweep_grid(results: Comparison, truth: bool = False) -> Figure:
    """Samples of one run for each pair of values of x (columns) and hue (rows), under their metric's mean over seeds and,
    where it is known, the fraction of outliers.

    truth: whether a last column shows the data themselves.
    """
    rows = results.by_hue()
    by_column: dict[object, list[Cell]] = {}
    for cell in (cell for cells in rows.values() for cell in cells):
        by_column.setdefault(cell.values[0], []).append(cell)
    columns = sorted(by_column, key=place)
    panels, name = {}, results.y.removeprefix("metrics.")
    for r, cells in enumerate(rows.values()):
        for cell in cells:
            first = min(cell.results, key=lambda result: place(result.keys.get("seed")))
            components = build(first.config | {"device": "cpu"})
            view = view_of(components)
            samples = stored_samples(first)
            few = samples[:MOST] if view.panels else samples
            panels[r, columns.index(cell.values[0])] = pictures.Panel(
                few, view, f"{name}: {cell.text(results.y)}{outliers(cell)}"
            )
        if truth:
            panels[r, len(columns)] = pictures.Panel(examples(components, len(few)).x0.numpy(), view, "")
    heads = [heading(results.x, value, by_column[value]) for value in columns] + ["ground truth"] * truth
    keys = ", ".join(results.hue)
    return pictures.sample_grid(panels, heads, [f"{keys} = {row}" if keys else row for row in rows])


def heading(x: str, value: object, cells: list[Cell]) -> str:
    """Of a column of samples, at this value of the key x; it says where all of them are students'."""
    students = all(result.command == "distill" for cell in cells for result in cell.results)
    return f"{x} = {shown(value)}" + ", student" * students


def outliers(cell: Cell) -> str:
    """A line that tells the mean fraction of outliers; empty where it was not measured."""
    fraction = cell.mean("metrics.outliers")
    return "" if fraction is None else f"\noutliers: {100 * fraction:.3g} %"


def stored_samples(result: Result) -> Floats:
    """The samples that a run has left."""
    file = RunDirectory(result.path).samples_file
    try:
        with np.load(file, allow_pickle=False) as content:
            return content["x0"]
    except (OSError, ValueError, KeyError):
        raise UserError("run", str(result.path), "has no samples; draw some with plots=true") from None
