"""The forward process, and the Gaussian steps back that training, sampling and bounds share.

    q(x_t | x_s)      = N(r x_s, (1 - r^2) I),  r = alpha_t / alpha_s          (Ho et al. 2020, eq. 2 and 4)
    q(x_s | x_t, x_0) = N(a x_0 + b x_t, v I),  a, b, v of `posterior`         (eq. 6 and 7)

for any times s < t; s = 0 makes the first the jump from the clean point, s = t - 1 a single step (r^2 = 1 - beta_t).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.noise import Noise
from diffusion_cli.schedule import Level, Schedule


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


def learned_variance(weight: Tensor, now: Level, then: Level) -> Tensor:
    """exp(v log beta + (1 - v) log posterior variance), v the interpolation weight (Nichol & Dhariwal 2021, eq. 15).

    At t = 1, where the posterior has no variance, a thousandth of beta stands for it.
    """
    high = jump_variance(now, then)
    low = torch.maximum(posterior(now, then).variance, high / 1000)
    return torch.exp(weight * high.log() + (1 - weight) * low.log())


def step_bound(error: Tensor, variance: Tensor, level: Level) -> Tensor:
    """L_{t-1} of each coordinate, in nats: KL(q(x_{t-1} | x_t, x0) || N(mean, variance)) (Ho et al. 2020, eq. 5).

    error: x0 - predicted x0, like x.
    variance: of the model's step from t to t - 1, broadcastable to x.
    level: at t. At t = 1, where q is a point, the result is -log N(x0; mean, variance).
    """
    before = level.before
    q = posterior(level, before)
    # t = 1: in float32 the sigma before it is not exactly 0.
    first = before.sigma < 1e-3 * level.sigma
    square = (q.of_x0 * error) ** 2
    kl = ((q.variance + square) / variance - 1 - (q.variance.clamp(min=1e-38) / variance).log()) / 2
    return torch.where(first, (square / variance + (2 * math.pi * variance).log()) / 2, kl)


class Gaussian(NamedTuple):
    """N(mean, variance I): mean like x, variance a tensor that broadcasts against it."""

    mean: Tensor
    variance: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """The sample made from this standard normal `noise`, shaped like the mean."""
        return self.mean + self.variance.sqrt() * noise


def forward_distribution(
    schedule: Schedule, x_s: Tensor, t: float | Tensor, s: float | Tensor = 0
) -> Gaussian:
    """q(x_t | x_s), s < t. s = 0: the jump from x_0; s = t - 1: one step.

    x_s: (B, *shape).
    t, s: numbers or (B,).

    >>> forward_distribution(schedule, x_0, 30).draw(noise)
    """
    now, then = schedule.level(t, like=x_s), schedule.level(s, like=x_s)
    return Gaussian(now.alpha / then.alpha * x_s, jump_variance(now, then))


def reverse_distribution(
    schedule: Schedule, x_t: Tensor, x0: Tensor, t: float | Tensor, s: float | Tensor | None = None
) -> Gaussian:
    """q(x_s | x_t, x_0), the exact reverse step where x_0 is known. At s = 0 it is x_0 itself, with variance 0.

    x_t, x0: (B, *shape).
    t: a number or (B,).
    s: a time before t; None for t - 1.

    Proved by tests/test_forward.py (Bayes' rule on the forward distributions).
    """
    now, then = schedule.level(t, like=x_t), schedule.level(t - 1 if s is None else s, like=x_t)
    of_x0, of_x_t, variance = posterior(now, then)
    return Gaussian(of_x0 * x0 + of_x_t * x_t, variance)


def forward_chain(schedule: Schedule, x0: Tensor, noise: Noise) -> Iterator[tuple[int, Tensor]]:
    """(t, x_t) for t = 0..T, one step after the other. noise() gives standard normal numbers like x0."""
    x = x0
    yield 0, x
    for t in range(1, schedule.T + 1):
        x = forward_distribution(schedule, x, t, t - 1).draw(noise())
        yield t, x


def reverse_chain(schedule: Schedule, x_T: Tensor, x0: Tensor, noise: Noise) -> Iterator[tuple[int, Tensor]]:
    """(t, x_t) for t = T..0 by the exact reverse step towards given x0 (B, *shape): where the chain ends is x0."""
    x = x_T
    yield schedule.T, x
    for t in range(schedule.T, 0, -1):
        x = reverse_distribution(schedule, x, x0, t).draw(noise())
        yield t - 1, x
