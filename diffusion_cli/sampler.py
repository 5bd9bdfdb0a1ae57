"""Samplers: generators that walk from x_T to x_0 over decreasing times.

    for state in DDIM(steps=10)(denoiser, x_T, label): ...        # state.t, state.x; the last one has t = 0

All share one loop, `walk`; a sampler is its step from t to s < t, a function of one `Move`. Noise comes from a callable
(`noise.NoiseStream`), so that sample i is the same whatever the batch size, and a test may hand in the noise it wants.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.denoiser import Clipped, Denoiser
from diffusion_cli.device import limit_threads
from diffusion_cli.errors import ArgumentError
from diffusion_cli.forward import forward_distribution, jump_variance, posterior
from diffusion_cli.noise import Noise, NoiseStream
from diffusion_cli.prediction import Prediction
from diffusion_cli.ranges import Fraction, Positive, Steps, checked
from diffusion_cli.schedule import Level, Schedule


class State(NamedTuple):
    """Where a chain is: time t, x_t (n, *shape), and the prediction that led there (None at the start)."""

    t: float
    x: Tensor
    prediction: Prediction | None


class Visit(NamedTuple):
    """An earlier time of a chain: its level, and the denoiser's prediction there."""

    level: Level
    prediction: Prediction


class Move(NamedTuple):
    """One step of a chain, from x_t to x_s with s < t: all that a sampler's rule needs.

    t, s: the times.
    now, then: their levels, 0-d float64.
    x: x_t (n, *shape).
    prediction: the denoiser's for x_t.
    past: the times before t, the latest first; at most `Sampler.memory`, fewer at the start and after a step back up.
    denoise: denoise(x, t) is the denoiser under the chain's labels, for rules that call it again.
    noise: noise() is standard normal, like x.
    """

    t: float
    s: float
    now: Level
    then: Level
    x: Tensor
    prediction: Prediction
    past: tuple[Visit, ...]
    denoise: Callable[..., Prediction]
    noise: Noise

    def mean(self, variance: Tensor | float) -> Tensor:
        """Mean of x_s that leaves room for noise of this variance: alpha_s x0 + sqrt(sigma_s^2 - variance) eps
        (Song et al. 2021, DDIM, eq. 12)."""
        kept = torch.sqrt((self.then.sigma**2 - variance).clamp(min=0))
        return self.then.alpha * self.prediction.x0 + kept * self.prediction.eps


def no_noise() -> Tensor:
    """The noise of a chain that was given none."""
    raise ArgumentError("noise", None, "this sampler draws noise: give it a noise.NoiseStream")


@torch.no_grad()
def walk(
    step: Callable[[Move], Tensor],
    denoiser: Denoiser,
    x: Tensor,
    times: Sequence[float],
    label: Tensor | None = None,
    noise: Noise = no_noise,
    memory: int = 0,
) -> Iterator[State]:
    """The loop itself: yields State(times[0], x, None), and then one state for each further time.

    step: move -> x_s, which makes every step down; a step up (in-painting takes some) is one of the forward process.
    denoiser: any.
    x: x_t (n, *shape) at the first time.
    times: the last one 0, or wherever the walk shall end.
    label: (n,) or None.
    noise: noise() is standard normal, like x.
    memory: how many visits to earlier times a move holds.
    """
    schedule = denoiser.schedule

    def denoise(x: Tensor, t: float, to: float | None = None) -> Prediction:
        return denoiser(x, t, label, to)

    state, past = State(times[0], x, None), tuple[Visit, ...]()
    yield state
    for s in times[1:]:
        t, x = state.t, state.x
        if s > t:
            state, past = State(s, forward_distribution(schedule, x, s, t).draw(noise()), None), ()
        else:
            now, then = schedule.level(t, like=x), schedule.level(s, like=x)
            prediction = denoise(x, t, s)
            move = Move(t, s, now, then, x, prediction, past, denoise, noise)
            state, past = State(s, step(move), prediction), (Visit(now, prediction), *past)[:memory]
        yield state


@checked
@dataclass(frozen=True)
class Sampler(ABC):
    """What all samplers have in common. A subclass defines `step`.

    steps: network steps; null: one for each time of the schedule.
    grid: where the times of the steps lie: equal steps in t (uniform), in log-SNR (log_snr), or in (sigma/alpha)^(1/rho)
        (rho; Karras et al. 2022, eq. 5), or fitted to the denoiser, so that chains end nearest to its exact way; the work is done
        once, and kept in the cache. The first is T, the last but one 1, the last 0.
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

    @abstractmethod
    def step(self, move: Move) -> Tensor:
        """x_s, by the rule of this sampler."""


@checked
@dataclass(frozen=True)
class DDIM(Sampler):
    """Deterministic or with fresh noise in each step, by one formula.

    Song et al. 2021, eq. 12 and 16.

    eta: standard deviation of the noise, as a fraction of the posterior's; 0: deterministic, 1: ancestral.
    """

    eta: Fraction = 0.0

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

    def step(self, move: Move) -> Tensor:
        now, then, eps = move.now, move.then, move.prediction.eps
        if move.s == 0:
            return move.prediction.x0
        h = then.sigma / then.alpha - now.sigma / now.alpha
        start = move.x / now.alpha
        slope = move.denoise(then.alpha * (start + h * eps), move.s).eps
        return then.alpha * (start + h * (eps + slope) / 2)


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
