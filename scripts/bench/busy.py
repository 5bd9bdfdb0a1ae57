"""Two threads against one on a machine where each core counts for somebody else: milliseconds of a training step.

libgomp's threads wait actively unless they are stopped from it (diffusion_cli.cli.before_torch), and wait for one that has no
core. Five turns of each, on the clock, with a process that only counts on each core and without.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from bench.turns import heading, milliseconds, row
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.device import cpu_multiplies_bf16
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.unet2d import UNet2d
from diffusion_cli.objective import Objective
from diffusion_cli.optimizer import Flat, Optimizer
from diffusion_cli.prediction import V
from diffusion_cli.schedule import loglinear
from diffusion_cli.trainer import TrainState, fit

TURNS, LIMIT = 5, 1.7


@contextmanager
def counting(processes: int) -> Iterator[None]:
    """Within, so many processes only count."""
    children = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def plane() -> Callable[[], object]:
    """A step of the default network on the circle."""
    batches = Batches(Circle(), loglinear(T=50), Objective(), 256, seed=0)
    state = TrainState.start(MLP((2,)), Optimizer())
    steps = fit(state, NetworkDenoiser(state.net, V(), batches.schedule), batches, 10**9)
    return lambda: next(steps)


def digits() -> Callable[[], object]:
    """A step of the network of digits on random images."""
    net = UNet2d((1, 28, 28), 10)
    adam = Optimizer().build(Flat(net.parameters()))
    x, level, label = torch.randn(64, 1, 28, 28), torch.randn(64), torch.randint(10, (64,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_multiplies_bf16()):
            out = net(x, level, label)
        (out - x).square().mean().backward()
        adam.step(lr=1e-4)

    return step


def seconds(step: Callable[[], object], threads: int, times: int) -> float:
    torch.set_num_threads(threads)
    step()
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) / times


def main(threads: int, rounds: int) -> None:
    cores = os.cpu_count() or 1
    heading("", "one thread", "two threads", "two / one", "at most")
    for name, step, times in (("2-D network, B = 256", plane(), 60), ("digits, B = 64", digits(), 3)):
        for busy in (False, True):
            with counting(cores if busy else 0):
                pairs = [[seconds(step, n, times) for n in (1, 2)] for _ in range(TURNS)]
            ratio = statistics.median(two / one for one, two in pairs)
            one, two = (milliseconds([pair[i] for pair in pairs]) for i in (0, 1))
            beside = f", beside {cores} busy processes" if busy else ""
            row(name + beside, one, two, f"{ratio:.2f}", f"{LIMIT}" if busy else "")
    torch.set_num_threads(threads)
