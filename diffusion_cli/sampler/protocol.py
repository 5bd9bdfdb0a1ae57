"""What every sampler is: the times that it goes through, its bound on x0, and its step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.denoiser import Clipped, Denoiser
from diffusion_cli.device import limit_threads
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Noise, NoiseStream
from diffusion_cli.ranges import Positive, Steps, checked
from diffusion_cli.sampler.walk import Move, State, no_noise, walk
from diffusion_cli.schedule import Schedule


@checked
@dataclass(frozen=True)
class Sampler(ABC):
    """What all samplers have in common. A subclass defines `step`.

    steps: network steps; null: one for each time of the schedule.
    grid: where the times of the steps lie: equal steps in t (uniform), in log-SNR (log_snr), or in (sigma/alpha)^(1/rho)
        (rho; Karras et al. 2022, eq. 5), or fitted to the denoiser, so that chains end nearest to its exact way, or with noise
        are short where the predicted x0 moves; done once, and kept in the cache. The first is T, the last but one 1, the last 0.
    rho: exponent of grid=rho; the larger, the more steps at little noise.
    clip: bound on the absolute value of the predicted x0; data: the range of each coordinate in the data; null: none.
    box: that range, for clip=data.
    fitted: those times, for grid=fitted.
    """

    # How many visits to earlier times the moves of `step` hold: 1 for a method of second order, 2 for one of third.
    memory: ClassVar[int] = 0

    steps: Steps | None = None
    grid: Literal["uniform", "log_snr", "rho", "fitted"] = "uniform"
    rho: Positive = 7.0
    clip: Positive | Literal["data"] | None = None
    box: Box | None = None
    fitted: tuple[float, ...] | None = None

    def __call__(
        self,
        denoiser: Denoiser,
        x_T: Tensor,
        label: Tensor | None = None,
        noise: Noise = no_noise,
        times: Sequence[float] | None = None,
    ) -> Iterator[State]:
        """Yields State(T, x_T, None) and then one state per step, down to t = 0.

        denoiser: any.
        x_T: (n, *shape) standard normal, or x_t at the first of `times`.
        label: (n,) or None.
        noise: noise() is standard normal, like x_T; a deterministic sampler needs none.
        times: decreasing; None for the sampler's own.
        """
        times = self.times(denoiser.schedule) if times is None else times
        return walk(self.step, self.clipped(denoiser), x_T, times, label, noise, self.memory)

    def times(self, schedule: Schedule) -> list[float]:
        """`steps` + 1 decreasing times from T to 0, the last but one t = 1."""
        if self.grid == "fitted" and self.fitted is None:
            raise ArgumentError("grid", "fitted", "its times are not given: fitted=fitted_times(...)")
        if self.grid == "fitted" and self.fitted is not None:
            return [*self.fitted]
        T, steps = schedule.T, schedule.T if self.steps is None else self.steps
        if steps == 1:
            return [float(T), 0.0]
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        first, last = schedule.log_snr[-1], schedule.log_snr[1]
        if self.grid == "uniform":
            # One division of whole numbers: a time that is whole comes out whole.
            times = (T * (steps - 1) - torch.arange(steps) * (T - 1)).double() / (steps - 1)
        elif self.grid == "log_snr":
            times = schedule.time_of(torch.lerp(first, last, ramp))
        else:
            roots = torch.lerp((-first / 2 / self.rho).exp(), (-last / 2 / self.rho).exp(), ramp)
            times = schedule.time_of(-2 * self.rho * roots.log())
        return [*times.tolist(), 0.0]

    def clipped(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser with its x0 within the bound `clip`."""
        if self.clip is None:
            return denoiser
        if self.clip != "data":
            return Clipped(denoiser, self.clip)
        if self.box is None:
            raise ArgumentError("clip", self.clip, "the range of the data is not given: box=dataset.box")
        return Clipped(denoiser, self.box)

    @property
    def noisy(self) -> bool:
        """Whether its steps draw noise; one of your own does unless it says otherwise."""
        return True

    @abstractmethod
    def step(self, move: Move) -> Tensor:
        """x_s, by the rule of this sampler."""


def chain(
    sampler: Sampler,
    denoiser: Denoiser,
    n: int,
    shape: tuple[int, ...],
    seed: int,
    label: Tensor | None = None,
    device: torch.device | str = "cpu",
    first: int = 0,
) -> Iterator[State]:
    """`sampler` from pure noise, x_T ~ N(0, I): sample i is a function of (seed, i) and its label alone.

    first: the number of the first sample.
    """
    limit_threads(shape, device)
    noise = NoiseStream(seed, n, shape, device, first=first)
    return sampler(denoiser, noise(), label, noise)
