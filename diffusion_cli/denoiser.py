"""Denoisers: `denoise(x_t, t, label, to) -> Prediction`, whatever stands behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.errors import ArgumentError
from diffusion_cli.forward import learned_variance, posterior
from diffusion_cli.model.network import Label, Network
from diffusion_cli.noise import Stream, generator
from diffusion_cli.prediction import Parameterization, Prediction
from diffusion_cli.schedule import Level, Schedule

# Points of the plane on which a variance is measured; with half as many it is off by 7 % where a few points hold most of it.
# A point of many numbers is a mean over them, and fewer of them do.
MEASURED_ON, LEAST_MEASURED = 8192, 512
# One for all points, or one for each.
Time = float | Tensor
# From a time to an earlier one.
Jump = tuple[float, float]


class Denoiser(Protocol):
    """The best guess of what was noised.

    x_t: (B, *shape).
    t: a number or (B,), in (0, T].
    label: None (unconditional) or (B,) int64, where num_classes means "no label".
    to: the time that the step with this prediction leads to. A student answers with the prediction whose DDIM step
        arrives there; the best guess of x0 depends on it no more than on None.
    """

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction: ...


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

    @property
    def precision_name(self) -> str:
        """float32 or bfloat16."""
        return str(self.precision).removeprefix("torch.")

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        output, weight = self.split(self.output(x_t, level, label))
        prediction = self.parameterization.decode(output, x_t, level)
        if weight is None:
            return prediction
        q = posterior(level, level.before)
        variance = learned_variance(weight, level, level.before)
        return prediction._replace(variance=((variance - q.variance) / q.of_x0**2).clamp(min=0))

    def output(
        self, x_t: Tensor, level: Level, label: Tensor | None, numbers: Tensor | None = None
    ) -> Tensor:
        """The raw output of the network, which training compares with `parameterization.target`."""
        more = () if numbers is None else (numbers,)
        return self.run(x_t * self.parameterization.scale(level), level.noise_level.to(x_t), label, *more)

    def run(self, x: Tensor, *conditions: Tensor | None) -> Tensor:
        """The network itself, in its precision. conditions: the noise level, a label, and further numbers."""
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


class Student(NetworkDenoiser):
    """A network that has learned jumps along its teacher's paths, and the teacher itself for what lies between.

    Where `to` is the end of a jump, its prediction is the one by which DDIM's step leads to x_s, so that the sampler is
    DDIM through the times of the jumps. A jump to t = 1 leads to alpha x0, for DDIM's noise is that of x_T, on which x0
    depends: it would widen the samples. With to=None, and for the last call, from t = 1, the teacher answers.

    net: takes as numbers the place that it goes to (`destination`), and where `w` is given the guidance weight.
    parameterization, schedule, precision: as of any network.
    teacher: a denoiser with the same schedule.
    jumps: the pairs (t, s) that it has learned; ArgumentError for others.
    w: guidance weight; None for a student of an unguided teacher.
    """

    def __init__(
        self,
        net: Network,
        parameterization: Parameterization,
        schedule: Schedule,
        precision: torch.dtype,
        teacher: Denoiser,
        jumps: Sequence[Jump],
        w: float | None = None,
    ) -> None:
        super().__init__(net, parameterization, schedule, precision)
        self.teacher, self.jumps, self.w = teacher, jumps, w

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        if to is None or float(t) <= 1 < self.schedule.T:
            return self.teacher(x_t, t, label)
        jump = (float(t), end_of_jump(to))
        if not any(math.dist(jump, one) < 1e-6 for one in self.jumps):
            learned = ", ".join(f"from {start:.4g} to {end:.4g}" for start, end in self.jumps)
            reason = f"this student has learned to jump {learned} in time, and nothing else"
            raise ArgumentError("steps", ..., reason)
        level = self.schedule.level(t, like=x_t)
        given = [destination(self.schedule, to), *(() if self.w is None else (self.w,))]
        output = self.output(x_t, level, label, torch.tensor([given]).to(x_t))
        prediction = self.parameterization.decode(output, x_t, level)
        if not 0 < to <= 1:
            return prediction
        then = self.schedule.level(to, like=x_t)
        return Prediction.of_jump(x_t, (then.alpha * prediction.x0).to(x_t), level, then)


def end_of_jump(s: float) -> float:
    """Where a jump to time s ends: down to t = 1 all lead to the end of the path itself."""
    return s if s > 1 else 0.0


def destination(schedule: Schedule, s: float) -> float:
    """The noise level log(sigma/alpha) at the end of a jump, as a network is given it; that of t = 1 for the end of paths."""
    return float(schedule.level(max(s, 1.0), like=schedule.alpha_bar).noise_level)


class ExactDenoiser:
    """The best denoiser there is: x0 = E[x0 | x_t], from a density known in closed form."""

    def __init__(self, density: Density, schedule: Schedule) -> None:
        self.density, self.schedule = density, schedule

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        x0 = self.density.posterior_mean(x_t, level.alpha, level.sigma, label)
        return Prediction.from_x0(x0, x_t, level)


class Clipped:
    """Another denoiser with x0 kept within a box, or within [-box, box], and eps made to agree with it."""

    def __init__(self, denoiser: Denoiser, box: Box | float) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.box = box if isinstance(box, Box) else Box.around(box)

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        free = self.denoiser(x_t, t, label, to)
        x0 = self.box.clamp(free.x0)
        return Prediction.from_x0(x0, x_t, self.schedule.level(t, like=x_t))._replace(variance=free.variance)


class Batched:
    """Another denoiser called on `size` points at a time, for the sake of memory. tick: called before each of the calls; it
    may raise."""

    def __init__(self, denoiser: Denoiser, size: int, tick: Callable[[], None] = lambda: None) -> None:
        self.denoiser, self.size, self.tick, self.schedule = denoiser, size, tick, denoiser.schedule

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        self.tick()
        if len(x_t) <= self.size:
            return self.denoiser(x_t, t, label, to)
        parts = [slice(i, i + self.size) for i in range(0, len(x_t), self.size)]
        return Prediction.joined(
            [self(x_t[rows], part_of(t, rows), part_of(label, rows), to) for rows in parts]
        )


Given = TypeVar("Given", Time, Label)


def part_of(given: Given, rows: slice) -> Given:
    """These rows of a time or a label that has one for each point; else what was given, which is one for all."""
    return given[rows] if isinstance(given, Tensor) and given.dim() else given


class MeasuredVariance:
    """Another denoiser with the mean of Var[x0 | x_t] over the data, measured once for each time.

    (sigma/alpha)^2 E|eps - eps_hat|^2 / d: for the exact denoiser Analytic-DPM's (Bao et al. 2022, eq. 9, since then
    E|eps - eps_hat|^2 = d - E|eps_hat|^2), for a trained one the best variance around its imperfect mean (Bao et al.
    2022, Estimating the Optimal Covariance, theorem 3). Two calls for a time have one measurement.

    denoiser: any; it is measured on 8,192 points at once, or on fewer, at least 512, of more than two numbers each.
    dataset: where these points come from.
    seed: of the points and of the noise on them.
    device: on which they are drawn.
    """

    def __init__(
        self, denoiser: Denoiser, dataset: Dataset, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        g = generator(seed, Stream.MEASURED_VARIANCE, device=device)
        numbers = max(2, math.prod(dataset.shape))
        batch = dataset.draw(max(LEAST_MEASURED, 2 * MEASURED_ON // numbers), g)
        self.x0, self.label = batch.x0, batch.label
        self.eps = torch.randn(self.x0.shape, generator=g, device=self.x0.device)
        self.measured: dict[float, Tensor] = {}

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        return self.denoiser(x_t, t, label, to)._replace(variance=self.variance(float(t)).to(x_t))

    def variance(self, t: float) -> Tensor:
        """The measured variance at time t, 0-d."""
        if t not in self.measured:
            level = self.schedule.level(t, like=self.x0)
            x_t = level.alpha * self.x0 + level.sigma * self.eps
            error = self.eps - self.denoiser(x_t, t, self.label).eps
            self.measured[t] = (level.sigma / level.alpha) ** 2 * error.double().square().mean().cpu()
        return self.measured[t]
