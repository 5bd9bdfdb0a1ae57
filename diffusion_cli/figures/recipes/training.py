"""Figures of a training: its loss, samples drawn in its course, and metrics measured in its course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.figures import curves
from diffusion_cli.figures.animation import evenly
from diffusion_cli.figures.recipes.material import run_of, view_of
from diffusion_cli.metrics.catalogue import label_of
from diffusion_cli.noise import Stream
from diffusion_cli.objective import Objective
from diffusion_cli.ranges import Count, Many, checked
from diffusion_cli.runs.rows import read_csv

FLOOR = "_floor"


@checked
def loss(components: Components, floor_draws: Many = 20_000) -> Figure:
    """The training loss over steps, above what the exact denoiser keeps where that is known.

    floor_draws: samples that estimate the loss of the exact denoiser.
    """
    run = run_of(components)
    if not run.metrics_file.is_file():
        raise UserError("run", str(run.path), "has no metrics.csv")
    columns = read_csv(run.metrics_file)
    return curves.loss_curve(columns["step"], columns["loss"], loss_floor(components, floor_draws))


def loss_floor(components: Components, n: int) -> float | None:
    """The training loss of the exact denoiser, to which the curve can fall at best; None where it is not known, as where
    noise is coupled to points: then less of it is left to guess.

    n: samples, at least; they come in batches like those of training, over which stable targets are means.
    """
    c = components
    if c.dataset.density is None or not isinstance(c.objective, Objective):
        return None
    if c.objective.loss != "mse" or c.objective.coupling != "independent":
        return None
    batches = replace(c.batches, stream=Stream.LOSS_FLOOR)
    exact, steps = ExactDenoiser(c.dataset.density, c.schedule), -(-n // batches.size)
    with torch.no_grad():
        losses = [
            c.objective.irreducible(exact, c.parameterization, batches(step, shard))
            for step in range(steps)
            for shard in range(batches.shards)
        ]
    return float(torch.cat(losses).mean())


@checked
def stages(components: Components, n: Many | None = None, columns: Count = 6) -> Figure | None:
    """Samples drawn in the course of training, always from the same noise; nothing where the run has kept none.

    n: samples; null: all points, or 6 sets or images.
    columns: training steps shown, evenly chosen.
    """
    kept, view = run_of(components).stages(), view_of(components)
    if not kept:
        return None
    steps = [list(kept)[i] for i in evenly(len(kept), columns)]
    n = n or (6 if view.panels else None)
    return view.strip([kept[step][:n] for step in steps], [f"step {step:,}" for step in steps])


@checked
def metric_curve(components: Components, metrics: Sequence[str] | None = None) -> Figure | None:
    """The metrics measured in the course of training (keys `monitor`), with their floors; nothing where there are none.

    metrics: names in evaluations.csv, such as frechet, in this order; null: all.
    """
    run = run_of(components)
    columns = read_csv(run.evaluations_file) if run.evaluations_file.is_file() else {}
    if not columns:
        return None
    measured = [name for name in columns if name != "step" and not name.endswith(FLOOR)]
    for name in metrics or ():
        if name not in measured:
            raise ArgumentError("metrics", name, "was not measured during training", measured)
    shown = {
        label_of(name): (
            columns[name],
            float(np.mean(columns[name + FLOOR])) if name + FLOOR in columns else None,
        )
        for name in metrics or measured
    }
    return curves.metric_curves(columns["step"], shown)
