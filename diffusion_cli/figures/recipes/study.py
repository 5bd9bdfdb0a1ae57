"""Figures that compare: numbers of steps, and terms of the loss and of the bound over time; for data of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.errors import UserError
from diffusion_cli.figures import curves, points
from diffusion_cli.figures.recipes.plane import DATA, of_run
from diffusion_cli.metrics.likelihood import bits, variational_terms
from diffusion_cli.noise import NoiseStream, generator

if TYPE_CHECKING:
    from diffusion_cli.components import Experiment

MOST = 100  # times at which a loss is measured; of more, as many evenly chosen ones


def varied(experiment: Experiment, run: Any = ..., **groups: dict[str, Any]) -> Experiment:
    """The experiment with some keys of some groups changed, and perhaps with another run (None: the exact denoiser).

    >>> varied(experiment, sampler={"steps": 10})
    """
    config = experiment.config | {group: experiment.config[group] | keys for group, keys in groups.items()}
    return type(experiment)(config, experiment.run if run is ... else run)


def steps_study(experiment: Experiment, n: int, steps: list[int]) -> Any:
    """n samples for each number of steps, beside as many of the data: of a run with so many steps of the sampler,
    without a run with schedules of so many times."""
    samples, titles = [], []
    for count in steps:
        if experiment.run is None:
            one, name = varied(experiment, schedule={"T": count}), f"T = {count}"
        else:
            one, name = varied(experiment, sampler={"steps": count}), f"{count} steps"
        label = one.labels(n, one.seed, one.config.get("label"))
        samples.append(one.draw(one.denoiser, n, one.seed, label).cpu().numpy())
        titles.append(name)
    data = experiment.dataset.draw(n, generator(experiment.seed, DATA)).x0.cpu().numpy()
    return points.sample_panels(samples, titles, data)


@torch.no_grad()
def loss_by_timestep(experiment: Experiment, n: int) -> Any:
    """The loss of the trained network at each time, averaged over n fresh points, above the exact denoiser's."""
    run = of_run(experiment, "loss_by_timestep")
    if not experiment.objective.generates:
        raise UserError("run", str(run.path), "is a classifier, which predicts no noise")
    data, label, noise = fresh(experiment, n)
    denoisers = [NetworkDenoiser(experiment.net, experiment.parameterization, experiment.schedule)]
    if experiment.dataset.density is not None and experiment.objective.loss == "mse":
        denoisers.append(experiment.exact)
    T = experiment.schedule.T
    times = np.unique(np.linspace(1, T, min(T, MOST)).round().astype(int)).tolist()
    losses: list[list[float]] = [[] for _ in denoisers]
    for time in times:
        t, eps = torch.full((n,), time, device=experiment.device), noise()
        for loss, denoiser in zip(losses, denoisers, strict=True):
            each = experiment.objective.irreducible(
                denoiser, experiment.parameterization, data, t, eps, label
            )
            loss.append(float(each.mean()))
    return curves.loss_by_timestep(times, {"network": losses[0]}, losses[1] if len(losses) > 1 else None)


def bound(experiment: Experiment, n: int) -> Any:
    """The terms L_1..L_{T-1} of the variational bound over the time t = 2..T of their step, in bits per dimension,
    averaged over n points; in the legend the bound itself, with L_0 and L_T (see evaluation=likelihood)."""
    denoisers = {"network" if experiment.run else "exact denoiser": experiment.denoiser}
    if experiment.run and experiment.dataset.density is not None:
        denoisers["exact denoiser"] = varied(experiment, run=None).denoiser
    lines = {}
    for name, denoiser in denoisers.items():
        data, label, noise = fresh(experiment, n)  # the same for all
        terms = variational_terms(denoiser, data, noise, label).mean(1)
        total, *middle = (bits(float(x), data.shape[1:]) for x in (terms.sum(), *terms[1:-1]))
        lines[f"{name}, bound {total:.3f}"] = middle
    return curves.loss_by_timestep(range(2, experiment.schedule.T + 1), lines, ylabel="bits per dimension")


def fresh(experiment: Experiment, n: int) -> tuple[torch.Tensor, torch.Tensor | None, NoiseStream]:
    """n points of the data, their labels, and a stream of noise."""
    data, label = experiment.dataset.draw(n, generator(experiment.seed, DATA, device=experiment.device))
    return data, label, NoiseStream(experiment.seed, n, experiment.dataset.shape, experiment.device)
