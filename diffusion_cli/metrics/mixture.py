"""Samples of a mixture, mode by mode: weight, mean and width of each against the truth, and points in a wrong mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.points import Points

SHARP = 1e-3  # width by which atoms (jitter = 0) are told apart, as a share of their extent


class Modes(NamedTuple):
    """What is known of K modes in D dimensions, float64: weight (K,), mean (K, D), width (K, D)."""

    weight: Tensor
    mean: Tensor
    width: Tensor

    @classmethod
    def of_law(cls, density: Points) -> Modes:
        mean = density.points.flatten(1)
        return cls(density.weights, mean, torch.full_like(mean, density.jitter))


def posterior(density: Points, x: Tensor) -> Tensor:
    """p(mode k | x0 = x), (n, K), by Bayes' rule; for atoms the nearest one."""
    if density.jitter:
        return density.class_posterior(x, 1.0, 0.0).exp()
    return density.class_posterior(x, 1.0, SHARP * float(density.points.abs().max() + 1e-6)).exp()


def measure(density: Points, x: Tensor) -> Modes:
    """Weight, mean and standard deviation along each axis of the modes in samples x (n, *shape).

    Each point counts for each mode with its posterior probability r_k(x):

        weight_k = E r_k,   mean_k = E[r_k x] / weight_k,   width_k^2 = E[r_k (x - mean_k)^2] / weight_k,

    which for true samples are those of the law in expectation, even where modes overlap. A mode without any points
    has mean and width nan.
    """
    rows = x.flatten(1).double()
    share = posterior(density, x.double())
    total = share.sum(0)
    mean = share.T @ rows / total[:, None]
    square = share.T @ rows.square() / total[:, None] - mean.square()
    return Modes(total / len(rows), mean, square.clamp(min=0).sqrt())


def wrong_mode(density: Points, x: Tensor, label: Tensor) -> float:
    """Share of the samples whose most probable mode is not their label's."""
    return float((posterior(density, x.double()).argmax(1) != label).double().mean())


def compare(density: Points, x: Tensor, label: Tensor | None = None) -> dict[str, float]:
    """Errors of samples x (n, *shape) as one number each, 0 = perfect but for width_ratio, where that is 1.

    * weight_error: total variation distance sum |weight_k - true| / 2. Of a labelled law with samples for given
      labels the true weights are the labels' own shares.
    * mean_error: root mean square over modes of |mean_k - true|; only modes with points.
    * width_ratio: pooled width, sqrt(sum_k weight_k mean_d width_kd^2), by the true one; of atoms the pooled width.
    * wrong_mode: see `wrong_mode`; only with labels.
    """
    ours, true = measure(density, x), Modes.of_law(density)
    weight = true.weight if label is None else torch.bincount(label, minlength=len(true.weight)) / len(label)
    there = ours.weight > 0.5 / len(x)
    pooled = (ours.weight[there] * ours.width[there].square().mean(1)).sum().sqrt()
    errors = {
        "weight_error": float((ours.weight - weight).abs().sum() / 2),
        "mean_error": float((ours.mean - true.mean)[there].square().sum(1).mean().sqrt()),
        "width_ratio": float(pooled / (density.jitter or 1.0)),
    }
    return errors if label is None else errors | {"wrong_mode": wrong_mode(density, x, label)}


def describe(density: Points, sets: list[Tensor]) -> list[dict[str, Any]]:
    """For each mode its weight, mean and width in each set of samples, averaged, and the truth: plain values."""
    true, ours = Modes.of_law(density), [measure(density, x) for x in sets]
    average = Modes(*(torch.stack(field).mean(0) for field in zip(*ours, strict=True)))
    return [
        {name: getattr(average, name)[k].tolist() for name in Modes._fields}
        | {f"true_{name}": getattr(true, name)[k].tolist() for name in Modes._fields}
        for k in range(len(true.weight))
    ]


def modes_table(modes: list[dict[str, Any]]) -> str:
    """The list of `describe` as lines of text: each number with the truth in brackets."""

    def text(value: float | list[float]) -> str:
        return " ".join(f"{v:.4f}" for v in np.atleast_1d(value))

    head = ("mode", *(f"{name} (truth)" for name in Modes._fields))
    rows = [
        (str(k), *(f"{text(mode[name])} ({text(mode[f'true_{name}'])})" for name in Modes._fields))
        for k, mode in enumerate(modes)
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in (head, *rows)
    )
