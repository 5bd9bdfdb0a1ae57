"""In-painting: chains in which some pixels are known, and the others are drawn given them (RePaint).

    for state in Inpainting(DPMpp(steps=20), passes=10)(denoiser, x_T, Known(x0, mask), label, noise): ...

Any sampler's step serves. Known pixels are set anew after every step, x_s = q(x_s | x_0) (Lugmayr et al. 2022,
eq. 8); the network then makes the others fit, but has seen them only beside noisier known ones, so that one way down
leaves them too little bound to what is known (on a pair of pixels of correlation 0.9 a third of the way to their
mean). Two remedies: going back up and down again (algorithm 1), and the gradient of the known pixels' likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.denoiser import Clipped, Denoiser
from diffusion_cli.forward import forward_law
from diffusion_cli.prediction import Prediction
from diffusion_cli.sampler import Noise, Sampler, State, time_grid
from diffusion_cli.schedule import Schedule


class Known(NamedTuple):
    """Clean points x0 (n, *shape), and a bool mask that broadcasts against them: true where x0 is known."""

    x0: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Inpainting:
    """A sampler under the condition of known pixels.

    passes: how often each stretch of the way down is walked (r, RePaint's resampling; 1: once). jump: its length in
    steps (j). between: stretches are walked again only from levels sigma/alpha in this range; None: from all.
    guidance: weight of the gradient of the known pixels' likelihood, see `Pulled`; 0 is plain RePaint. batch: points
    whose gradient is taken at once, for the sake of memory; None: all.
    """

    sampler: Sampler
    passes: int = 1
    jump: int = 1
    between: Sequence[float] | None = None
    guidance: float = 0.0
    batch: int | None = None

    def times(self, schedule: Schedule) -> list[float]:
        """The times of the chain, the sampler's own with the ways back; they end at 0."""
        own = self.sampler
        times = time_grid(schedule, own.steps, own.grid, own.rho)
        low, high = 0.0, math.inf
        if self.between is not None:
            low, high = schedule.time_of(-2 * torch.tensor(self.between, dtype=torch.float64).log()).tolist()
        return there_and_back(times, self.passes, self.jump, low, high)

    @torch.no_grad()
    def __call__(
        self, denoiser: Denoiser, x_T: Tensor, known: Known, label: Tensor | None, noise: Noise
    ) -> Iterator[State]:
        """Yields as a sampler does; the last x equals known.x0 exactly where that is known."""
        schedule, sampler = denoiser.schedule, self.sampler
        times = self.times(schedule)
        if self.guidance:
            denoiser = Pulled(denoiser, known, self.guidance, self.batch)
        if sampler.clip is not None:
            denoiser = Clipped(denoiser, sampler.clip)
        denoiser = Anchored(denoiser, known)

        def with_known(x: Tensor, t: float) -> Tensor:
            there = known.x0 if t == 0 else forward_law(schedule, known.x0, t).draw(noise())
            return torch.where(known.mask, there, x)

        state, before = State(times[0], with_known(x_T, times[0]), None), None
        yield state
        for s in times[1:]:
            if s > state.t:  # a way back: algorithm 1, line 10
                state, before = State(s, forward_law(schedule, state.x, s, state.t).draw(noise()), None), None
            else:
                prediction = denoiser(state.x, state.t, label)
                x = sampler.step(denoiser, state, s, prediction, before, label, noise)
                before, state = state._replace(prediction=prediction), State(s, with_known(x, s), prediction)
            yield state


def there_and_back(
    times: list[float], passes: int, jump: int, low: float = 0.0, high: float = math.inf
) -> list[float]:
    """Decreasing times with ways back: from the last but one, and from every `jump`-th before it, `jump` steps up,
    passes - 1 times (Lugmayr et al. 2022, section 4.2 and figure 9); from times in [low, high] alone.

    >>> there_and_back([3, 2, 1, 0], passes=2, jump=1)
    [3, 2, 3, 2, 1, 2, 1, 0]
    """
    turns = (k for k in range(len(times) - 2, jump - 1, -jump) if low <= times[k] <= high)
    left = dict.fromkeys(turns, passes - 1)
    way, here = [times[0]], 0
    while here < len(times) - 1:
        here += 1
        way.append(times[here])
        if left.get(here):
            left[here] -= 1
            here -= jump
            way.append(times[here])
    return way


class Anchored:
    """Another denoiser whose x0 is the known one where that is known: so that a sampler of higher order moves these
    pixels along q(x_s | x_0) within a step, too."""

    def __init__(self, denoiser: Denoiser, known: Known):
        self.denoiser, self.known, self.schedule = denoiser, known, denoiser.schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        free = self.denoiser(x_t, t, label)
        x0 = torch.where(self.known.mask, self.known.x0, free.x0)
        return Prediction.from_x0(x0, x_t, self.schedule.level(t, like=x_t))._replace(variance=free.variance)


class Pulled:
    """Another denoiser, moved along the gradient of the known pixels' likelihood:

        eps_hat = eps - weight sigma grad log N(x0; x0_hat(x_t), v),    v = sigma^2 / (alpha^2 + sigma^2)

    over the known pixels x0; v is Var[x0 | x_t] of data with unit variance (Song et al. 2023, Pseudoinverse-guided
    diffusion models, eq. 7 and section 3.2; "reconstruction guidance" of Ho et al. 2022, Video diffusion models, eq. 7).
    Costs a way back through the network. batch: see `Inpainting`.
    """

    def __init__(self, denoiser: Denoiser, known: Known, weight: float, batch: int | None = None):
        self.denoiser, self.known, self.weight, self.schedule = denoiser, known, weight, denoiser.schedule
        self.batch = batch

    def __call__(self, x_t: Tensor, t: float, label: Tensor | None = None) -> Prediction:
        size = self.batch or len(x_t)
        parts = [self.of_rows(slice(i, i + size), x_t, t, label) for i in range(0, len(x_t), size)]
        x0, eps, variance = zip(*parts, strict=True)
        return Prediction(torch.cat(x0), torch.cat(eps), _joined(variance))

    def of_rows(self, rows: slice, x_t: Tensor, t: float, label: Tensor | None) -> Prediction:
        level = self.schedule.level(t, like=x_t)
        v = level.sigma**2 / (level.alpha**2 + level.sigma**2)
        with torch.enable_grad():
            x = x_t[rows].detach().requires_grad_()
            free = self.denoiser(x, t, None if label is None else label[rows])
            error = torch.where(self.known.mask, self.known.x0[rows] - free.x0, 0.0)
            (slope,) = torch.autograd.grad(-error.square().sum() / (2 * v).to(x), x)
        eps = free.eps.detach() - self.weight * level.sigma * slope
        variance = None if free.variance is None else free.variance.detach()
        return Prediction.from_eps(eps, x_t[rows], level)._replace(variance=variance)


def _joined(variance: Sequence[Tensor | None]) -> Tensor | None:
    """The variances of all parts: None, one for all points, or one for each."""
    if variance[0] is None or variance[0].dim() == 0:
        return variance[0]
    return torch.cat([*variance])
