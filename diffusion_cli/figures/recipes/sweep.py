"""Figures of many runs: `plot figure=sweep sweep=DIR x=KEY y=NUMBER hue=KEY`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_cli.components import build
from diffusion_cli.errors import UserError
from diffusion_cli.figures import sweep as pictures
from diffusion_cli.figures.recipes.plane import truth
from diffusion_cli.runs import results as gather
from diffusion_cli.runs.directory import Run
from diffusion_cli.runs.results import Comparison, Result

if TYPE_CHECKING:
    pass


def metric(results: Comparison) -> Any:
    """A number of each run's summary over a swept key, mean and standard deviation over seeds."""
    asked = results
    y, lines = asked.y, {}
    for name, cells in asked.by_hue().items():
        runs = [[result.numbers[y] for result in cell.results if y in result.numbers] for cell in cells]
        lines[name] = pictures.Line(
            [cell.values[0] for cell in cells],
            [cell.mean(y) for cell in cells],
            [math.nan if cell.std(y) is None else cell.std(y) for cell in cells],
            runs,
            [math.nan if cell.mean(f"{y}.floor") is None else cell.mean(f"{y}.floor") for cell in cells],
        )
    return pictures.metric_lines(lines, asked.x, y.removeprefix("metrics."), ", ".join(asked.hue) or None)


def grid(results: Comparison) -> Any:
    """Samples of one run for each pair of values of x (columns) and hue (rows), under their metric's mean over seeds."""
    asked = results
    rows = asked.by_hue()
    columns = sorted({cell.values[0] for cells in rows.values() for cell in cells}, key=gather.place)
    panels, name = {}, asked.y.removeprefix("metrics.")
    for r, cells in enumerate(rows.values()):
        for cell in cells:
            first = min(cell.results, key=lambda result: gather.place(result.keys.get("seed")))
            samples = _samples(first)
            outline = truth(build(first.config | {"device": "cpu"})) if samples.ndim == 2 else None
            panels[r, columns.index(cell.values[0])] = pictures.Panel(
                samples, outline, f"{name}: {cell.text(asked.y)}"
            )
    heads = [f"{asked.x} = {gather.show(value)}" for value in columns]
    keys = ", ".join(asked.hue)
    return pictures.sample_grid(panels, heads, [f"{keys} = {row}" if keys else row for row in rows])


def _samples(result: Result) -> np.ndarray:
    file = Run(result.path).samples_file
    try:
        with np.load(file, allow_pickle=False) as content:
            samples = content["x0"]
    except (OSError, ValueError, KeyError):
        raise UserError("run", str(result.path), "has no samples; draw some with plots=true") from None
    if samples.ndim not in (2, 4) or (samples.ndim == 2 and samples.shape[1] > 2):
        raise UserError("figure", "sweep_grid", "shows points in the plane or images")
    return samples
