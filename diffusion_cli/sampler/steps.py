"""Samplers of one prediction a step, and Heun's of two: DDIM, DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffusion_cli.errors import ArgumentError
from diffusion_cli.forward import jump_variance, posterior
from diffusion_cli.ranges import Fraction, checked
from diffusion_cli.sampler.protocol import Sampler
from diffusion_cli.sampler.walk import Move


@checked
@dataclass(frozen=True)
class DDIM(Sampler):
    """Deterministic or with fresh noise in each step, by one formula.

    Song et al. 2021, eq. 12 and 16.

    eta: standard deviation of the noise, as a fraction of the posterior's; 0: deterministic, 1: ancestral.
    """

    eta: Fraction = 0.0

    @property
    def noisy(self) -> bool:
        return self.eta > 0

    def step(self, move: Move) -> Tensor:
        variance = self.eta**2 * posterior(move.now, move.then).variance
        x = move.mean(variance)
        return x + variance.sqrt() * move.noise() if self.eta and move.s > 0 else x


@checked
@dataclass(frozen=True)
class DDPM(Sampler):
    """Ancestral sampling with the mean of the posterior and a choice of variance.

    Ho et al. 2020, algorithm 2. The last step, to t = 0, adds Var[x0 | x_1] with variance analytic and learned, nothing
    with the others: x0 is then E[x0 | x_1], sharper than the data by sigma_1.

    variance: variance of the noise of each step: beta, posterior, analytic or learned. beta: 1 - alpha_t^2 / alpha_s^2,
        exact for x0 ~ N(0, 1). posterior: exact for a single point as data. analytic and learned: posterior + a^2
        Var[x0 | x_t] with a the weight of x0 in the mean, the best isotropic one (Bao et al. 2022, Analytic-DPM,
        theorem 1), from a denoiser that predicts its variance (`denoiser.MeasuredVariance`, or a network trained with
        objective=hybrid).
    """

    variance: Literal["beta", "posterior", "analytic", "learned"] = "beta"

    def step(self, move: Move) -> Tensor:
        q = posterior(move.now, move.then)
        x = move.mean(q.variance)
        if self.variance in ("analytic", "learned"):
            of_x0 = move.prediction.variance
            if of_x0 is None:
                reason = "this denoiser predicts no variance; train with objective=hybrid"
                raise ArgumentError("variance", self.variance, reason)
            return x + torch.sqrt(q.variance + q.of_x0**2 * of_x0) * move.noise()
        if move.s == 0:
            return x
        variance = q.variance if self.variance == "posterior" else jump_variance(move.now, move.then)
        return x + variance.sqrt() * move.noise()


@checked
@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method, deterministic and of second order with two network calls a step.

    On the probability-flow ODE d(x/alpha) / d(sigma/alpha) = eps (Karras et al. 2022, algorithm 1); the last step has one
    call.

    grid: where the times of the steps lie: uniform, log_snr, rho or fitted, as for every sampler.
    """

    grid: Literal["uniform", "log_snr", "rho", "fitted"] = "rho"

    @property
    def noisy(self) -> bool:
        return False

    def step(self, move: Move) -> Tensor:
        now, then, eps = move.now, move.then, move.prediction.eps
        if move.s == 0:
            return move.prediction.x0
        h = then.sigma / then.alpha - now.sigma / now.alpha
        start = move.x / now.alpha
        slope = move.denoise(then.alpha * (start + h * eps), move.s).eps
        return then.alpha * (start + h * (eps + slope) / 2)
