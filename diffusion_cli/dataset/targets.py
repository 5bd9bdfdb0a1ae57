"""Targets of training with less noise: means over references that a noised point may come from.

A training batch noises x0, a draw of the data, to x_t = alpha x0 + sigma eps. Given a set S of draws of the data, x0
among them, and x_t, x0 has the mean

    E[x0 | x_t, S] = sum_j w_j s_j,    w_j proportional to exp(-|x_t - alpha s_j|^2 / (2 sigma^2)),

and eps the one that goes with it. Training on these means instead of the pair that was drawn has the same best denoiser,
because that is their mean given x_t, and far less noise in its gradient (Xu et al. 2023, Stable Target Field, eq. 10).
The references S are fresh draws of the data and the batch itself, or of sets of points the whole set that the points of
x0 were drawn from: there, at sigma/alpha = 0.4, it removes 99 % of the loss of stars.

The sum is attention of the noised points to the references: P x S time, but no memory of that size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.density import Density
from diffusion_cli.schedule import Level

# Least sigma/alpha, as a fraction of the extent of the references, at which float32 resolves their points in the weights.
FINEST = 2e-3
# Columns of attention's fused kernel; what is missing is filled with zeros.
LANES = 16


def averaged(
    x0: Tensor, eps: Tensor, references: Tensor, alpha: Tensor, sigma: Tensor, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The means of x0 and eps, given x_t and the references; alpha x0 + sigma eps stays what it was.

    x0, eps: (B, P, d): for each of B sets of references its P points.
    references: (B, S, d), each row's x0 among them.
    alpha, sigma: (B, 1, 1), or (B, P, 1) where each point has its own.
    allowed: (B, P, S) bool, whether a point may come from a reference; None: from all.

    Where sigma/alpha is too small to matter (FINEST) the mean is x0, and both are returned as they are. Proved by
    tests/test_targets.py, against sums in double precision.
    """
    x_t = alpha * x0 + sigma * eps
    ratio = sigma / alpha
    middle = references.mean(1, keepdim=True)
    points = references - middle
    squares = points.square().sum(-1, keepdim=True)
    fine = ratio < FINEST * squares.amax(1, keepdim=True).sqrt()
    query = torch.cat((x_t / alpha - middle, torch.ones_like(x_t[..., :1])), -1) / ratio**2
    key = torch.cat((points, squares / -2), -1)
    lanes = (-query.shape[-1]) % LANES
    query, key, value = (F.pad(part, (0, lanes)).unsqueeze(1) for part in (query, key, F.pad(points, (0, 1))))
    mask = None if allowed is None else allowed.unsqueeze(1)
    mean = (
        F.scaled_dot_product_attention(query, key, value, mask, scale=1.0)[:, 0, :, : x0.shape[-1]] + middle
    )
    mean = torch.where(fine, x0, mean)
    return mean, (x_t - alpha * mean) / sigma


def stable(
    x0: Tensor, eps: Tensor, more: Batch, level: Level, label: Tensor | None = None, num_classes: int = 0
) -> tuple[Tensor, Tensor]:
    """The means of x0 and eps over further points and the batch's own, of the same label where there are labels.

    x0, eps: (B, *shape).
    more: the further points.
    level: of the batch.
    label: (B,) int64, or None; num_classes means "no label", for which every reference counts.
    num_classes: number of labels.
    """
    allowed = None
    if label is not None and more.label is not None:
        theirs = torch.cat((more.label, label))
        allowed = ((label[:, None] == theirs) | (label[:, None] == num_classes)).unsqueeze(0)
    references = torch.cat((more.x0, x0))
    parts = [part.flatten(1).unsqueeze(0) for part in (x0, eps, references, level.alpha, level.sigma)]
    mean, noise = averaged(parts[0], parts[1], parts[2], parts[3], parts[4], allowed)
    return mean.view_as(x0), noise.view_as(eps)


def exact(
    x0: Tensor, eps: Tensor, density: Density, level: Level, label: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The means of x0 and eps under the density of the data: what `stable` estimates."""
    x_t = level.alpha * x0 + level.sigma * eps
    mean = density.posterior_mean(x_t, level.alpha, level.sigma, label)
    return mean, (x_t - level.alpha * mean) / level.sigma


def coupled(x0: Tensor, eps: Tensor, label: Tensor | None = None) -> Tensor:
    """eps (B, *shape) in the order in which it is nearest to x0, by the sum of squares; within each class where there are
    labels, so that the noise says nothing of the class (Cheng & Schwing 2025, The curse of conditions)."""
    # Here: half a second, which no other training should wait for.
    from scipy.optimize import linear_sum_assignment

    order = torch.empty(len(x0), dtype=torch.int64)
    labels = torch.zeros(len(x0)) if label is None else label.cpu()
    points, noise = (part.flatten(1).double().cpu() for part in (x0, eps))
    for rows in ((labels == k).nonzero()[:, 0] for k in labels.unique()):
        _, columns = linear_sum_assignment(-(points[rows] @ noise[rows].T).numpy())
        order[rows] = rows[torch.from_numpy(columns)]
    return eps[order.to(eps.device)]
