"""Figures of two-pixel images: densities, one trajectory over them, and the effect of guidance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from diffusion_cli.errors import UserError
from diffusion_cli.figures import paths
from diffusion_cli.figures.plane import limits_of
from diffusion_cli.figures.recipes.plane import of_run, truth
from diffusion_cli.noise import Stream, generator

if TYPE_CHECKING:
    from diffusion_cli.components import Components

PIXELS = 300  # of a density image, along each side
BINS = 75  # of a histogram, along each side
AXES = ("pixel 1", "pixel 2")
QUERIES = 2_000  # points at which the width of a kernel is measured
TAILS = 0.003  # share of the samples on each side that an image leaves out
STRENGTHS = ("w", "s")  # keys of a guidance's strength: classifier-free, classifier

Extent = tuple[float, float, float, float]


def in_the_plane(components: Components, figure: str) -> None:
    if components.dataset.shape != (2,):
        raise UserError("figure", figure, "draws data in the plane", ("dataset=gmm2px",))


def exact_density(components: Components, extent: Extent, t: float) -> np.ndarray:
    """log q(x_t) on the grid of an image (H, W), row 0 at the bottom."""
    density = components.dataset.density
    if density is None or (t == 0 and not density.jitter):
        raise UserError("figure.t", t, "there the data have no density in the plane; try a later time")
    left, right, bottom, top = extent
    half = (right - left) / PIXELS / 2
    x, y = (torch.linspace(low + half, high - half, PIXELS) for low, high in ((left, right), (bottom, top)))
    grid = torch.cartesian_prod(y, x).flip(1)
    level = components.schedule.level(t, like=grid)
    return density.log_prob(grid, level.alpha, level.sigma).view(PIXELS, PIXELS).numpy()


def estimated_density(x: np.ndarray, extent: Extent, kind: str) -> np.ndarray:
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
    elif kind != "histogram":
        raise UserError("figure.estimate", kind, "no such estimate", ("histogram", "kde"))
    with np.errstate(divide="ignore"):
        return np.log(count)


def density(components: Components, t: float, samples: int) -> Any:
    """The true density of x_t, of the data themselves at t = 0, under `samples` points of it."""
    in_the_plane(components, "density")
    x0 = components.dataset.draw(max(samples, 2_000), generator(components.seed, Stream.FIGURE)).x0
    level = components.schedule.level(t, like=x0)
    noise = torch.randn(x0.shape, generator=generator(components.seed, Stream.FIGURE_NOISE))
    x = (level.alpha * x0 + level.sigma * noise).numpy()
    extent = limits_of([x], widen=1.15)
    return paths.density_image(
        exact_density(components, extent, t), extent, x[:samples] if samples else None, labels=AXES
    )


def trajectory_density(components: Components, n: int, times: list[float], estimate: str, sample: int) -> Any:
    """One trajectory from noise to x_0 over the density of x_t at these times, estimated from n chains like it, and
    over the truth. estimate: histogram or kde. Times that the sampler leaves out are replaced by the nearest.
    sample: index of the trajectory among the n."""
    in_the_plane(components, "trajectory_density")
    label = components.labels(n)
    T = components.schedule.T
    if not all(0 <= t <= T for t in times):
        raise UserError("figure.times", times, f"must lie in 0..{T}")
    if not 0 <= sample < n:
        raise UserError("figure.sample", sample, f"must be one of 0..{n - 1}")
    states = list(components.walk(n, label=label))
    known = np.array([state.t for state in states])
    chosen = sorted({int(np.abs(known - t).argmin()) for t in times})
    clouds = {k: states[k].x.cpu().numpy() for k in chosen}
    path = np.stack([state.x[sample].cpu().numpy() for state in states])
    extent = limits_of([*(most_of(cloud) for cloud in clouds.values()), path])
    panels = {f"t = {known[k]:g}": estimated_density(clouds[k], extent, estimate) for k in chosen}
    return paths.density_image(
        panels | {"truth": true_density(components, extent, n, estimate)},
        extent,
        trajectory=path,
        reached=[*chosen, len(path) - 1],
    )


def most_of(x: np.ndarray) -> np.ndarray:
    """The corners (2, 2) of the box that holds all but a share TAILS of samples x (n, 2) on each side."""
    return np.quantile(x, [TAILS, 1 - TAILS], axis=0)


def true_density(components: Components, extent: Extent, n: int, estimate: str) -> np.ndarray:
    """The data's density where it is known, else its estimate from n of them."""
    law = components.dataset.density
    if law is not None and law.jitter:
        return exact_density(components, extent, 0)
    x0 = components.dataset.draw(n, generator(components.seed, Stream.FIGURE)).x0
    return estimated_density(x0.cpu().numpy(), extent, estimate)


def strengths(components: Components, values: list[float]) -> dict[float, Components]:
    """The components under each of these strengths of its guidance."""
    node = components.config["guidance"]
    for key in STRENGTHS:
        if key in node:
            return {value: components.varied(guidance={key: value}) for value in values}
    choices = ("guidance=cfg", "guidance=classifier")
    raise UserError("guidance", "none", "this figure compares strengths of guidance", choices)


def each_label(components: Components) -> list[int]:
    """The labels asked for, or all."""
    asked = components.config.get("label")
    if asked is None:
        return list(range(components.num_classes))
    return [asked] if isinstance(asked, int) else list(dict.fromkeys(asked))


def name_of(components: Components, label: int, value: float) -> str:
    key = next(key for key in STRENGTHS if key in components.config["guidance"])
    return f"label {label}, {key} = {value:g}"


def guidance_trajectories(components: Components, n: int, values: list[float], background: int) -> Any:
    """n trajectories from the same noise under every label and each of these strengths of guidance.

    All panels share x_T and the noise of every step. background: points of the data, drawn faintly.
    """
    in_the_plane(components, "guidance_trajectories")
    panels, guided = {}, strengths(components, values)
    for label in each_label(components):
        for value, one in guided.items():
            states = list(replace(one, label=label).walk(n))
            panels[name_of(one, label, value)] = np.stack([state.x.cpu().numpy() for state in states])
    data = components.dataset.draw(background, generator(components.seed, Stream.FIGURE)).x0.cpu().numpy()
    return paths.trajectories(panels, data, [state.t for state in states])


def guided_comparison(components: Components, n: int, values: list[float]) -> Any:
    """Where n guided chains end with the trained network and with the exact score, from the same x_T and the same
    noise in every step, under every label and each of these strengths."""
    in_the_plane(components, "guided_comparison")
    of_run(components, "guided_comparison")
    learned, exact = {}, {}
    guided = {value: (one, replace(one, net=None)) for value, one in strengths(components, values).items()}
    for label in each_label(components):
        for value, (one, best) in guided.items():
            title = name_of(one, label, value)
            learned[title] = replace(one, label=label).draw(n).x0.cpu().numpy()
            exact[title] = replace(best, label=label).draw(n).x0.cpu().numpy()
    return paths.end_points(learned, exact, truth(components))
