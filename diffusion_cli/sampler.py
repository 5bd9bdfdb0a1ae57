"""Samplers: generators that walk from x_T to x_0 over decreasing times.

    for state in DDIM(steps=10)(denoiser, x_T, label): ...        # state.t, state.x; the last one has t = 0

All share one loop; a sampler is its step from t to s < t. Noise comes from a callable (`noise.NoiseStream`), so that
sample i is the same whatever the batch size, and a test may hand in the noise it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.denoiser import Clipped, Denoiser
from diffusion_cli.errors import UserError
from diffusion_cli.forward import jump_variance, posterior
from diffusion_cli.noise import NoiseStream
from diffusion_cli.prediction import Prediction
from diffusion_cli.schedule import Level, Schedule

Noise = Callable[[], Tensor]


class State(NamedTuple):
    """Where a chain is: time t, x_t (n, *shape), and the prediction that led there (None at the start)."""

    t: float
    x: Tensor
    prediction: Prediction | None


def time_grid(
    schedule: Schedule, steps: int | None = None, grid: str = "uniform", rho: float = 7.0
) -> list[float]:
    """`steps` + 1 decreasing times from T to 0, the last but one t = 1 (steps null: every integer time).

    uniform: equal in t. log_snr: equal in log-SNR. rho: (sigma/alpha)^(1/rho) equal (Karras et al. 2022, eq. 5).
    """
    steps = schedule.T if steps is None else steps
    if steps == 1:
        return [float(schedule.T), 0.0]
    T, ramp = schedule.T, torch.linspace(0, 1, steps, dtype=torch.float64)
    first, last = schedule.log_snr[-1], schedule.log_snr[1]
    if grid == "uniform":
        # One division of whole numbers: a time that is whole comes out whole.
        times = (T * (steps - 1) - torch.arange(steps) * (T - 1)).double() / (steps - 1)
    elif grid == "log_snr":
        times = schedule.time_of(torch.lerp(first, last, ramp))
    elif grid == "rho":
        roots = torch.lerp((-first / 2 / rho).exp(), (-last / 2 / rho).exp(), ramp)
        times = schedule.time_of(-2 * rho * roots.log())
    else:
        raise UserError("sampler.grid", grid, "no such time grid", ("uniform", "log_snr", "rho"))
    return [*times.tolist(), 0.0]


@dataclass(frozen=True)
class Sampler:
    """steps: network steps, null for one per time of the schedule. grid, rho: see `time_grid`. clip: bound on x0."""

    steps: int | None = None
    grid: str = "uniform"
    rho: float = 7.0
    clip: float | None = None

    def __call__(
        self, denoiser: Denoiser, x_T: Tensor, label: Tensor | None = None, noise: Noise | None = None
    ) -> Iterator[State]:
        """Yields State(T, x_T, None) and then one state per step, down to t = 0."""
        return self.walk(denoiser, x_T, self.times(denoiser.schedule), label, noise)

    def times(self, schedule: Schedule) -> list[float]:
        """The decreasing times of the chain, see `time_grid`."""
        return time_grid(schedule, self.steps, self.grid, self.rho)

    @torch.no_grad()
    def walk(
        self, denoiser: Denoiser, x: Tensor, times: list[float], label: Tensor | None, noise: Noise | None
    ) -> Iterator[State]:
        """The loop itself, over any decreasing times."""
        if self.clip is not None:
            denoiser = Clipped(denoiser, self.clip)
        state = State(times[0], x, None)
        yield state
        before: State | None = None
        for s in times[1:]:
            prediction = denoiser(state.x, state.t, label)
            x = self.step(denoiser, state, s, prediction, before, label, noise)
            before, state = state._replace(prediction=prediction), State(s, x, prediction)
            yield state

    def step(
        self,
        denoiser: Denoiser,
        state: State,
        s: float,
        prediction: Prediction,
        before: State | None,
        label: Tensor | None,
        noise: Noise | None,
    ) -> Tensor:
        """x_s from x_t: `prediction` is the denoiser's at (x_t, t), `before` the previous point with its own."""
        raise TypeError(f"{type(self).__name__} has no step rule")


def toward(prediction: Prediction, then: Level, variance: Tensor | float) -> Tensor:
    """Mean of x_s that leaves room for noise of this variance: alpha_s x0 + sqrt(sigma_s^2 - variance) eps
    (Song et al. 2021, DDIM, eq. 12)."""
    kept = torch.sqrt((then.sigma**2 - variance).clamp(min=0))
    return then.alpha * prediction.x0 + kept * prediction.eps


@dataclass(frozen=True)
class DDIM(Sampler):
    """eta = 0: deterministic; eta = 1: ancestral with the posterior's variance (Song et al. 2021, eq. 12 and 16)."""

    eta: float = 0.0

    def step(self, denoiser, state, s, prediction, before, label, noise):
        now, then = (denoiser.schedule.level(t, like=state.x) for t in (state.t, s))
        variance = self.eta**2 * posterior(now, then).variance
        x = toward(prediction, then, variance)
        return x + variance.sqrt() * noise() if self.eta and s > 0 else x


@dataclass(frozen=True)
class DDPM(Sampler):
    """Ancestral sampling with the mean of the posterior and a choice of variance (Ho et al. 2020, algorithm 2).

    variance: posterior, exact for a single point as data; beta, 1 - alpha_t^2 / alpha_s^2, exact for x0 ~ N(0, 1);
    analytic and learned, posterior + a^2 Var[x0 | x_t] with a the weight of x0 in the mean, the best isotropic one
    (Bao et al. 2022, Analytic-DPM, theorem 1), from a denoiser that tells its variance (`denoiser.Measured`, or a
    network trained with objective=hybrid). The last step, to t = 0, adds Var[x0 | x_1] with these two, nothing with
    the others: x0 is then E[x0 | x_1], sharper than the data by sigma_1.
    """

    variance: str = "beta"

    def __post_init__(self) -> None:
        if self.variance not in VARIANCES:
            raise UserError("sampler.variance", self.variance, "no such variance", VARIANCES)

    def step(self, denoiser, state, s, prediction, before, label, noise):
        now, then = (denoiser.schedule.level(t, like=state.x) for t in (state.t, s))
        q = posterior(now, then)
        x = toward(prediction, then, q.variance)
        if self.variance in ("analytic", "learned"):
            if prediction.variance is None:
                reason = "this denoiser tells no variance; train with objective=hybrid"
                raise UserError("sampler.variance", self.variance, reason)
            return x + torch.sqrt(q.variance + q.of_x0**2 * prediction.variance) * noise()
        if s == 0:
            return x
        return x + (q.variance if self.variance == "posterior" else jump_variance(now, then)).sqrt() * noise()


VARIANCES = ("beta", "posterior", "analytic", "learned")


@dataclass(frozen=True)
class DPMpp(Sampler):
    """DPM-Solver++(2M): exponential integrator on x0, second order from the last two predictions, deterministic
    (Lu et al. 2022, algorithm 2). First and last step are of first order."""

    def step(self, denoiser, state, s, prediction, before, label, noise):
        now, then = (denoiser.schedule.level(t, like=state.x) for t in (state.t, s))
        if s == 0:
            return prediction.x0
        x0 = prediction.x0
        h = (then.alpha / then.sigma).log() - (now.alpha / now.sigma).log()
        if before is not None:
            past = denoiser.schedule.level(before.t, like=state.x)
            r = ((now.alpha / now.sigma).log() - (past.alpha / past.sigma).log()) / h
            x0 = x0 + (x0 - before.prediction.x0) / (2 * r)
        return then.sigma / now.sigma * state.x - then.alpha * torch.expm1(-h) * x0


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method on the probability-flow ODE d(x/alpha) / d(sigma/alpha) = eps, two network calls a step but the
    last (Karras et al. 2022, algorithm 1), deterministic."""

    grid: str = "rho"

    def step(self, denoiser, state, s, prediction, before, label, noise):
        now, then = (denoiser.schedule.level(t, like=state.x) for t in (state.t, s))
        if s == 0:
            return prediction.x0
        h = then.sigma / then.alpha - now.sigma / now.alpha
        start = state.x / now.alpha
        slope = denoiser(then.alpha * (start + h * prediction.eps), s, label).eps
        return then.alpha * (start + h * (prediction.eps + slope) / 2)


def chain(
    sampler: Sampler,
    denoiser: Denoiser,
    n: int,
    shape: tuple[int, ...],
    seed: int,
    label: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[State]:
    """`sampler` from pure noise, x_T ~ N(0, I): sample i is a function of (seed, i) and its label alone."""
    noise = NoiseStream(seed, n, shape, device)
    return sampler(denoiser, noise(), label, noise)
