"""A training step and sampling of a 2-D network, beside the loops that small diffusion repositories share (rival.py).

Both sides have the same network (99,074 parameters), the same 8,000 points, T = 50 linear betas, AdamW 1e-3 and gradient
clipping. Ours also averages the weights (EMA), draws every batch from its own seed, and writes a log row every 50 steps,
as `diffusion train` does; both feed a progress bar. Sampling of the rival is also timed with
torch.set_float32_matmul_precision("medium"), which rounds the factors of its products to bfloat16. A line of its own has
what `train dataset=circle` does: our default network, and targets of less noise. The limit is the time of the matrix
products alone.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import TextIO

import torch
from tqdm import tqdm

from bench import rival
from bench.turns import heading, milliseconds, row, take_turns
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.model.linear import linear_product
from diffusion_cli.model.mlp import MLP
from diffusion_cli.objective import Objective
from diffusion_cli.optimizer import Optimizer
from diffusion_cli.prediction import Eps, Parameterization, V
from diffusion_cli.sampler import DDPM, chain
from diffusion_cli.schedule import Schedule, linear, loglinear
from diffusion_cli.trainer import TrainState, fit

POINTS = 8000  # of the training set
SAMPLES = 5000
LOG_EVERY = 50
SIZES = {32: 50, 256: 25, 2048: 6}  # points of a batch, and steps of a turn
# factors of the products of the rival's network: inputs and outputs of its layers
LAYERS = ((384, 128), (128, 128), (128, 128), (128, 128), (128, 2))


def same_network() -> MLP:
    """The rival's network as an option of ours."""
    net = MLP((2,), activation="gelu", x_embedding="sinusoidal", time_embedding="sinusoidal", fade=False,
              zero_init=False)  # fmt: skip
    sizes = [sum(p.numel() for p in m.parameters()) for m in (net, rival.Network())]
    if sizes != [99074, 99074]:
        raise SystemExit(f"the networks are not the same: {sizes} parameters")
    return net


def training(
    net: MLP, read: Parameterization, batches: Batches, optimizer: Optimizer, file: TextIO
) -> Iterator[None]:
    """As `diffusion train` iterates: a progress bar, and every LOG_EVERY steps the mean loss since the last."""
    state = TrainState.start(net, optimizer)
    bar = tqdm(file=file, mininterval=0.5)
    for _ in fit(state, NetworkDenoiser(net, read, batches.schedule), batches, 10**9):
        if state.step % LOG_EVERY == 0:
            bar.set_postfix_str(f"loss {state.log()['loss']:.4g}", refresh=False)
        bar.update()
        yield


def sample(net: MLP, read: Parameterization, schedule: Schedule, sampler: DDPM, seed: int) -> None:
    """SAMPLES points by T steps."""
    for _ in chain(sampler, NetworkDenoiser(net, read, schedule), SAMPLES, (2,), seed):
        pass


def rounded(action: Callable[[], object]) -> None:
    """An action with the factors of its products in bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        action()
    finally:
        torch.set_float32_matmul_precision(before)


@torch.no_grad()
def products(size: int, backward: bool, times: int = 1) -> Callable[[], None]:
    """The matrix products of the rival's network, and of its backward pass: no gradient of the inputs of the first layer."""
    factors = [(torch.randn(size, a), torch.randn(b, a), torch.randn(size, b)) for a, b in LAYERS]

    def multiply() -> None:
        for _ in range(times):
            for layer, (x, weight, gradient) in enumerate(factors):
                linear_product(x, weight)
                if backward:
                    linear_product(gradient.t(), x.t())
                if backward and layer:
                    linear_product(gradient, weight.t())

    return torch.no_grad()(multiply)


def main(threads: int, rounds: int) -> None:
    dataset, plain = Circle(n=POINTS), Objective(times="uniform")
    with warnings.catch_warnings(action="ignore"):
        # This schedule does not reach noise, and the package says so.
        schedule = linear(T=rival.T, rescale=False)
    points = dataset.draw(POINTS, torch.Generator().manual_seed(0)).x0
    ours = Optimizer(lr=1e-3, warmup=0, decay="constant", clip=1.0)

    heading("", "rival", "ours", "rival / ours (quartiles)", "as train dataset=circle", "products alone")
    with open(os.devnull, "w") as nowhere:
        for size, times in SIZES.items():
            batches = Batches(dataset, schedule, plain, size, seed=0)
            circle = Batches(Circle(), loglinear(T=50), Objective(targets="stable"), size, seed=0)
            sides = {
                "rival": partial(next, rival.train(rival.Network(), points, size, nowhere)),
                "ours": partial(next, training(same_network(), Eps(), batches, ours, nowhere)),
                "default": partial(next, training(MLP((2,)), V(), circle, Optimizer(), nowhere)),
                "products": products(size, backward=True),
            }
            turns = take_turns(sides, rounds, times, threads)
            of = [milliseconds(turns.seconds(side)) for side in sides]
            row(f"training step, B = {size:,}", *of[:2], turns.ratio("rival", "ours"), *of[2:])

    their_net, our_net, default, seeds = rival.Network(), same_network(), MLP((2,)), count()
    posterior = DDPM(variance="posterior")
    sides = {
        "rival": lambda: rival.sample(their_net, SAMPLES),
        "ours": lambda: sample(our_net, Eps(), schedule, posterior, next(seeds)),
        "default": lambda: sample(default, V(), loglinear(T=50), DDPM(), next(seeds)),
        "products": products(SAMPLES, backward=False, times=rival.T),
        "rounded": lambda: rounded(lambda: rival.sample(their_net, SAMPLES)),
    }
    turns = take_turns(sides, max(rounds // 2, 2), 1, threads)
    of = [milliseconds(turns.seconds(side)) for side in sides]
    name = f"{SAMPLES:,} samples, DDPM, {rival.T} steps"
    row(name, *of[:2], turns.ratio("rival", "ours"), *of[2:4])
    row("the rival with factors in bfloat16", of[4], of[1], turns.ratio("rounded", "ours"), "", "")
