"""Figures of clean data: the data themselves, samples of a run, and which of the data these are nearest to."""

from __future__ import annotations

import logging

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_cli.components import Components
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.errors import UserError
from diffusion_cli.figures import images, sets
from diffusion_cli.figures.kinds import draws
from diffusion_cli.figures.points import beside_nearest_points
from diffusion_cli.figures.recipes.material import examples, label_names, view_of
from diffusion_cli.figures.space import Floats
from diffusion_cli.metrics.memory import COPY, nearest_examples, ratio_of_two
from diffusion_cli.metrics.sets import chamfer
from diffusion_cli.noise import NoiseStream
from diffusion_cli.ranges import Count, Many, checked

log = logging.getLogger(__name__)
# Points of a scatter plot; more are drawn over each other, and take minutes.
MOST_POINTS = 100_000
# Points of each set, when nearest neighbours are looked for.
NEIGHBOUR_POINTS = 256


@checked
def data(components: Components, n: Many | None = None, columns: Count = 8) -> Figure:
    """Examples of the data.

    n: examples; null: 5,000 points, or 32 sets or images.
    columns: of sets or images.
    """
    view = view_of(components)
    batch = examples(components, n or (32 if view.panels else 5000))
    names = label_names(components, batch.label)
    return view.grid(
        components.units.array(batch.x0), names, columns, f"{len(batch.x0):,} points of the data"
    )


@checked
def samples(components: Components, n: Many | None = None, columns: Count = 8) -> Figure:
    """The first samples of a run, beside the ground truth where it is known.

    n: samples shown; null: the points, at most 100,000 of them, or 64 sets or images.
    columns: of sets or images.
    """
    view = view_of(components)
    x0, label = components.samples
    n = n or (64 if view.panels else min(len(x0), MOST_POINTS))
    if n < components.config["n"] and not view.panels:
        log.info("the figure shows the first %d of %d samples", n, components.config["n"])
    return view.grid(x0[:n], label_names(components, None if label is None else label[:n]), columns)


@checked
def noise(components: Components, n: Many | None = None) -> Figure:
    """The noise x_T that samples are made from, and these samples.

    n: samples; null: 2,000 points, or 8 sets or images.
    """
    view = view_of(components)
    n = n or (8 if view.panels else 2000)
    x0, label = components.samples
    x_T = components.units.array(NoiseStream(components.seed, len(x0), components.dataset.shape)())
    names = label_names(components, None if label is None else label[:n])
    return view.compare({"noise": x_T[:n], "samples": x0[:n]}, names, wide=True)


@draws("plane", "sets", "images")
@checked
def nearest(
    components: Components, n: Many | None = None, neighbours: Count = 1, pairs_in_row: Count | None = None
) -> Figure:
    """The first samples of a run, each with the training examples that are nearest to it: sets by Chamfer distance, points and
    images also with its ratio to the distance of the next (below 1/3: a copy).

    Examples are as they are stored: where training turns or mirrors them at random, a neighbour may do so, too.

    n: samples; null: 500 points, or 16 sets or images.
    neighbours: training sets beside each; of points and images one.
    pairs_in_row: samples in a row of the figure; null: 4 sets or 8 images.
    """
    dataset = components.dataset
    lots = dataset.examples()
    if lots is None:
        reason = "needs examples that stay the same; here each is drawn anew"
        raise UserError("figure", "nearest", reason, ("dataset.n=256",))
    x0 = components.samples[0][: n or (500 if dataset.kind == "plane" else 16)]
    if dataset.kind == "images":
        return _nearest_images(dataset, x0, pairs_in_row or 8)
    data = components.units.array(torch.cat([*lots]))
    if dataset.kind == "plane":
        near, rows = nearest_examples(torch.from_numpy(x0), [torch.from_numpy(data)])
        return beside_nearest_points(x0, data, rows[:, 0].numpy(), ratio_of_two(near).numpy() < COPY)
    truth = data[:, : dataset.shape[0]]
    distance = chamfer(x0[:, :NEIGHBOUR_POINTS], truth[:, :NEIGHBOUR_POINTS])
    order = np.argsort(distance, 1)[:, :neighbours]
    distances = np.take_along_axis(distance, order, 1).tolist()
    return sets.beside_nearest(list(x0), [truth[row] for row in order], distances, pairs_in_row or 4)


def _of_examples(dataset: Dataset, rows: Tensor) -> Tensor:
    """Some of the training examples, without all of them in memory."""
    found, first = torch.empty(len(rows), *dataset.shape), 0
    for lot in dataset.examples() or ():
        here = (rows >= first) & (rows < first + len(lot))
        found[here] = lot[rows[here] - first]
        first += len(lot)
    return found


def _nearest_images(dataset: Dataset, x0: Floats, in_row: int) -> Figure:
    near, rows = nearest_examples(torch.from_numpy(x0), dataset.examples() or ())
    examples, ratios = _of_examples(dataset, rows[:, 0]).numpy(), ratio_of_two(near)
    panels, titles, names = [], [], []
    for i in range(0, len(x0), in_row):
        part = slice(i, i + in_row)
        panels += [[*x0[part]], [*examples[part]]]
        titles += [
            [],
            [f"{ratio:.2f}" + (" copy" if ratio < COPY else "") for ratio in ratios[part].tolist()],
        ]
        names += ["sample", "nearest"]
    return images.page(panels, titles, names)
