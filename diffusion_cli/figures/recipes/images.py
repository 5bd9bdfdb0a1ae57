"""Figures of images: data, samples, training, and both processes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli.errors import UserError
from diffusion_cli.figures import images
from diffusion_cli.figures.recipes.plane import DATA, of_run
from diffusion_cli.noise import NoiseStream, generator
from diffusion_cli.sampler import DDIM, DDPM, DPMpp, Heun, Sampler, time_grid

if TYPE_CHECKING:
    from diffusion_cli.components import Experiment

SAMPLERS: dict[str, type[Sampler]] = {"ddpm": DDPM, "ddim": DDIM, "dpmpp": DPMpp, "heun": Heun}


def of_images(experiment: Experiment, figure: str) -> None:
    if len(experiment.dataset.shape) != 3:
        raise UserError("figure", figure, "draws images, which this dataset does not hold")


def named(experiment: Experiment, label: Any) -> list[str] | None:
    """The names of classes (n,), or their numbers; None for unlabelled data."""
    if label is None:
        return None
    names = getattr(experiment.dataset, "class_names", ())
    return [names[k] if k < len(names) else str(k) for k in map(int, label)]


def examples(experiment: Experiment, n: int) -> Any:
    """n training images and their labels, as one batch of training would see them."""
    return experiment.dataset.draw(n, generator(experiment.seed, DATA))


def data(experiment: Experiment, n: int, columns: int) -> Any:
    """n training images under the names of their classes."""
    of_images(experiment, "image_data")
    x0, label = examples(experiment, n)
    return images.grid(x0.numpy(), named(experiment, label), columns)


def samples(experiment: Experiment, n: int, columns: int) -> Any:
    """The first n samples of this config under the labels that they were asked for."""
    of_images(experiment, "image_samples")
    x0, label = experiment.samples
    return images.grid(x0[:n], named(experiment, None if label is None else label[:n]), columns)


def noise(experiment: Experiment, n: int, columns: int) -> Any:
    """The noise x_T that the first n samples of this config were made from, beside these."""
    of_images(experiment, "image_noise")
    x0 = experiment.samples[0][:n]
    x_T = NoiseStream(experiment.seed, len(x0), experiment.dataset.shape)().numpy()
    return images.beside(x_T, x0, ("noise", "samples"), columns)


def stages(experiment: Experiment, n: int, columns: int) -> Any:
    """What n images became in the course of training, from the same noise; `columns` evenly chosen steps."""
    of_images(experiment, "image_stages")
    kept = of_run(experiment, "image_stages").stages()
    if not kept:
        return None
    steps = [list(kept)[i] for i in evenly(len(kept), columns)]
    rows = [[kept[step][j] for step in steps] for j in range(min(n, len(kept[steps[0]])))]
    return images.strip(rows, [f"step {step:,}" for step in steps])


def forward_strip(experiment: Experiment, n: int, percents: list[float]) -> Any:
    """x_t of n training images at these percents of T, always with the same noise."""
    of_images(experiment, "image_forward")
    x0 = examples(experiment, n).x0
    times = [percent / 100 * experiment.schedule.T for percent in percents]
    columns = [noised(experiment, x0, t).numpy() for t in times]
    return images.strip(list(zip(*columns, strict=True)), [f"{p:g} % of T" for p in percents])


def reverse_strip(experiment: Experiment, n: int, percents: list[float]) -> Any:
    """The way back of the same n training images from their x_t at the first of these percents of T, the last column
    of `forward_strip`, by the sampler's own times and these. percents must fall."""
    of_images(experiment, "image_reverse")
    if any(a <= b for a, b in pairwise(percents)):
        raise UserError("figure.percents", percents, "must fall from column to column")
    schedule, sampler = experiment.schedule, experiment.sampler
    x0, label = examples(experiment, n)
    if experiment.config.get("label") is not None or label is None:
        label = experiment.labels(n, experiment.seed, experiment.config.get("label"))
    wanted = [percent / 100 * schedule.T for percent in percents]
    own = time_grid(schedule, sampler.steps, sampler.grid, sampler.rho)
    times = sorted({*wanted, *(t for t in own if wanted[-1] < t < wanted[0])}, reverse=True)
    stream = NoiseStream(experiment.seed, n, experiment.dataset.shape, experiment.device)
    stream()  # the first of it has made x_t
    start = noised(experiment, x0, wanted[0]).to(experiment.device)
    label = None if label is None else label.to(experiment.device)
    states = sampler.walk(experiment.denoiser, start, times, label, stream)
    columns = [state.x.cpu().numpy() for state in states if state.t in wanted]
    return images.strip(list(zip(*columns, strict=True)), [f"{p:g} % of T" for p in percents])


def noised(experiment: Experiment, x0: torch.Tensor, t: float) -> torch.Tensor:
    """x_t of clean images with the first noise of the seed."""
    level = experiment.schedule.level(t, like=x0)
    eps = NoiseStream(experiment.seed, len(x0), x0.shape[1:])()
    return level.alpha * x0 + level.sigma * eps


def trajectory(experiment: Experiment, sample: int, columns: int) -> Any:
    """Sample number `sample` of this config from noise to image: x_t above, the x_0 predicted from it below."""
    of_images(experiment, "image_trajectory")
    label = experiment.labels(sample + 1, experiment.seed, experiment.config.get("label"))
    states = list(experiment.walk(experiment.denoiser, sample + 1, experiment.seed, label))
    chosen = evenly(len(states), columns)
    x_t = [states[i].x[sample].cpu().numpy() for i in chosen]
    x_0 = [states[min(i + 1, len(states) - 1)].prediction.x0[sample].cpu().numpy() for i in chosen]
    return images.strip([x_t, x_0], [f"t = {states[i].t:.3g}" for i in chosen], ["x_t", "predicted"])


def steps_study(experiment: Experiment, n: int, steps: list[int], samplers: list[str]) -> Any:
    """n images from the same noise by each of these samplers (with defaults of its own) in each of these numbers of
    steps. samplers: of ddpm, ddim, dpmpp, heun; empty: the run's."""
    of_images(experiment, "image_steps")
    own = experiment.sampler
    shared = {"grid": own.grid, "rho": own.rho, "clip": own.clip}
    unknown = [name for name in samplers if name not in SAMPLERS]
    if unknown:
        raise UserError("figure.samplers", unknown[0], "no such sampler", SAMPLERS)
    label = experiment.labels(n, experiment.seed, experiment.config.get("label"))
    rows, names = [], []
    for name in samplers:
        for count in steps:
            walker = SAMPLERS[name](steps=count, **shared)
            stream = NoiseStream(experiment.seed, n, experiment.dataset.shape, experiment.device)
            *_, last = walker(experiment.denoiser, stream(), label, stream)
            rows.append(list(last.x.cpu().numpy()))
            names.append(f"{name} {count}")
    return images.strip(rows, named(experiment, label) or [""] * n, names)


def evenly(count: int, chosen: int) -> np.ndarray:
    """At most `chosen` indices below `count`, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, chosen).round().astype(int))
