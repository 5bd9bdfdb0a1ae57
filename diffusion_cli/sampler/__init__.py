"""Samplers: generators that walk from x_T to x_0 over decreasing times.

    for state in DDIM(steps=10)(denoiser, x_T, label): ...        # state.t, state.x; the last one has t = 0

All share one loop, `walk`; a sampler is its step from t to s < t, a function of one `Move`.
"""

from diffusion_cli.sampler.multistep import Multistep
from diffusion_cli.sampler.protocol import Sampler, chain
from diffusion_cli.sampler.steps import DDIM, DDPM, Heun
from diffusion_cli.sampler.walk import Move, State, Visit, walk

__all__ = ["DDIM", "DDPM", "Heun", "Move", "Multistep", "Sampler", "State", "Visit", "chain", "walk"]
