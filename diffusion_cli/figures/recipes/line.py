"""Figures of data on a line: the forward process, and its exact reverse towards known points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.dataset.box import Box
from diffusion_cli.errors import UserError
from diffusion_cli.figures.kinds import draws
from diffusion_cli.figures.line import trajectories_1d, two_point_trajectories
from diffusion_cli.figures.recipes.material import density_on_line, examples
from diffusion_cli.figures.space import Floats
from diffusion_cli.forward import forward_chain, reverse_chain
from diffusion_cli.noise import NoiseStream, Stream
from diffusion_cli.ranges import Count, Many, checked

# Positions at which a density is drawn.
GRID = 400
# More atoms than this are no longer points to mark.
MOST_ATOMS = 12


class Paths(NamedTuple):
    """Times (K,), the paths (shown, K) of the first chains, and where all of them end (n,)."""

    times: list[int]
    paths: Floats
    ends: Floats


@draws("line")
@checked
def forward1d(components: Components, n: Many = 10_000, shown: Count = 150) -> Figure:
    """Trajectories of the forward process on a line, step by step, and their ends x_T against N(0, 1).

    n: chains, whose ends make the histogram.
    shown: trajectories drawn.
    """
    times, paths, ends = forward_paths(components, n, shown)
    grid = np.linspace(min(ends.min(), -3.5), max(ends.max(), 3.5), GRID)
    normal = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    head = f"{title(components, 'forward')}\n{moments(ends)}; {kolmogorov_smirnov(ends, 'norm', 'N(0, 1)')}"
    return trajectories_1d(paths, times, (grid, normal), "N(0, 1)", ends, head)


@draws("line")
@checked
def reverse1d(components: Components, n: Many = 10_000, shown: Count = 150) -> Figure:
    """Trajectories of the exact reverse q(x_{t-1} | x_t, x_0) on a line, with x_0 of the data, and their ends.

    n: chains, whose ends make the histogram.
    shown: trajectories drawn.
    """
    times, paths, ends = reverse_paths(components, n, shown)
    density = density_on_line(components)
    grid = np.linspace(ends.min() - 0.1 * np.ptp(ends), ends.max() + 0.1 * np.ptp(ends), GRID)
    truth = None if density is None else (grid, density(grid))
    head = f"{title(components, 'reverse to a known x0')}\n{moments(ends)}"
    if density is not None:
        head += f"; {kolmogorov_smirnov(ends, distribution(density, components.dataset.box), 'the data')}"
    return trajectories_1d(paths, times, truth, "data", ends, head)


@draws("line")
@checked
def twopoint(components: Components, shown: Count = 12) -> Figure:
    """Trajectories between the few points of the data and noise: forward (solid), and exactly reversed (dashed).

    shown: trajectories of each process.
    """
    points = atoms(components)
    out_times, out, _ = forward_paths(components, shown, shown)
    back_times, back, _ = reverse_paths(components, shown, shown)
    return two_point_trajectories(
        out, back, out_times, back_times, points, title(components, "forward and reverse")
    )


def forward_paths(components: Components, n: int, shown: int) -> Paths:
    """n chains of single steps from clean data."""
    noise = NoiseStream(components.seed, n, (1,), stream=Stream.FORWARD_CHAIN)
    return paths_of(forward_chain(components.schedule, examples(components, n).x0, noise), shown)


def reverse_paths(components: Components, n: int, shown: int) -> Paths:
    """n chains of exact reverse steps from noise, each towards an x_0 of the data."""
    noise = NoiseStream(components.seed, n, (1,), stream=Stream.REVERSE_CHAIN)
    return paths_of(reverse_chain(components.schedule, noise(), examples(components, n).x0, noise), shown)


def paths_of(chain: Iterable[tuple[int, torch.Tensor]], shown: int) -> Paths:
    """The paths of the first chains, and the ends of all."""
    times, paths = [], []
    for t, x in chain:
        times.append(t)
        paths.append(x[:shown, 0].numpy())
    return Paths(times, np.stack(paths, 1), x[:, 0].numpy())


def title(components: Components, name: str) -> str:
    return f"{name}, {components.schedule.name} schedule, T = {components.schedule.T}"


def moments(ends: Floats) -> str:
    """Mean and standard deviation of the ends, with the standard error of the mean."""
    deviation = ends.std(ddof=1)
    return f"mean {ends.mean():.3f} ± {deviation / len(ends) ** 0.5:.3f}, deviation {deviation:.3f}"


def kolmogorov_smirnov(ends: Floats, cdf: Callable[[Floats], Floats] | str, name: str) -> str:
    """The test of Kolmogorov and Smirnov of the ends against a distribution: the largest distance D, and its p-value.

    cdf: the distribution function, or its name in scipy.stats.
    """
    # Here: half a second, which training should not wait for.
    from scipy.stats import kstest

    found = kstest(ends.astype(np.float64), cdf)
    return f"KS test against {name}: D = {found.statistic:.4f}, p = {found.pvalue:.2g}"


def distribution(density: Callable[[Floats], Floats], box: Box) -> Callable[[Floats], Floats]:
    """The distribution function of a density on the line, by integration over twice the range of the data."""
    from scipy.integrate import cumulative_trapezoid

    side = float(box.high - box.low)
    grid = np.linspace(float(box.low) - side / 2, float(box.high) + side / 2, 20_001)
    below = cumulative_trapezoid(density(grid), grid, initial=0)
    return lambda x: np.interp(x, grid, below)


def atoms(components: Components) -> Floats:
    """The few points (K,) of which the data consist; UserError where they do not."""
    density = components.dataset.density
    found = np.empty(0)
    if density is not None and not density.jitter:
        found = np.unique(density.reference(10_000).numpy())
    if not 0 < len(found) <= MOST_ATOMS:
        raise UserError("figure", "twopoint", "draws data of a few points", ("dataset=twopoint",))
    return found
