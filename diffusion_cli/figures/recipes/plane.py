"""Figures of points on a line and in the plane: what an components's data, chains and training look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli import schedule as schedules_of
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import UserError
from diffusion_cli.figures import animation, curves, paths, points
from diffusion_cli.noise import NoiseStream, Stream, generator
from diffusion_cli.objective import Objective
from diffusion_cli.runs.directory import read_csv
from diffusion_cli.trainer import Batches

if TYPE_CHECKING:
    from diffusion_cli.components import Components

TRUTH = 5000  # points that stand for a law without an outline


def truth(components: Components) -> Any:
    """The law's outline as polylines, else a cloud of its points, else None."""
    density = components.dataset.density
    if density is None:
        return None
    outline = density.outline()
    return density.reference(TRUTH).numpy() if outline is None else [line.numpy() for line in outline]


def of_run(components: Components, figure: str) -> Any:
    """The run behind an components; UserError where there is none."""
    if components.run is None:
        raise UserError("figure", figure, "needs a trained run; say run=DIR")
    return components.run


def loss(components: Components, floor_draws: int) -> Any:
    """Training loss over steps, above the exact denoiser's. floor_draws: samples that estimate the latter."""
    run = of_run(components, "loss")
    if not run.metrics_file.is_file():
        raise UserError("run", str(run.path), "has no metrics.csv")
    columns = read_csv(run.metrics_file)
    return curves.loss_curve(columns["step"], columns["loss"], loss_floor(components, floor_draws))


def loss_floor(components: Components, n: int) -> float | None:
    """The exact denoiser's training loss: what the loss curve can at best fall to. None where nobody knows it."""
    c = components
    if c.dataset.density is None or not isinstance(c.objective, Objective) or c.objective.loss != "mse":
        return None
    x0, t, eps, label = Batches(c.dataset, c.schedule, c.objective, n, c.seed, stream=Stream.LOSS_FLOOR)(0)
    exact = ExactDenoiser(c.dataset.density, c.schedule)
    with torch.no_grad():
        return float(c.objective.irreducible(exact, c.parameterization, x0, t, eps, label).mean())


def samples(components: Components) -> Any:
    """The samples of this config over the true curve."""
    return points.scatter(components.samples[0], truth(components))


def stages(components: Components, columns: int) -> Any:
    """What the network drew in the course of its training, from the same noise; `columns` evenly chosen steps."""
    kept = of_run(components, "stages").stages()
    if not kept:
        return None
    chosen = [list(kept)[i] for i in np.unique(np.linspace(0, len(kept) - 1, columns).round().astype(int))]
    return points.stages([kept[step] for step in chosen], chosen, truth(components))


def forward_strip(components: Components, n: int, percents: list[float]) -> Any:
    """x_t of n clean points at these percents of T, always with the same noise."""
    x0 = components.dataset.draw(n, generator(components.seed, Stream.FIGURE)).x0
    eps = NoiseStream(components.seed, n, components.dataset.shape)()
    noised = []
    for percent in percents:
        level = components.schedule.level(percent / 100 * components.schedule.T, like=x0)
        noised.append((level.alpha * x0 + level.sigma * eps).numpy())
    return points.forward_strip(noised, percents, components.schedule.T, truth(components))


def chain(components: Components, n: int) -> tuple[list[float], np.ndarray]:
    """Times (K,) and states (K, n, *shape) of n chains from x_T to x_0."""
    label = components.labels(n)
    states = list(components.walk(n, label=label))
    return [state.t for state in states], np.stack([state.x.cpu().numpy() for state in states])


def reverse_strip(components: Components, n: int, percents: list[float]) -> Any:
    """n chains at the times nearest to these percents of T, noise first."""
    times, states = chain(components, n)
    wanted = np.asarray(percents)[:, None] / 100 * components.schedule.T
    chosen = np.abs(np.asarray(times) - wanted).argmin(1)
    return points.reverse_strip([states[i] for i in chosen], [times[i] for i in chosen], truth(components))


def trajectories(components: Components, n: int, background: int) -> Any:
    """The ways of n samples from x_T to x_0, before `background` samples."""
    times, states = chain(components, background)
    return paths.trajectories(states[:, :n], states[-1], times, truth(components))


def reverse_animation(components: Components, n: int) -> Any:
    """The reverse process of n samples as an animation."""
    times, states = chain(components, n)
    return animation.reverse_animation(list(states), times, truth(components))


def schedules(components: Components, names: list[str]) -> Any:
    """alpha_bar and log-SNR of these schedules with the T of the components's own."""
    T = components.schedule.T
    made = {name: getattr(schedules_of, name)(T) for name in names}
    return curves.schedule_comparison({name: (s.alpha_bar, s.log_snr) for name, s in made.items()})
