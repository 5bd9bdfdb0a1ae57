"""Figures that compare: numbers of steps, and terms of the loss and of the bound over time; for data of any kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.errors import UserError
from diffusion_cli.figures import curves, points
from diffusion_cli.figures.recipes.plane import of_run
from diffusion_cli.metrics.likelihood import bits, variational_terms
from diffusion_cli.noise import NoiseStream, Stream, generator

if TYPE_CHECKING:
    from diffusion_cli.components import Components

MOST = 100  # times at which a loss is measured; of more, as many evenly chosen ones


def steps_study(components: Components, n: int, steps: list[int]) -> Any:
    """n samples for each number of steps, beside as many of the data: of a run with so many steps of the sampler,
    without a run with schedules of so many times."""
    samples, titles = [], []
    for count in steps:
        if components.run is None:
            one, name = components.varied(schedule={"T": count}), f"T = {count}"
        else:
            one, name = components.varied(sampler={"steps": count}), f"{count} steps"
        samples.append(one.draw(n).x0.cpu().numpy())
        titles.append(name)
    data = components.dataset.draw(n, generator(components.seed, Stream.FIGURE)).x0.cpu().numpy()
    return points.sample_panels(samples, titles, data)


@torch.no_grad()
def loss_by_timestep(components: Components, n: int) -> Any:
    """The loss of the trained network at each time, averaged over n fresh points, above the exact denoiser's."""
    run = of_run(components, "loss_by_timestep")
    if not components.objective.generates:
        raise UserError("run", str(run.path), "is a classifier, which predicts no noise")
    data, label, noise = fresh(components, n)
    denoisers = [NetworkDenoiser(components.net, components.parameterization, components.schedule)]
    if components.dataset.density is not None and components.objective.loss == "mse":
        denoisers.append(components.exact)
    T = components.schedule.T
    times = np.unique(np.linspace(1, T, min(T, MOST)).round().astype(int)).tolist()
    losses: list[list[float]] = [[] for _ in denoisers]
    for time in times:
        t, eps = torch.full((n,), time, device=components.device), noise()
        for loss, denoiser in zip(losses, denoisers, strict=True):
            each = components.objective.irreducible(
                denoiser, components.parameterization, data, t, eps, label
            )
            loss.append(float(each.mean()))
    return curves.loss_by_timestep(times, {"network": losses[0]}, losses[1] if len(losses) > 1 else None)


def bound(components: Components, n: int) -> Any:
    """The terms L_1..L_{T-1} of the variational bound over the time t = 2..T of their step, in bits per dimension,
    averaged over n points; in the legend the bound itself, with L_0 and L_T (see evaluation=likelihood)."""
    denoisers = {"network" if components.run else "exact denoiser": components.denoiser}
    if components.run and components.dataset.density is not None:
        denoisers["exact denoiser"] = replace(components, net=None).denoiser
    lines = {}
    for name, denoiser in denoisers.items():
        data, label, noise = fresh(components, n)  # the same for all
        terms = variational_terms(denoiser, data, noise, label).mean(1)
        total, *middle = (bits(float(x), data.shape[1:]) for x in (terms.sum(), *terms[1:-1]))
        lines[f"{name}, bound {total:.3f}"] = middle
    return curves.loss_by_timestep(range(2, components.schedule.T + 1), lines, ylabel="bits per dimension")


def fresh(components: Components, n: int) -> tuple[torch.Tensor, torch.Tensor | None, NoiseStream]:
    """n points of the data, their labels, and a stream of noise."""
    data, label, _ = components.dataset.draw(
        n, generator(components.seed, Stream.FIGURE, device=components.device)
    )
    return data, label, NoiseStream(components.seed, n, components.dataset.shape, components.device)
