"""Denoisers: `denoise(x_t, t, label) -> Prediction`, whatever stands behind it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from diffusion_cli.dataset.density import Density
from diffusion_cli.prediction import Parameterization, Prediction
from diffusion_cli.schedule import Level, Schedule


class Denoiser(Protocol):
    """x_t (B, *shape); t a number or (B,) in (0, T]; label None (unconditional) or (B,) int64, num_classes = no label."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction: ...


class NetworkDenoiser:
    """A network read through its parameterization."""

    def __init__(self, net: nn.Module, parameterization: Parameterization, schedule: Schedule):
        self.net, self.parameterization, self.schedule = net, parameterization, schedule

    def output(self, x_t: Tensor, level: Level, label: Tensor | None) -> Tensor:
        """The raw output of the network, which training compares with `parameterization.target`."""
        noise = level.noise.to(x_t)
        return self.net(x_t * self.parameterization.scale(level), noise, label)

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        return self.parameterization.decode(self.output(x_t, level, label), x_t, level)


class ExactDenoiser:
    """The best denoiser there is: x0 = E[x0 | x_t], from a density known in closed form."""

    def __init__(self, density: Density, schedule: Schedule):
        self.density, self.schedule = density, schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        x0 = self.density.posterior_mean(x_t, level.alpha, level.sigma, label)
        return Prediction.from_x0(x0, x_t, level)


class Clipped:
    """Another denoiser with x0 kept within [-bound, bound], and eps made to agree with it."""

    def __init__(self, denoiser: Denoiser, bound: float):
        self.denoiser, self.bound, self.schedule = denoiser, bound, denoiser.schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        x0 = self.denoiser(x_t, t, label).x0.clamp(-self.bound, self.bound)
        return Prediction.from_x0(x0, x_t, self.schedule.level(t, like=x_t))


class Batched:
    """Another denoiser called on `size` points at a time, for the sake of memory."""

    def __init__(self, denoiser: Denoiser, size: int):
        self.denoiser, self.size, self.schedule = denoiser, size, denoiser.schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        if len(x_t) <= self.size:
            return self.denoiser(x_t, t, label)
        many = isinstance(t, Tensor) and t.dim() == 1
        parts = [
            self.denoiser(x_t[rows], t[rows] if many else t, None if label is None else label[rows])
            for rows in (slice(i, i + self.size) for i in range(0, len(x_t), self.size))
        ]
        return Prediction(*(torch.cat(field) for field in zip(*parts, strict=True)))
