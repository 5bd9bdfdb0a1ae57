"""Targets of training for sets of points: means over all points that a noised one may come from (stable targets).

The points of a training batch are drawn from a larger collection S. Given S and x_t = alpha x0 + sigma eps, x0 has the
mean

    E[x0 | x_t, S] = sum_j w_j s_j,    w_j proportional to exp(-|x_t - alpha s_j|^2 / (2 sigma^2)),

and eps the one that goes with it. Training on these means instead of the pair that was drawn has the same best denoiser,
because that is their mean given all the points, and far less noise in its gradient (Xu et al. 2023, Stable Target Field,
eq. 10, with S in place of the reference batch): of the loss of stars at sigma/alpha = 0.4 it removes 99 %. The points of
a batch are drawn without replacement and so depend on each other a little; the weights take them as drawn with it.

The sum is attention of the noised points to the collection: P x S time, but no memory of that size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Least sigma/alpha, as a fraction of the extent of the collection, at which float32 resolves its points in the weights.
FINEST = 2e-3
# Columns of attention's fused kernel; what is missing is filled with zeros.
LANES = 16


def averaged(x0: Tensor, eps: Tensor, source: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The means of x0 and eps, given x_t and the collection; alpha x0 + sigma eps stays what it was.

    x0, eps: (B, P, d).
    source: (B, S, d), the collection from which each row's x0 were drawn.
    alpha, sigma: (B, 1, 1).

    Where sigma/alpha is too small to matter (FINEST) the mean is x0, and both are returned as they are. Proved by
    tests/test_averaged.py, against sums in double precision.
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
    query, key, value = (F.pad(part, (0, lanes)).unsqueeze(1) for part in (query, key, F.pad(points, (0, 1))))
    mean = F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0, :, : x0.shape[-1]] + middle
    mean = torch.where(fine, x0, mean)
    return mean, (x_t - alpha * mean) / sigma
