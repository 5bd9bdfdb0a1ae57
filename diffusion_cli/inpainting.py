"""In-painting: chains in which some pixels are known, and the others are drawn given them (RePaint).

    for state in Inpainting(Multistep(steps=20), passes=10)(denoiser, x_T, Known(x0, mask), label, noise): ...

Any sampler's step serves. Known pixels are set anew after every step, x_s = q(x_s | x_0) (Lugmayr et al. 2022,
eq. 8); the network then makes the others fit, but has seen them only beside noisier known ones, so that one way down
leaves them too little bound to what is known (on a pair of pixels of correlation 0.9 a third of the way to their
mean). Two remedies: going back up and down again (algorithm 1), and the gradient of the known pixels' likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.denoiser import Denoiser, Label, Time, part_of
from diffusion_cli.forward import forward_distribution
from diffusion_cli.guidance import check_between
from diffusion_cli.noise import Noise
from diffusion_cli.prediction import Prediction
from diffusion_cli.ranges import Count, NonNegative, Positive, checked
from diffusion_cli.sampler import Move, Sampler, State, walk
from diffusion_cli.schedule import Schedule


class Known(NamedTuple):
    """Clean points x0 (n, *shape), and a bool mask that broadcasts against them: true where x0 is known."""

    x0: Tensor
    mask: Tensor


@checked
@dataclass(frozen=True)
class Inpainting:
    """A sampler under the condition of known pixels.

    sampler: any.
    passes: how often each stretch of the way down is walked (RePaint's r); 1: once.
    jump: steps in a stretch (RePaint's j).
    between: levels sigma/alpha, low and high, from which stretches are walked again; null: from all.
    guidance: weight of the gradient of the known pixels' likelihood, at twice the cost of a step (`LikelihoodGuided`);
        0: plain RePaint.
    batch: points whose gradient is taken at once, for the sake of memory; null: all.
    """

    sampler: Sampler
    passes: Count = 5
    jump: Count = 1
    between: tuple[Positive, Positive] | None = (0.05, 10)
    guidance: NonNegative = 1.0
    batch: Count | None = None

    def __post_init__(self) -> None:
        check_between(self.between)

    def times(self, schedule: Schedule) -> list[float]:
        """The times of the chain, the sampler's own with the ways back up; they end at 0."""
        low, high = 0.0, math.inf
        if self.between is not None:
            low, high = schedule.time_of(-2 * torch.tensor(self.between, dtype=torch.float64).log()).tolist()
        return resampling_times(self.sampler.times(schedule), self.passes, self.jump, low, high)

    def __call__(
        self, denoiser: Denoiser, x_T: Tensor, known: Known, label: Tensor | None, noise: Noise
    ) -> Iterator[State]:
        """Yields as a sampler does; the last x equals known.x0 exactly where that is known."""
        schedule, sampler = denoiser.schedule, self.sampler
        times = self.times(schedule)
        if self.guidance:
            denoiser = LikelihoodGuided(denoiser, known, self.guidance, self.batch)
        denoiser = KnownReplaced(sampler.clipped(denoiser), known)

        def with_known(x: Tensor, t: float) -> Tensor:
            x_t = known.x0 if t == 0 else forward_distribution(schedule, known.x0, t).draw(noise())
            return torch.where(known.mask, x_t, x)

        def step(move: Move) -> Tensor:
            return with_known(sampler.step(move), move.s)

        return walk(step, denoiser, with_known(x_T, times[0]), times, label, noise, sampler.memory)


def resampling_times(
    times: list[float], passes: int, jump: int, low: float = 0.0, high: float = math.inf
) -> list[float]:
    """Decreasing times with ways back up (Lugmayr et al. 2022, section 4.2 and figure 9).

    times: decreasing.
    passes: how often each stretch is walked: from the last time but one, and from every `jump`-th before it, the chain
        goes back up passes - 1 times.
    jump: steps of each way up.
    low, high: times outside of [low, high] are no starts of a way up.

    >>> resampling_times([3, 2, 1, 0], passes=2, jump=1)
    [3, 2, 3, 2, 1, 2, 1, 0]
    """
    turns = (k for k in range(len(times) - 2, jump - 1, -jump) if low <= times[k] <= high)
    left = dict.fromkeys(turns, passes - 1)
    path, here = [times[0]], 0
    while here < len(times) - 1:
        here += 1
        path.append(times[here])
        if left.get(here):
            left[here] -= 1
            here -= jump
            path.append(times[here])
    return path


class KnownReplaced:
    """Another denoiser whose x0 is the known one where that is known: so that a sampler of higher order moves these
    pixels along q(x_s | x_0) within a step, too."""

    def __init__(self, denoiser: Denoiser, known: Known) -> None:
        self.denoiser, self.known, self.schedule = denoiser, known, denoiser.schedule

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        free = self.denoiser(x_t, t, label, to)
        x0 = torch.where(self.known.mask, self.known.x0, free.x0)
        return Prediction.from_x0(x0, x_t, self.schedule.level(t, like=x_t))._replace(variance=free.variance)


class LikelihoodGuided:
    """Another denoiser, moved along the gradient of the known pixels' likelihood:

        eps_hat = eps - weight sigma grad log N(x0; x0_hat(x_t), v),    v = sigma^2 / (alpha^2 + sigma^2)

    over the known pixels x0; v is Var[x0 | x_t] of data with unit variance (Song et al. 2023, Pseudoinverse-guided
    diffusion models, eq. 7 and section 3.2; "reconstruction guidance" of Ho et al. 2022, Video diffusion models, eq. 7).
    Costs a way back through the network.

    denoiser: differentiable in x_t.
    known: one row for each point.
    weight: of the gradient.
    batch: points whose gradient is taken at once; None: all.
    """

    def __init__(self, denoiser: Denoiser, known: Known, weight: float, batch: int | None = None) -> None:
        self.denoiser, self.known, self.schedule = denoiser, known, denoiser.schedule
        self.weight, self.batch = weight, batch

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        size = self.batch or len(x_t)
        parts = [slice(i, i + size) for i in range(0, len(x_t), size)]
        return Prediction.joined(
            [
                self._guided(x_t[rows], part_of(t, rows), part_of(label, rows), to, self.known.x0[rows])
                for rows in parts
            ]
        )

    def _guided(self, x_t: Tensor, t: Time, label: Label, to: float | None, known_x0: Tensor) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        v = level.sigma**2 / (level.alpha**2 + level.sigma**2)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            free = self.denoiser(x, t, label, to)
            error = torch.where(self.known.mask, known_x0 - free.x0, 0.0)
            log_likelihood = -(error.square() / (2 * v).to(x)).sum()
            (slope,) = torch.autograd.grad(log_likelihood, x)
        eps = free.eps.detach() - self.weight * level.sigma * slope
        variance = None if free.variance is None else free.variance.detach()
        return Prediction.from_eps(eps, x_t, level)._replace(variance=variance)
