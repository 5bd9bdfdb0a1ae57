"""Figures of images: data, samples, training, and both processes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli.errors import UserError
from diffusion_cli.figures import images
from diffusion_cli.figures.recipes.plane import of_run
from diffusion_cli.noise import NoiseStream, Stream, generator
from diffusion_cli.sampler import DDIM, DDPM, DPMpp, Heun, Sampler

if TYPE_CHECKING:
    from diffusion_cli.components import Components

SAMPLERS: dict[str, type[Sampler]] = {"ddpm": DDPM, "ddim": DDIM, "dpmpp": DPMpp, "heun": Heun}


def of_images(components: Components, figure: str) -> None:
    if len(components.dataset.shape) != 3:
        raise UserError("figure", figure, "draws images, which this dataset does not hold")


def named(components: Components, label: Any) -> list[str] | None:
    """The names of classes (n,), or their numbers; None for unlabelled data."""
    if label is None:
        return None
    names = getattr(components.dataset, "class_names", ())
    return [names[k] if k < len(names) else str(k) for k in map(int, label)]


def examples(components: Components, n: int) -> Any:
    """n training images and their labels, as one batch of training would see them."""
    return components.dataset.draw(n, generator(components.seed, Stream.FIGURE))


def data(components: Components, n: int, columns: int) -> Any:
    """n training images under the names of their classes."""
    of_images(components, "image_data")
    x0, label, _ = examples(components, n)
    return images.grid(x0.numpy(), named(components, label), columns)


def samples(components: Components, n: int, columns: int) -> Any:
    """The first n samples of this config under the labels that they were asked for."""
    of_images(components, "image_samples")
    x0, label = components.samples
    return images.grid(x0[:n], named(components, None if label is None else label[:n]), columns)


def noise(components: Components, n: int, columns: int) -> Any:
    """The noise x_T that the first n samples of this config were made from, beside these."""
    of_images(components, "image_noise")
    x0 = components.samples[0][:n]
    x_T = NoiseStream(components.seed, len(x0), components.dataset.shape)().numpy()
    return images.beside(x_T, x0, ("noise", "samples"), columns)


def stages(components: Components, n: int, columns: int) -> Any:
    """What n images became in the course of training, from the same noise; `columns` evenly chosen steps."""
    of_images(components, "image_stages")
    kept = of_run(components, "image_stages").stages()
    if not kept:
        return None
    steps = [list(kept)[i] for i in evenly(len(kept), columns)]
    rows = [[kept[step][j] for step in steps] for j in range(min(n, len(kept[steps[0]])))]
    return images.strip(rows, [f"step {step:,}" for step in steps])


def forward_strip(components: Components, n: int, percents: list[float]) -> Any:
    """x_t of n training images at these percents of T, always with the same noise."""
    of_images(components, "image_forward")
    x0 = examples(components, n).x0
    times = [percent / 100 * components.schedule.T for percent in percents]
    columns = [noised(components, x0, t).numpy() for t in times]
    return images.strip(list(zip(*columns, strict=True)), [f"{p:g} % of T" for p in percents])


def reverse_strip(components: Components, n: int, percents: list[float]) -> Any:
    """The way back of the same n training images from their x_t at the first of these percents of T, the last column
    of `forward_strip`, by the sampler's own times and these. percents must fall."""
    of_images(components, "image_reverse")
    if any(a <= b for a, b in pairwise(percents)):
        raise UserError("figure.percents", percents, "must fall from column to column")
    schedule, sampler = components.schedule, components.sampler
    x0, label, _ = examples(components, n)
    if components.config.get("label") is not None or label is None:
        label = components.labels(n)
    wanted = [percent / 100 * schedule.T for percent in percents]
    own = sampler.times(schedule)
    times = sorted({*wanted, *(t for t in own if wanted[-1] < t < wanted[0])}, reverse=True)
    stream = NoiseStream(components.seed, n, components.dataset.shape, components.device)
    stream()  # the first of it has made x_t
    start = noised(components, x0, wanted[0]).to(components.device)
    label = None if label is None else label.to(components.device)
    states = sampler(components.denoiser, start, label, stream, times)
    columns = [state.x.cpu().numpy() for state in states if state.t in wanted]
    return images.strip(list(zip(*columns, strict=True)), [f"{p:g} % of T" for p in percents])


def noised(components: Components, x0: torch.Tensor, t: float) -> torch.Tensor:
    """x_t of clean images with the first noise of the seed."""
    level = components.schedule.level(t, like=x0)
    eps = NoiseStream(components.seed, len(x0), x0.shape[1:])()
    return level.alpha * x0 + level.sigma * eps


def trajectory(components: Components, sample: int, columns: int) -> Any:
    """Sample number `sample` of this config from noise to image: x_t above, the x_0 predicted from it below."""
    of_images(components, "image_trajectory")
    label = components.labels(sample + 1)
    states = list(components.walk(sample + 1, label=label))
    chosen = evenly(len(states), columns)
    x_t = [states[i].x[sample].cpu().numpy() for i in chosen]
    x_0 = [states[min(i + 1, len(states) - 1)].prediction.x0[sample].cpu().numpy() for i in chosen]
    return images.strip([x_t, x_0], [f"t = {states[i].t:.3g}" for i in chosen], ["x_t", "predicted"])


def steps_study(components: Components, n: int, steps: list[int], samplers: list[str]) -> Any:
    """n images from the same noise by each of these samplers (with defaults of its own) in each of these numbers of
    steps. samplers: of ddpm, ddim, dpmpp, heun; empty: the run's."""
    of_images(components, "image_steps")
    own = components.sampler
    shared = {"grid": own.grid, "rho": own.rho, "clip": own.clip}
    unknown = [name for name in samplers if name not in SAMPLERS]
    if unknown:
        raise UserError("figure.samplers", unknown[0], "no such sampler", SAMPLERS)
    label = components.labels(n)
    rows, names = [], []
    for name in samplers:
        for count in steps:
            walker = SAMPLERS[name](steps=count, **shared)
            stream = NoiseStream(components.seed, n, components.dataset.shape, components.device)
            *_, last = walker(components.denoiser, stream(), label, stream)
            rows.append(list(last.x.cpu().numpy()))
            names.append(f"{name} {count}")
    return images.strip(rows, named(components, label) or [""] * n, names)


def evenly(count: int, chosen: int) -> np.ndarray:
    """At most `chosen` indices below `count`, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, chosen).round().astype(int))
