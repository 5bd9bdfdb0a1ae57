"""How the time of a training step, or of sampling, grows with the size of things."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from bench.turns import heading, milliseconds, row, take_turns
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.dataset.stars import Stars
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.network import Network
from diffusion_cli.model.set import SetNet
from diffusion_cli.objective import Objective
from diffusion_cli.optimizer import Optimizer
from diffusion_cli.prediction import V
from diffusion_cli.sampler import DDPM, chain
from diffusion_cli.schedule import loglinear
from diffusion_cli.trainer import TrainState, fit


def step(net: Network, dataset: Circle | Stars, size: int) -> Callable[[], object]:
    """One of training."""
    batches = Batches(dataset, loglinear(T=50), Objective(targets="stable"), size, seed=0)
    state = TrainState.start(net, Optimizer())
    steps = fit(state, NetworkDenoiser(net, V(), batches.schedule), batches, 10**9)
    return lambda: next(steps)


def sampling(T: int, n: int = 1000) -> Callable[[], object]:
    """n points in T steps."""
    denoiser, seeds = NetworkDenoiser(MLP((2,)), V(), loglinear(T=T)), count()
    return lambda: [state.t for state in chain(DDPM(), denoiser, n, (2,), next(seeds))]


def main(threads: int, rounds: int) -> None:
    circle = Circle()
    plane = {size: step(MLP((2,)), circle, size) for size in (32, 128, 512, 2048)}
    widths = {width: step(MLP((2,), width=width), circle, 256) for width in (64, 128, 256, 512)}
    sets = {p: step(SetNet((p, 2)), Stars(n=64, test=8, size=p, points=p), 16) for p in (128, 256, 512, 1024)}
    tables = {
        "points of a batch (2-D network)": (plane, 20),
        "width of the network, B = 256": (widths, 10),
        "points of a set (stars, B = 16)": (sets, 2),
        "T, 1,000 samples": ({T: sampling(T) for T in (25, 50, 100, 200)}, 1),
    }
    heading("", *("" for _ in plane))
    for name, (sides, times) in tables.items():
        turns = take_turns(
            {f"{size:,}": side for size, side in sides.items()}, max(rounds // 3, 2), times, threads
        )
        row(name, *(f"{side}: {milliseconds(turns.seconds(side))}" for side in turns.of))
