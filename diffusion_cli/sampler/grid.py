"""Times of a sampler that are fitted: those through which its chains end nearest to the exact way of the denoiser.

The gaps in log-SNR between the first time, T, and the last but one, 1, are found by the method of Nelder and Mead. The last
call is held at the least noise: a loss of the end points alone would have it at more, and leave samples beside the curve.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_cli.denoiser import Denoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.sampler.multistep import Multistep
from diffusion_cli.sampler.protocol import Sampler
from diffusion_cli.sampler.steps import DDIM, Heun

log = logging.getLogger(__name__)

# Steps of the way that stands for the exact one; tries for each gap.
FINE, TRIES = 100, 40


def fitted_times(
    sampler: Sampler,
    denoiser: Denoiser,
    x_T: Tensor,
    label: Tensor | None = None,
    tick: Callable[[], None] = lambda: None,
) -> list[float]:
    """`sampler.steps` + 1 decreasing times from T to 0, the last but one 1.

    sampler: deterministic; ArgumentError for another.
    denoiser: any.
    x_T: (n, *shape) standard normal; the mean distance of the ends of these chains is made small.
    label: (n,) or None.
    tick: called before each try; it may raise, to stop it.
    """
    from scipy.optimize import minimize

    if not isinstance(sampler, Multistep | Heun) and not (isinstance(sampler, DDIM) and not sampler.eta):
        raise ArgumentError("grid", "fitted", "is for samplers without noise: dpmpp, unipc, deis, heun, ddim")
    schedule = denoiser.schedule
    plain = replace(sampler, grid="log_snr")
    if len(plain.times(schedule)) < 4:
        # There is no gap to choose.
        return plain.times(schedule)
    first, last = float(schedule.log_snr[-1]), float(schedule.log_snr[1])

    def ends(of: Sampler, times: list[float] | None = None) -> Tensor:
        *_, state = of(denoiser, x_T, label, times=times)
        return state.x.flatten(1).double()

    def times_of(gaps: NDArray[np.float64]) -> list[float]:
        """gaps: their logarithms, but for the first one, which is 1."""
        size = np.exp(np.clip(np.concatenate([[0.0], gaps]), -8, 8))
        places = first + (last - first) * np.concatenate([[0.0], size.cumsum() / size.sum()])
        return [*schedule.time_of(torch.from_numpy(places)).tolist(), 0.0]

    def distance(gaps: NDArray[np.float64]) -> float:
        tick()
        return float((ends(sampler, times_of(gaps)) - exact).norm(dim=1).mean())

    exact = ends(Multistep(steps=FINE, grid="log_snr", clip=sampler.clip, box=sampler.box))
    count = len(plain.times(schedule)) - 3
    before = distance(np.zeros(count))
    simplex = np.concatenate([np.zeros((1, count)), np.eye(count)])
    options = {"maxfev": TRIES * (count + 1), "xatol": 1e-2, "fatol": 1e-6, "initial_simplex": simplex}
    found = minimize(distance, simplex[0], method="Nelder-Mead", options=options)
    log.info(
        "grid fitted: the ends of its chains are %.3g from the exact ones, %.3g with log_snr",
        found.fun,
        before,
    )
    return times_of(found.x)
