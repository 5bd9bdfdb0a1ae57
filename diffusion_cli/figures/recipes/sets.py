"""Figures of whole sets of points: data, samples, their nearest neighbours, chains and training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli.errors import UserError
from diffusion_cli.figures import sets
from diffusion_cli.figures.recipes.plane import chain, of_run
from diffusion_cli.metrics.sets import chamfer
from diffusion_cli.noise import NoiseStream

if TYPE_CHECKING:
    from diffusion_cli.components import Components

NEIGHBOUR_POINTS = 256  # of each set, when nearest neighbours are looked for


def true_sets(components: Components, figure: str, n: int | None = None) -> np.ndarray:
    """The first n training sets (n, p, 2), at most as many points in each as a generated one has."""
    dataset = components.dataset
    if len(dataset.shape) != 2 or not hasattr(dataset, "train"):
        raise UserError("figure", figure, "draws sets of points, which this dataset does not hold")
    return dataset.train[:n, : dataset.shape[0]].cpu().numpy()


def data(components: Components, n: int, columns: int) -> Any:
    """n sets of the data."""
    return sets.grid(true_sets(components, "set_data", n), columns)


def samples(components: Components, n: int, columns: int) -> Any:
    """The first n samples of this config."""
    truth = true_sets(components, "sets")
    return sets.grid(components.samples[0][:n], columns, truth)


def nearest(components: Components, n: int, neighbours: int, pairs_in_row: int) -> Any:
    """The first n samples of this config, each beside the training sets nearest to it by Chamfer distance.

    Sets of the data are what they are: where training turns them at random, a neighbour may lie at another angle.
    """
    truth = true_sets(components, "nearest_sets")
    ours = components.samples[0][:n]
    distance = chamfer(ours[:, :NEIGHBOUR_POINTS], truth[:, :NEIGHBOUR_POINTS])
    order = np.argsort(distance, 1)[:, :neighbours]
    return sets.beside_nearest(
        ours, [truth[row] for row in order], np.take_along_axis(distance, order, 1).tolist(), pairs_in_row
    )


def forward_strip(components: Components, n: int, percents: list[float]) -> Any:
    """x_t of n training sets at these percents of T, always with the same noise."""
    truth = true_sets(components, "set_forward")
    x0, T = torch.as_tensor(truth[:n]), components.schedule.T
    eps = NoiseStream(components.seed, len(x0), x0.shape[1:])()
    times = [round(percent / 100 * T) for percent in percents]
    levels = [components.schedule.level(t, like=x0) for t in times]
    columns = [(level.alpha * x0 + level.sigma * eps).numpy() for level in levels]
    return sets.strip(list(zip(*columns, strict=True)), times, truth)


def reverse_strip(components: Components, n: int, columns: int) -> Any:
    """The chains of n sets from noise to data: `columns` states, evenly chosen, the last being x_0."""
    truth = true_sets(components, "set_reverse")
    times, states = chain(components, n)
    chosen = _evenly(len(times), columns)
    return sets.strip([[states[i, j] for i in chosen] for j in range(n)], [times[i] for i in chosen], truth)


def stages(components: Components, n: int, columns: int) -> Any:
    """What n sets became in the course of training, from the same noise; `columns` evenly chosen steps."""
    kept = of_run(components, "set_stages").stages()
    truth = true_sets(components, "set_stages")
    if not kept:
        return None
    steps = [list(kept)[i] for i in _evenly(len(kept), columns)]
    return sets.stages(
        [[kept[step][j] for step in steps] for j in range(min(n, len(kept[steps[0]])))], steps, truth
    )


def _evenly(count: int, chosen: int) -> np.ndarray:
    """At most `chosen` indices below `count`, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, chosen).round().astype(int))
