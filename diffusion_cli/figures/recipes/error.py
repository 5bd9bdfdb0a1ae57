"""The error of the network itself, which no sampler mends: its distance from the exact denoiser by noise level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from diffusion_cli.errors import UserError
from diffusion_cli.figures import curves
from diffusion_cli.figures.recipes.material import evenly, run_of
from diffusion_cli.figures.recipes.study import MOST, fresh
from diffusion_cli.ranges import Many, checked

if TYPE_CHECKING:
    from diffusion_cli.components import Components


@checked
def error_by_level(components: Components, n: Many | None = None) -> Figure:
    """The mean square of network - exact denoiser over sigma/alpha, for data whose density is known.

    n: examples of the data at each noise level; null: 5,000 points, or 64 sets or images.
    """
    levels, errors = velocity_errors(components, n)
    mean = sum(errors) / len(errors)
    names = {"ylabel": r"E$|v - v_\mathrm{exact}|^2$", "xlabel": r"noise level $\sigma/\alpha$"}
    figure = curves.loss_over_time(levels, {f"network, mean {mean:.2g}": errors}, **names)
    figure.axes[0].set_xscale("log")
    return figure


@torch.no_grad()
def velocity_errors(components: Components, n: int | None = None) -> tuple[list[float], list[float]]:
    """sigma/alpha, and E|v - v_exact|^2 there, at the times of the schedule; v = alpha eps - sigma x0.

    For a given x_t the error of v is that of x0 over sigma, and that of eps over alpha, whatever the network puts out.
    """
    run = run_of(components)
    if not components.objective.generates or components.net is None:
        raise UserError("run", str(run.path), "is a classifier, which predicts no noise")
    if components.dataset.density is None:
        raise UserError("figure", "error_by_level", "needs data whose exact density is known")
    network, exact = components.network_denoiser(components.net.eval()), components.exact
    x0, label, noise = fresh(components, n)
    levels, errors = [], []
    for time in (1 + k for k in evenly(components.schedule.T, min(components.schedule.T, MOST))):
        level = components.schedule.level(time, like=x0)
        x_t = (level.alpha * x0 + level.sigma * noise()).to(x0)
        error = (network(x_t, time, label).x0 - exact(x_t, time, label).x0) / level.sigma
        levels.append(float(level.sigma / level.alpha))
        errors.append(float(error.square().flatten(1).sum(1).mean()))
    return levels, errors
