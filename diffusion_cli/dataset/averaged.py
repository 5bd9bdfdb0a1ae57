"""Noised points averaged over where they may have come from: targets of training without the chance of single points.

Points of a set are drawn from a larger collection of it. Of x_t = alpha x0 + sigma eps alone, and the collection S that
x0 was drawn from, x0 has the mean

    E[x0 | x_t, S] = sum_j w_j s_j,    w_j proportional to exp(-|x_t - alpha s_j|^2 / (2 sigma^2)),

and eps the one that goes with it. Training on these means instead of the pair that was drawn has the same best denoiser,
because that is their mean given all the points, and far less noise in its gradient (stable targets, Xu et al. 2023, eq.
10, with S known): of the loss of stars at sigma/alpha = 0.4 it removes 99 %. Points drawn without replacement, as those
of a batch are, depend on each other a little; the weights take them as drawn with it.

The sum is attention of the noised points to the collection, so it takes P x S time and, as torch does that, no such room.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FINEST = 2e-3  # of the extent of the collection: for less noise float32 does not tell its points apart in the weights
LANES = 16  # of attention's fused kernel; the rest is filled with zeros


def averaged(x0: Tensor, eps: Tensor, source: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The means of x0 and eps (B, P, d) given x_t and `source` (B, S, d), from which each row's x0 were drawn.

    alpha, sigma: (B, 1, 1). alpha x0 + sigma eps stays what it was. Sets with too little noise to tell are returned
    as they are: there the mean is x0. Proved by tests/test_averaged.py, against sums in double precision.
    """
    x_t = alpha * x0 + sigma * eps
    ratio = sigma / alpha
    middle = source.mean(1, keepdim=True)
    points = source - middle
    squares = points.square().sum(-1, keepdim=True)
    fine = ratio < FINEST * squares.amax(1, keepdim=True).sqrt()
    query = torch.cat((x_t / alpha - middle, torch.ones_like(x_t[..., :1])), -1) / ratio**2
    key = torch.cat((points, squares / -2), -1)
    lanes = (-query.shape[-1]) % LANES
    filled = (F.pad(part, (0, lanes)).unsqueeze(1) for part in (query, key, F.pad(points, (0, 1))))
    mean = F.scaled_dot_product_attention(*filled, scale=1.0)[:, 0, :, : x0.shape[-1]] + middle
    mean = torch.where(fine, x0, mean)
    return mean, (x_t - alpha * mean) / sigma
