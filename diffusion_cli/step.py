"""One step of the reverse process: the Gaussian x_s | x_t, x0 for s < t, which training, sampling and bounds share.

x_s = a x0 + b x_t + std z,    z ~ N(0, 1)                                    (Ho et al. 2020, eq. 7)
"""

from __future__ import annotations

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
    """beta of the step from s to t, 1 - alpha_t^2 / alpha_s^2: the variance of x_t | x_s."""
    return 1 - (now.alpha / then.alpha) ** 2


def learned_variance(share: Tensor, now: Level, then: Level) -> Tensor:
    """exp(share log beta + (1 - share) log posterior variance) (Nichol & Dhariwal 2021, eq. 15).

    At t = 1, where the posterior has none, a thousandth of beta stands for it.
    """
    high = jump_variance(now, then)
    low = torch.maximum(posterior(now, then).variance, high / 1000)
    return torch.exp(share * high.log() + (1 - share) * low.log())
