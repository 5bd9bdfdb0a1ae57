"""The error of the network itself, which no sampler mends: its distance from the exact denoiser by noise level."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.denoiser import Denoiser
from diffusion_cli.noise import Noise


@torch.no_grad()
def velocity_errors(
    network: Denoiser, exact: Denoiser, data: Batch, noise: Noise, times: Sequence[float]
) -> dict[float, float]:
    """sigma/alpha at each time -> E|v - v_exact|^2 there, v = alpha eps - sigma x0, over noised points of the data.

    For a given x_t the error of v is that of x0 over sigma, and that of eps over alpha, whatever the network puts out.
    """
    found = {}
    for time in times:
        level = exact.schedule.level(time, like=data.x0)
        x_t = (level.alpha * data.x0 + level.sigma * noise()).to(data.x0)
        error = (network(x_t, time, data.label).x0 - exact(x_t, time, data.label).x0) / level.sigma
        found[float(level.sigma / level.alpha)] = float(error.square().flatten(1).sum(1).mean())
    return found
