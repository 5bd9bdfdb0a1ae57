"""Times of a sampler that are fitted to a denoiser.

Without noise, those through which chains end nearest to the exact way of the denoiser. The gaps in log-SNR between the first
time, T, and the last but one, 1, are found by the method of Nelder and Mead. The last call is held at the least noise: a loss
of the end points alone would have it at more, and leave samples beside the curve.

With noise, chains have no exact way. A step takes the predicted x0 for constant: where x0 moves, steps are short.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_cli.denoiser import Denoiser
from diffusion_cli.sampler.multistep import Multistep
from diffusion_cli.sampler.protocol import Sampler
from diffusion_cli.sampler.walk import State

log = logging.getLogger(__name__)

Vector = NDArray[np.float64]
# Version of what is fitted here: with another one no times are taken from the cache.
FITTING = 2
# Steps of the way that stands for the exact one; tries for each gap.
FINE, TRIES = 100, 40
# With more, too few steps are left for little noise, where x0 moves little, and samples lie beside a curve.
MOVED = 0.4


def fitted_times(
    sampler: Sampler,
    denoiser: Denoiser,
    x_T: Tensor,
    label: Tensor | None = None,
    tick: Callable[[], None] = lambda: None,
) -> list[float]:
    """`sampler.steps` + 1 decreasing times from T to 0, the last but one 1.

    sampler: any.
    denoiser: any.
    x_T: (n, *shape) standard normal; the times are fitted to the chains from there.
    label: (n,) or None.
    tick: called before each try; it may raise, to stop it.
    """
    schedule = denoiser.schedule
    plain = replace(sampler, grid="log_snr").times(schedule)
    if len(plain) < 4:
        # There is no gap to choose.
        return plain
    fine = Multistep(steps=FINE, grid="log_snr", clip=sampler.clip, box=sampler.box)
    way = [*fine(denoiser, x_T, label)]
    first, last = float(schedule.log_snr[-1]), float(schedule.log_snr[1])

    def times_at(place: Vector) -> list[float]:
        """place: from 0 at T to 1 at t = 1, linear in log-SNR."""
        return [*schedule.time_of(torch.from_numpy(first + (last - first) * place)).tolist(), 0.0]

    if sampler.noisy:
        return times_at(_even_places(way, len(plain) - 1))

    def distance(places: Vector) -> float:
        tick()
        *_, end = sampler(denoiser, x_T, label, times=times_at(places))
        return float((end.x - way[-1].x).double().flatten(1).norm(dim=1).mean())

    return times_at(_nearest_places(distance, len(plain) - 3))


def _even_places(way: Sequence[State], count: int) -> Vector:
    """Places between which the way in log-SNR and that of the predicted x0, the latter with weight MOVED, add up to the same."""
    x0 = [state.prediction.x0.flatten(1) for state in way if state.prediction is not None]
    moves = [float((b - a).square().sum(1).mean().sqrt()) for a, b in itertools.pairwise(x0)]
    moved, place = np.concatenate([[0.0], np.cumsum(moves)]), np.linspace(0, 1, len(x0))
    both = (1 - MOVED) * place + MOVED * moved / (moved[-1] or 1.0)
    return np.interp(np.linspace(0, both[-1], count), both, place)


def _nearest_places(distance: Callable[[Vector], float], free: int) -> Vector:
    """The places of least distance. free: gaps between them that are free to choose, all but the first one."""
    from scipy.optimize import minimize

    def places(gaps: Vector) -> Vector:
        """gaps: their logarithms, but for the first one, which is 1."""
        size = np.exp(np.clip(np.concatenate([[0.0], gaps]), -8, 8))
        return np.concatenate([[0.0], size.cumsum() / size.sum()])

    before = distance(places(np.zeros(free)))
    simplex = np.concatenate([np.zeros((1, free)), np.eye(free)])
    options = {"maxfev": TRIES * (free + 1), "xatol": 1e-2, "fatol": 1e-6, "initial_simplex": simplex}
    found = minimize(lambda gaps: distance(places(gaps)), simplex[0], method="Nelder-Mead", options=options)
    log.info(
        "grid fitted: the ends of its chains are %.3g from the exact ones, %.3g with log_snr",
        found.fun,
        before,
    )
    return places(found.x)
