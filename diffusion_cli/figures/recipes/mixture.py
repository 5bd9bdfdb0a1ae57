"""Figures of two-pixel images: densities, one trajectory over them, and the effect of guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from diffusion_cli.components import Components
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.figures import paths
from diffusion_cli.figures.kinds import draws
from diffusion_cli.figures.plane import Limits, limits_of
from diffusion_cli.figures.recipes.material import examples, nearest_states, run_of, states_of, truth_of
from diffusion_cli.figures.recipes.process import without_noise
from diffusion_cli.figures.space import Floats
from diffusion_cli.figures.style import time_title
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Finite, Many, NonNegative, Whole, checked

# Of a density image, along each side; and of a histogram.
PIXELS, BINS = 300, 75
AXES = ("pixel 1", "pixel 2")
# Points at which the width of a kernel is measured.
QUERIES = 2_000
# Fraction of the samples on each side that an image leaves out.
TAILS = 0.003
# Keys of a guidance's strength: classifier-free, classifier.
STRENGTHS = ("w", "s")
Estimate = Literal["histogram", "kde"]


def exact_density(components: Components, extent: Limits, t: float) -> Floats:
    """log q(x_t) on the grid of an image (H, W), row 0 at the bottom."""
    density = components.dataset.density
    if density is None or (t == 0 and not density.jitter):
        raise ArgumentError("t", t, "there the data have no density in the plane; try a later time")
    left, right, bottom, top = extent
    half = (right - left) / PIXELS / 2
    x, y = (torch.linspace(low + half, high - half, PIXELS) for low, high in ((left, right), (bottom, top)))
    grid = torch.cartesian_prod(y, x).flip(1)
    level = components.schedule.level(t, like=grid)
    grid = components.units.inward(grid)
    return density.log_prob(grid, level.alpha, level.sigma).view(PIXELS, PIXELS).numpy()


def estimated_density(x: Floats, extent: Limits, kind: Estimate) -> Floats:
    """log of the density of samples x (n, 2), up to a constant, on the grid of an image, row 0 at the bottom.

    histogram, or kde: a Gaussian kernel as wide as the median distance to the sqrt(n)-th nearest neighbour, which
    follows narrow modes where a rule made for one Gaussian (Scott's) would blur them; summed over fine bins.
    """
    left, right, bottom, top = extent
    bins = BINS if kind == "histogram" else PIXELS
    count, *_ = np.histogram2d(x[:, 1], x[:, 0], bins, ((bottom, top), (left, right)))
    if kind == "kde":
        neighbours = max(2, round(np.sqrt(len(x))))
        width = float(np.median(cKDTree(x).query(x[:QUERIES], [neighbours])[0]))
        count = gaussian_filter(count, width * PIXELS / (right - left), truncate=5)
    with np.errstate(divide="ignore"):
        return np.log(count)


@draws("plane")
@checked
def density(components: Components, t: NonNegative = 0, samples: Whole = 0) -> Figure:
    """The exact density of x_t in the plane.

    t: the time; 0: the density of the data themselves.
    samples: points of it on the image.
    """
    within_schedule(components, "t", [t])
    x0 = examples(components, max(samples, 2_000)).x0
    level = components.schedule.level(t, like=x0)
    noise = torch.randn(x0.shape, generator=generator(components.seed, Stream.FIGURE_NOISE))
    x = components.units.array(level.alpha * x0 + level.sigma * noise)
    extent = limits_of([x], widen=1.15)
    shown = x[:samples] if samples else None
    return paths.density_image(exact_density(components, extent, t), extent, shown, labels=AXES)


def within_schedule(components: Components, argument: str, times: Sequence[float]) -> None:
    for t in times:
        if t > components.schedule.T:
            raise ArgumentError(argument, t, f"must lie in 0..{components.schedule.T}")


@draws("plane")
@checked
def trajectory_density(
    components: Components,
    n: Many = 20_000,
    times: Sequence[NonNegative] = (50, 40, 30, 20, 10),
    estimate: Literal["histogram", "kde"] = "kde",
    sample: Whole = 0,
) -> Figure:
    """One trajectory from noise to x_0 over the densities of x_t, estimated from chains like it, and over the truth.

    n: chains that estimate the densities.
    times: of the densities; those that the sampler leaves out are replaced by the nearest.
    estimate: histogram, or kde, a smooth one.
    sample: index of the trajectory among the n.
    """
    within_schedule(components, "times", times)
    if sample >= n:
        raise ArgumentError("sample", sample, f"must be one of 0..{n - 1}")
    states = states_of(components, n)
    chosen = nearest_states(states, times)
    path = states.x[:, sample]
    extent = limits_of([*(most_of(states.x[k]) for k in chosen), path])
    panels = {time_title(states.times[k]): estimated_density(states.x[k], extent, estimate) for k in chosen}
    return paths.density_image(
        panels | {"truth": true_density(components, extent, n, estimate)},
        extent,
        trajectory=path,
        reached=[*chosen, len(path) - 1],
    )


def most_of(x: Floats) -> Floats:
    """The corners (2, 2) of the box that holds all but a fraction TAILS of samples x (n, 2) on each side."""
    return np.quantile(x, [TAILS, 1 - TAILS], axis=0)


def true_density(components: Components, extent: Limits, n: int, estimate: Estimate) -> Floats:
    """The data's density where it is known, else its estimate from n of them."""
    density = components.dataset.density
    if density is not None and density.jitter:
        return exact_density(components, extent, 0)
    return estimated_density(components.units.array(examples(components, n).x0), extent, estimate)


def strengths(components: Components, values: Sequence[float]) -> dict[float, Components]:
    """The components under each of these strengths of their guidance."""
    key = strength_key(components)
    return {value: components.varied(guidance={key: value}) for value in values}


def strength_key(components: Components) -> str:
    """The key of a guidance's strength; UserError for no guidance."""
    for key in STRENGTHS:
        if key in components.config["guidance"]:
            return key
    choices = ("guidance=cfg", "guidance=classifier")
    raise UserError("guidance", "none", "this figure compares strengths of guidance", choices)


def each_label(components: Components) -> list[int]:
    """The requested labels, or all."""
    label = components.label
    if label is None or isinstance(label, str):
        return list(range(components.classes.num_classes))
    given = label if isinstance(label, list) else [label]
    return list(dict.fromkeys(map(components.classes.number, given)))


@draws("plane")
@checked
def guidance_trajectories(
    components: Components,
    n: Many = 6,
    values: Sequence[Finite] = (0, 1, 3),
    background: Many = 2000,
    smooth: bool = True,
) -> Figure:
    """Trajectories from the same noise under every label and several strengths of guidance.

    All panels share x_T and the noise of every step.

    smooth: true: by DDIM, whose ways differ by guidance alone; false: by the run's sampler.
    n: trajectories in each panel.
    values: of guidance.w, or of guidance.s for classifier guidance.
    background: points of the data, drawn faintly.
    """
    if smooth and (deterministic := without_noise(components.walking)) is not None:
        components = replace(components, sampler=deterministic)
    key, guided = strength_key(components), strengths(components, values)
    panels = {}
    for label in each_label(components):
        for value, one in guided.items():
            states = states_of(replace(one, label=label), n)
            panels[f"label {label}, {key} = {value:g}"] = states.x
    return paths.trajectories_2d(
        panels, components.units.array(examples(components, background).x0), states.times
    )


@draws("plane")
@checked
def guided_comparison(components: Components, n: Many = 200, values: Sequence[Finite] = (0, 1, 3)) -> Figure:
    """Where guided chains end with the trained network and with the exact score, from the same noise.

    One panel for every label and strength of guidance; the noise of every step is shared, too.

    n: chains in each panel.
    values: of guidance.w, or of guidance.s for classifier guidance.
    """
    run_of(components)
    key, guided = strength_key(components), strengths(components, values)
    learned, exact = {}, {}
    for label in each_label(components):
        for value, one in guided.items():
            title = f"label {label}, {key} = {value:g}"
            learned[title] = one.units.array(replace(one, label=label).draw(n).x0)
            exact[title] = one.units.array(replace(one, label=label, net=None).draw(n).x0)
    return paths.end_points(learned, exact, truth_of(components))
