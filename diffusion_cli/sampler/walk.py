"""The loop of all samplers: from x_T down to x_0 over decreasing times, a step at a time.

Noise comes from a callable (`noise.NoiseStream`), so that sample i is the same whatever the batch size, and a test may
hand in the noise it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.denoiser import Denoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.forward import forward_distribution
from diffusion_cli.noise import Noise
from diffusion_cli.prediction import Prediction
from diffusion_cli.schedule import Level


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
