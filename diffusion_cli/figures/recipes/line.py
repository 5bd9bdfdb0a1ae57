"""Figures of data on a line: the forward process, its exact reversal, and what a denoiser makes of noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli import forward
from diffusion_cli.errors import UserError
from diffusion_cli.figures import line
from diffusion_cli.noise import NoiseStream, Stream, generator

if TYPE_CHECKING:
    from diffusion_cli.components import Components

GRID = 400  # positions at which a density is drawn
MANY = 12  # more atoms than this are no longer "points" to mark


def on_a_line(components: Components, figure: str) -> None:
    if components.dataset.shape != (1,):
        raise UserError("figure", figure, "draws data on a line", ("dataset=gaussian1d", "dataset=twopoint"))


def forward_states(components: Components, n: int) -> Iterable[tuple[int, torch.Tensor]]:
    """(t, x_t) of n chains of single steps from clean data."""
    x0 = components.dataset.draw(n, generator(components.seed, Stream.FIGURE)).x0
    noise = NoiseStream(components.seed, n, (1,), stream=Stream.FORWARD_CHAIN)
    return forward.forward_chain(components.schedule, x0, noise)


def reverse_states(components: Components, n: int) -> Iterable[tuple[int, torch.Tensor]]:
    """(t, x_t) of n chains of exact reverse steps from noise, each towards a known x_0 of the data."""
    x0 = components.dataset.draw(n, generator(components.seed, Stream.FIGURE)).x0
    noise = NoiseStream(components.seed, n, (1,), stream=Stream.REVERSE_CHAIN)
    return forward.reverse_chain(components.schedule, noise(), x0, noise)


def sampled_states(components: Components, n: int) -> Iterable[tuple[float, torch.Tensor]]:
    """(t, x_t) of n chains of the components's sampler and denoiser."""
    label = components.labels(n)
    for state in components.walk(n, label=label):
        yield state.t, state.x.cpu()


def collect(
    states: Iterable[tuple[float, torch.Tensor]], shown: int
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Times (K,), the paths (shown, K) of the first chains, and where all of them end (n,)."""
    times, paths = [], []
    for t, x in states:
        times.append(t)
        paths.append(x[:shown, 0].numpy())
        last = x
    return times, np.stack(paths, 1), last[:, 0].numpy()


def forward1d(components: Components, n: int, shown: int) -> Any:
    """`shown` trajectories of the forward process, step by step, and x_T of all n against N(0, 1)."""
    on_a_line(components, "forward1d")
    times, paths, ends = collect(forward_states(components, n), shown)
    grid = np.linspace(min(ends.min(), -3.5), max(ends.max(), 3.5), GRID)
    normal = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    return line.trajectories_1d(paths, times, (grid, normal), "N(0, 1)", ends, title(components, "forward"))


def reverse1d(components: Components, n: int, shown: int) -> Any:
    """`shown` trajectories of q(x_{t-1} | x_t, x_0) from noise towards known x_0, and x_0 of all n against its law."""
    on_a_line(components, "reverse1d")
    return backwards(components, reverse_states(components, n), shown, "reverse to a known x0")


def trajectories1d(components: Components, n: int, shown: int) -> Any:
    """`shown` trajectories of the sampler from noise to x_0, and x_0 of all n against the data's law."""
    on_a_line(components, "trajectories1d")
    return backwards(components, sampled_states(components, n), shown, "reverse")


def backwards(
    components: Components, states: Iterable[tuple[float, torch.Tensor]], shown: int, name: str
) -> Any:
    times, paths, ends = collect(states, shown)
    return line.trajectories_1d(paths, times, law(components, ends), "data", ends, title(components, name))


def law(components: Components, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions and density of the data where these samples lie; None for a law of points, which has none."""
    density = components.dataset.density
    if density is None or not density.jitter:
        return None
    grid = torch.linspace(float(ends.min()) - density.jitter, float(ends.max()) + density.jitter, GRID)
    return grid.numpy(), density.log_prob(grid[:, None], 1.0, 0.0).exp().numpy()


def title(components: Components, name: str) -> str:
    return f"{name}, {components.schedule.name} schedule, T = {components.schedule.T}"


def twopoint(components: Components, shown: int) -> Any:
    """Trajectories between the data's few points and noise: forward (solid), and exactly reversed (dashed)."""
    on_a_line(components, "twopoint")
    points = atoms(components)
    forward_times, forward, _ = collect(forward_states(components, shown), shown)
    reverse_times, reverse, _ = collect(reverse_states(components, shown), shown)
    return line.two_point_trajectories(
        forward, reverse, forward_times, reverse_times, points, title(components, "forward and reverse")
    )


def atoms(components: Components) -> np.ndarray:
    """The few points (K,) of which the data consist; UserError where they do not."""
    density = components.dataset.density
    known = density is not None and not density.jitter
    found = np.unique(density.reference(10_000).numpy()) if known else np.empty(0)
    if not 0 < len(found) <= MANY:
        raise UserError("figure", "twopoint", "draws data of a few points", ("dataset=twopoint",))
    return found
