"""Figures of points on a line and in the plane: what an experiment's data, chains and training look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_cli import schedule as schedules_of
from diffusion_cli.errors import UserError
from diffusion_cli.figures import animation, curves, paths, points
from diffusion_cli.noise import NoiseStream, generator
from diffusion_cli.runs.directory import read_csv

if TYPE_CHECKING:
    from diffusion_cli.components import Experiment

DATA = 6  # stream of the seed for the clean points of a figure
TRUTH = 5000  # points that stand for a law without an outline


def truth(experiment: Experiment) -> Any:
    """The law's outline as polylines, else a cloud of its points, else None."""
    density = experiment.dataset.density
    if density is None:
        return None
    outline = density.outline()
    return density.reference(TRUTH).numpy() if outline is None else [line.numpy() for line in outline]


def of_run(experiment: Experiment, figure: str) -> Any:
    """The run behind an experiment; UserError where there is none."""
    if experiment.run is None:
        raise UserError("figure", figure, "needs a trained run; say run=DIR")
    return experiment.run


def loss(experiment: Experiment, floor_draws: int) -> Any:
    """Training loss over steps, above the exact denoiser's. floor_draws: samples that estimate the latter."""
    run = of_run(experiment, "loss")
    if not run.metrics_file.is_file():
        raise UserError("run", str(run.path), "has no metrics.csv")
    columns = read_csv(run.metrics_file)
    return curves.loss_curve(columns["step"], columns["loss"], experiment.loss_floor(floor_draws))


def samples(experiment: Experiment) -> Any:
    """The samples of this config over the true curve."""
    return points.scatter(experiment.samples[0], truth(experiment))


def stages(experiment: Experiment, columns: int) -> Any:
    """What the network drew in the course of its training, from the same noise; `columns` evenly chosen steps."""
    kept = of_run(experiment, "stages").stages()
    if not kept:
        return None
    chosen = [list(kept)[i] for i in np.unique(np.linspace(0, len(kept) - 1, columns).round().astype(int))]
    return points.stages([kept[step] for step in chosen], chosen, truth(experiment))


def forward_strip(experiment: Experiment, n: int, percents: list[float]) -> Any:
    """x_t of n clean points at these percents of T, always with the same noise."""
    x0 = experiment.dataset.draw(n, generator(experiment.seed, DATA)).x0
    eps = NoiseStream(experiment.seed, n, experiment.dataset.shape)()
    noised = []
    for percent in percents:
        level = experiment.schedule.level(percent / 100 * experiment.schedule.T, like=x0)
        noised.append((level.alpha * x0 + level.sigma * eps).numpy())
    return points.forward_strip(noised, percents, experiment.schedule.T, truth(experiment))


def chain(experiment: Experiment, n: int) -> tuple[list[float], np.ndarray]:
    """Times (K,) and states (K, n, *shape) of n chains from x_T to x_0."""
    label = experiment.labels(n, experiment.seed, experiment.config.get("label"))
    states = list(experiment.walk(experiment.denoiser, n, experiment.seed, label))
    return [state.t for state in states], np.stack([state.x.cpu().numpy() for state in states])


def reverse_strip(experiment: Experiment, n: int, percents: list[float]) -> Any:
    """n chains at the times nearest to these percents of T, noise first."""
    times, states = chain(experiment, n)
    wanted = np.asarray(percents)[:, None] / 100 * experiment.schedule.T
    chosen = np.abs(np.asarray(times) - wanted).argmin(1)
    return points.reverse_strip([states[i] for i in chosen], [times[i] for i in chosen], truth(experiment))


def trajectories(experiment: Experiment, n: int, background: int) -> Any:
    """The ways of n samples from x_T to x_0, before `background` samples."""
    times, states = chain(experiment, background)
    return paths.trajectories(states[:, :n], states[-1], times, truth(experiment))


def reverse_animation(experiment: Experiment, n: int) -> Any:
    """The reverse process of n samples as an animation."""
    times, states = chain(experiment, n)
    return animation.reverse_animation(list(states), times, truth(experiment))


def schedules(experiment: Experiment, names: list[str]) -> Any:
    """alpha_bar and log-SNR of these schedules with the T of the experiment's own."""
    T = experiment.schedule.T
    made = {name: getattr(schedules_of, name)(T) for name in names}
    return curves.schedule_comparison({name: (s.alpha_bar, s.log_snr) for name, s in made.items()})
