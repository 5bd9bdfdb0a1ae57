"""One step of the reverse process: the Gaussian x_s | x_t, x0 for s < t, which training, sampling and bounds share.

x_s = a x0 + b x_t + std z,    z ~ N(0, 1)                                    (Ho et al. 2020, eq. 7)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.schedule import Level


class Posterior(NamedTuple):
    """q(x_s | x_t, x0) = N(of_x0 x0 + of_x_t x_t, variance), for levels s < t; t - s may be any stretch of time."""

    of_x0: Tensor
    of_x_t: Tensor
    variance: Tensor


def posterior(now: Level, then: Level) -> Posterior:
    """The posterior from t (now) to s (then): variance (sigma_s^2 / sigma_t^2)(1 - alpha_t^2 / alpha_s^2)."""
    kept = (then.sigma / now.sigma) ** 2
    jump = jump_variance(now, then)
    ratio = now.alpha / then.alpha
    return Posterior(then.alpha * jump / now.sigma**2, ratio * kept, kept * jump)


def jump_variance(now: Level, then: Level) -> Tensor:
    """beta of the step from s to t, 1 - alpha_t^2 / alpha_s^2: the variance of x_t | x_s.

    Written with the sigmas, which keep their digits where alpha is nearly 1.
    """
    return now.sigma**2 - (now.alpha / then.alpha * then.sigma) ** 2


def learned_variance(share: Tensor, now: Level, then: Level) -> Tensor:
    """exp(share log beta + (1 - share) log posterior variance) (Nichol & Dhariwal 2021, eq. 15).

    At t = 1, where the posterior has none, a thousandth of beta stands for it.
    """
    high = jump_variance(now, then)
    low = torch.maximum(posterior(now, then).variance, high / 1000)
    return torch.exp(share * high.log() + (1 - share) * low.log())


def step_bound(error: Tensor, variance: Tensor, level: Level) -> Tensor:
    """L_{t-1} of each coordinate, in nats: KL(q(x_{t-1} | x_t, x0) || N(mean, variance)) (Ho et al. 2020, eq. 5), where
    error = x0 - predicted x0. At t = 1, where q is a point, -log N(x0; mean, variance)."""
    before = level.before
    q = posterior(level, before)
    first = before.sigma < 1e-3 * level.sigma  # t = 1: in float32 the sigma before it is not exactly 0
    apart = (q.of_x0 * error) ** 2
    kl = ((q.variance + apart) / variance - 1 - (q.variance.clamp(min=1e-38) / variance).log()) / 2
    return torch.where(first, (apart / variance + (2 * math.pi * variance).log()) / 2, kl)
