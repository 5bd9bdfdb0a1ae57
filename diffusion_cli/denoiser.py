"""Denoisers: `denoise(x_t, t, label) -> Prediction`, whatever stands behind it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.forward import learned_variance, posterior
from diffusion_cli.model.network import Network
from diffusion_cli.noise import generator
from diffusion_cli.prediction import Parameterization, Prediction
from diffusion_cli.schedule import Level, Schedule

MEASURED = 7  # stream of the seed
MEASURED_ON = 8192  # points; with half as many the mean is off by 7 % where a few hold most of the variance


class Denoiser(Protocol):
    """x_t (B, *shape); t a number or (B,) in (0, T]; label None (unconditional) or (B,) int64, num_classes = no label."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction: ...


class NetworkDenoiser:
    """A network read through its parameterization.

    precision: bfloat16 runs the network, and it alone, under autocast; all around it stays in the type of x_t.
    """

    def __init__(
        self,
        net: Network,
        parameterization: Parameterization,
        schedule: Schedule,
        precision: torch.dtype = torch.float32,
    ):
        self.net, self.parameterization, self.schedule = net, parameterization, schedule
        self.precision = precision

    def run(self, x: Tensor, *told: Tensor | None) -> Tensor:
        """The network itself on x and what it is told besides: the noise level, and a label."""
        if self.precision == torch.float32:
            return self.net(x, *told)
        with torch.autocast(x.device.type, self.precision):
            return self.net(x, *told).to(x.dtype)

    def output(self, x_t: Tensor, level: Level, label: Tensor | None) -> Tensor:
        """The raw output of the network, which training compares with `parameterization.target`."""
        noise = level.noise.to(x_t)
        return self.run(x_t * self.parameterization.scale(level), noise, label)

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        output, share = self.split(self.output(x_t, level, label))
        prediction = self.parameterization.decode(output, x_t, level)
        if share is None:
            return prediction
        q = posterior(level, level.before)
        variance = learned_variance(share, level, level.before)
        return prediction._replace(variance=((variance - q.variance) / q.of_x0**2).clamp(min=0))

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output proper, and for one with two outputs the learned share of log beta, else None.

        The share is kept within (0, 1): left free (Nichol & Dhariwal 2021), it diverges where the mean starts far off.
        """
        if self.net.outputs == 1:
            return output, None
        return output[:, 0], output[:, 1].sigmoid()


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
        free = self.denoiser(x_t, t, label)
        kept = Prediction.from_x0(
            free.x0.clamp(-self.bound, self.bound), x_t, self.schedule.level(t, like=x_t)
        )
        return kept._replace(variance=free.variance)


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
        return Prediction(
            *(f[0] if f[0] is None or f[0].dim() == 0 else torch.cat(f) for f in zip(*parts, strict=True))
        )


class Measured:
    """Another denoiser with the mean of Var[x0 | x_t] over the data, measured once for each time.

    (sigma/alpha)^2 E|eps - eps_hat|^2 / d: for the exact denoiser Analytic-DPM's (Bao et al. 2022, eq. 9, since then
    E|eps - eps_hat|^2 = d - E|eps_hat|^2), for a trained one the best variance around its imperfect mean (Bao et al.
    2022, Estimating the Optimal Covariance, theorem 3). Two calls for a time share one measurement.
    """

    def __init__(self, denoiser: Denoiser, dataset: Dataset, seed: int, device: torch.device | str = "cpu"):
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        g = generator(seed, MEASURED, device=device)
        self.x0, self.label = dataset.draw(MEASURED_ON, g)
        self.eps = torch.randn(self.x0.shape, generator=g, device=self.x0.device)
        self.known: dict[float, Tensor] = {}

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        return self.denoiser(x_t, t, label)._replace(variance=self.variance(float(t)).to(x_t))

    def variance(self, t: float) -> Tensor:
        if t not in self.known:
            level = self.schedule.level(t, like=self.x0)
            x_t = level.alpha * self.x0 + level.sigma * self.eps
            error = self.eps - self.denoiser(x_t, t, self.label).eps
            self.known[t] = (level.sigma / level.alpha) ** 2 * error.double().square().mean().cpu()
        return self.known[t]
