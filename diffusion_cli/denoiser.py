"""Denoisers: `denoise(x_t, t, label) -> Prediction`, whatever stands behind it."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.forward import learned_variance, posterior
from diffusion_cli.model.network import Network
from diffusion_cli.noise import Stream, generator
from diffusion_cli.prediction import Parameterization, Prediction
from diffusion_cli.schedule import Level, Schedule

# Points on which a variance is measured; with half as many it is off by 7 % where a few points hold most of it.
MEASURED_ON = 8192


class Denoiser(Protocol):
    """The best guess of what was noised.

    x_t: (B, *shape).
    t: a number or (B,), in (0, T].
    label: None (unconditional) or (B,) int64, where num_classes means "no label".
    """

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction: ...


class NetworkDenoiser:
    """A network read through its parameterization.

    net: called as net(x, noise_level, label).
    parameterization: what its output means.
    schedule: the noise levels of the times.
    precision: bfloat16 runs the network, and it alone, under autocast; all around it stays in the type of x_t.
    """

    def __init__(
        self,
        net: Network,
        parameterization: Parameterization,
        schedule: Schedule,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.net, self.parameterization, self.schedule = net, parameterization, schedule
        self.precision = precision

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        output, weight = self.split(self.output(x_t, level, label))
        prediction = self.parameterization.decode(output, x_t, level)
        if weight is None:
            return prediction
        q = posterior(level, level.before)
        variance = learned_variance(weight, level, level.before)
        return prediction._replace(variance=((variance - q.variance) / q.of_x0**2).clamp(min=0))

    def output(self, x_t: Tensor, level: Level, label: Tensor | None) -> Tensor:
        """The raw output of the network, which training compares with `parameterization.target`."""
        return self.run(x_t * self.parameterization.scale(level), level.noise_level.to(x_t), label)

    def run(self, x: Tensor, *conditions: Tensor | None) -> Tensor:
        """The network itself, in its precision. conditions: the noise level, and a label."""
        if self.precision == torch.float32:
            return self.net(x, *conditions)
        with torch.autocast(x.device.type, self.precision):
            return self.net(x, *conditions).to(x.dtype)

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output proper, and of a network with two outputs the interpolation weight of `learned_variance`, else None.

        The weight is kept within (0, 1): left free (Nichol & Dhariwal 2021), it diverges where the mean starts far off.
        """
        if self.net.outputs == 1:
            return output, None
        return output[:, 0], output[:, 1].sigmoid()


class ExactDenoiser:
    """The best denoiser there is: x0 = E[x0 | x_t], from a density known in closed form."""

    def __init__(self, density: Density, schedule: Schedule) -> None:
        self.density, self.schedule = density, schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        x0 = self.density.posterior_mean(x_t, level.alpha, level.sigma, label)
        return Prediction.from_x0(x0, x_t, level)


class Clipped:
    """Another denoiser with x0 kept within a box, or within [-box, box], and eps made to agree with it."""

    def __init__(self, denoiser: Denoiser, box: Box | float) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.box = box if isinstance(box, Box) else Box.around(box)

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        free = self.denoiser(x_t, t, label)
        x0 = self.box.clamp(free.x0)
        return Prediction.from_x0(x0, x_t, self.schedule.level(t, like=x_t))._replace(variance=free.variance)


class Batched:
    """Another denoiser called on `size` points at a time, for the sake of memory."""

    def __init__(self, denoiser: Denoiser, size: int) -> None:
        self.denoiser, self.size, self.schedule = denoiser, size, denoiser.schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        if len(x_t) <= self.size:
            return self.denoiser(x_t, t, label)
        parts = [slice(i, i + self.size) for i in range(0, len(x_t), self.size)]
        return Prediction.joined(
            [self.denoiser(x_t[rows], part_of(t, rows), part_of(label, rows)) for rows in parts]
        )


Given = TypeVar("Given", float | Tensor, Tensor | None)


def part_of(given: Given, rows: slice) -> Given:
    """These rows of a time or a label that has one for each point; else what was given, which is one for all."""
    return given[rows] if isinstance(given, Tensor) and given.dim() else given


class MeasuredVariance:
    """Another denoiser with the mean of Var[x0 | x_t] over the data, measured once for each time.

    (sigma/alpha)^2 E|eps - eps_hat|^2 / d: for the exact denoiser Analytic-DPM's (Bao et al. 2022, eq. 9, since then
    E|eps - eps_hat|^2 = d - E|eps_hat|^2), for a trained one the best variance around its imperfect mean (Bao et al.
    2022, Estimating the Optimal Covariance, theorem 3). Two calls for a time have one measurement.

    denoiser: any; it is measured on 8,192 points at once.
    dataset: where these points come from.
    seed: of the points and of the noise on them.
    device: on which they are drawn.
    """

    def __init__(
        self, denoiser: Denoiser, dataset: Dataset, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        g = generator(seed, Stream.MEASURED_VARIANCE, device=device)
        batch = dataset.draw(MEASURED_ON, g)
        self.x0, self.label = batch.x0, batch.label
        self.eps = torch.randn(self.x0.shape, generator=g, device=self.x0.device)
        self.measured: dict[float, Tensor] = {}

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        return self.denoiser(x_t, t, label)._replace(variance=self.variance(float(t)).to(x_t))

    def variance(self, t: float) -> Tensor:
        """The measured variance at time t, 0-d."""
        if t not in self.measured:
            level = self.schedule.level(t, like=self.x0)
            x_t = level.alpha * self.x0 + level.sigma * self.eps
            error = self.eps - self.denoiser(x_t, t, self.label).eps
            self.measured[t] = (level.sigma / level.alpha) ** 2 * error.double().square().mean().cpu()
        return self.measured[t]
