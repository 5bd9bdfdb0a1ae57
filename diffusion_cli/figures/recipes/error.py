"""The error of the network itself, which no sampler mends: its distance from the exact denoiser by noise level."""

from __future__ import annotations

from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.errors import UserError
from diffusion_cli.figures import curves
from diffusion_cli.figures.animation import evenly
from diffusion_cli.figures.recipes.material import density_of, run_of
from diffusion_cli.figures.recipes.study import MOST, fresh
from diffusion_cli.metrics.network_error import velocity_errors
from diffusion_cli.ranges import Many, checked


@checked
def error_by_level(components: Components, n: Many | None = None) -> Figure:
    """The mean square of network - exact denoiser over sigma/alpha, for data whose density is known.

    n: examples of the data at each noise level; null: 5,000 points, or 64 sets or images.
    """
    run = run_of(components)
    if not components.objective.generates or components.net is None:
        raise UserError("run", str(run.path), "is a classifier, which predicts no noise")
    density_of(components, "error_by_level")
    x0, label, noise = fresh(components, n)
    times = [1 + k for k in evenly(components.schedule.T, min(components.schedule.T, MOST))]
    network = components.network_denoiser(components.net.eval())
    found = velocity_errors(network, components.exact, Batch(x0, label), noise, times)
    levels, errors = list(found), list(found.values())
    mean = sum(errors) / len(errors)
    names = {"ylabel": r"E$|v - v_\mathrm{exact}|^2$", "xlabel": r"noise level $\sigma/\alpha$"}
    figure = curves.loss_over_time(levels, {f"network, mean {mean:.2g}": errors}, **names)
    figure.axes[0].set_xscale("log")
    return figure
