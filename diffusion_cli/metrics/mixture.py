"""Samples of a mixture, mode by mode: weight, mean and width of each against the truth, and points in a wrong mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.points import Points
from diffusion_cli.metrics.catalogue import ATOMS, MIXTURE
from diffusion_cli.metrics.floors import kept
from diffusion_cli.metrics.measurement import Measurement, aligned, beside_floor
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.ranges import Facts

VERSION = 1  # of what `mode_errors` computes: with another one no floor is taken from the cache
ROUNDING = 1e-6  # a floor below this is nothing to divide by
SHARP = 1e-3  # width by which atoms (jitter = 0) are distinguished, as a fraction of their extent


class Modes(NamedTuple):
    """K modes in D dimensions, float64: weight (K,), mean (K, D), width (K, D)."""

    weight: Tensor
    mean: Tensor
    width: Tensor

    @classmethod
    def of_density(cls, density: Points) -> Modes:
        mean = density.points.flatten(1)
        return cls(density.weights, mean, torch.full_like(mean, density.jitter))


def mode_posterior(density: Points, x: Tensor) -> Tensor:
    """p(mode k | x0 = x), (n, K), by Bayes' rule; for atoms the nearest one."""
    if density.jitter:
        return density.class_posterior(x, 1.0, 0.0).exp()
    return density.class_posterior(x, 1.0, SHARP * float(density.points.abs().max() + 1e-6)).exp()


def measure_modes(density: Points, x: Tensor) -> Modes:
    """Weight, mean and standard deviation along each axis of the modes in samples x (n, *shape).

    Each point counts for each mode with its posterior probability r_k(x):

        weight_k = E r_k,   mean_k = E[r_k x] / weight_k,   width_k^2 = E[r_k (x - mean_k)^2] / weight_k,

    which for true samples are those of the distribution in expectation, even where modes overlap. A mode without any points
    has mean and width nan.
    """
    rows = x.flatten(1).double()
    r = mode_posterior(density, x.double())
    total = r.sum(0)
    mean = r.T @ rows / total[:, None]
    variance = r.T @ rows.square() / total[:, None] - mean.square()
    return Modes(total / len(rows), mean, variance.clamp(min=0).sqrt())


def wrong_mode(density: Points, x: Tensor, label: Tensor) -> float:
    """Fraction of the samples whose most probable mode is not that of their label (n,), one for each sample."""
    return float((mode_posterior(density, x.double()).argmax(1) != label).double().mean())


def mode_errors(density: Points, x: Tensor, label: Tensor | None = None) -> dict[str, float]:
    """Errors of samples x (n, *shape) as one number each, 0 = perfect but for width_ratio, where that is 1.

    label: (n,), which counts where each sample has one.

    * weight_error: total variation distance sum |weight_k - true| / 2. Of samples for given labels the true weights
      are the fractions of these labels.
    * mean_error: root mean square over modes of |mean_k - true|; only modes with points.
    * width_ratio: pooled width, sqrt(sum_k weight_k mean_d width_kd^2), by the true one; of atoms the pooled width.
    * wrong_mode: see `wrong_mode`; only with labels.
    """
    ours, true = measure_modes(density, x), Modes.of_density(density)
    # What has no label has the number of modes for one.
    if label is not None and int(label.max()) >= len(true.weight):
        label = None
    weight = true.weight if label is None else torch.bincount(label, minlength=len(true.weight)) / len(label)
    there = ours.weight > 0.5 / len(x)
    pooled = (ours.weight[there] * ours.width[there].square().mean(1)).sum().sqrt()
    errors = {
        "weight_error": float((ours.weight - weight).abs().sum() / 2),
        "mean_error": float((ours.mean - true.mean)[there].square().sum(1).mean().sqrt()),
        "width_ratio": float(pooled / (density.jitter or 1.0)),
    }
    return errors if label is None else errors | {"wrong_mode": wrong_mode(density, x, label)}


def evaluate_modes(
    batches: Sequence[Batch],
    density: Points,
    n: int,
    floor_draws: int,
    generator: torch.Generator,
    progress: Progress = silent,
) -> dict[str, Measurement]:
    """The `mode_errors` of several sets of n samples, beside those of as large sets of true ones.

    floor_draws: true sets, drawn by `generator`. They are measured once: see `metrics.floors`.
    progress: a bar over them.
    """

    def measure(batch: Batch) -> dict[str, float]:
        return mode_errors(density, batch.x0, batch.label)

    ours = [measure(batch) for batch in batches]
    true = [density.sample(n, generator) for _ in range(floor_draws)]
    about = {"of": "modes", "version": VERSION, "points": density.points, "weights": density.weights,
             "jitter": density.jitter}  # fmt: skip
    floors = kept(about, true, lambda _: [*map(measure, true)], progress)
    report = {}
    for metric in MIXTURE if density.jitter else ATOMS:
        if metric.name in ours[0]:
            values, floor = ([result[metric.name] for result in results] for results in (ours, floors))
            report[metric.name] = beside_floor(metric, values, floor, n, ROUNDING)
    return report


def describe_modes(density: Points, sets: Sequence[Tensor]) -> list[Facts]:
    """For each mode its weight, mean and width in each set of samples, averaged, and the truth: plain values."""
    each = [measure_modes(density, x) for x in sets]
    ours = {name: torch.stack([getattr(modes, name) for modes in each]).mean(0) for name in Modes._fields}
    true = Modes.of_density(density)._asdict()
    columns = ours | {f"true_{name}": column for name, column in true.items()}
    return [
        {name: column[k].tolist() for name, column in columns.items()} for k in range(len(true["weight"]))
    ]


def modes_table(modes: Sequence[Facts]) -> str:
    """The list of `describe_modes` as lines of text: each number with the truth in brackets."""

    def text(value: float | list[float]) -> str:
        return " ".join(f"{v:.4f}" for v in np.atleast_1d(value))

    head = ("mode", *(f"{name} (truth)" for name in Modes._fields))
    rows = [
        (str(k), *(f"{text(mode[name])} ({text(mode[f'true_{name}'])})" for name in Modes._fields))
        for k, mode in enumerate(modes)
    ]
    return aligned(head, rows)
