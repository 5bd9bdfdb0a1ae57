"""Figures that compare: numbers of steps, schedules, and terms of the loss and of the bound over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.errors import UserError
from diffusion_cli.figures import curves
from diffusion_cli.figures.animation import evenly
from diffusion_cli.figures.recipes.material import (
    examples,
    label_names,
    option,
    run_of,
    sampler_of,
    view_of,
)
from diffusion_cli.metrics.likelihood import bits, variational_terms
from diffusion_cli.noise import NoiseStream, Stream, generator
from diffusion_cli.objective import Objective, TrainingBatch
from diffusion_cli.ranges import Many, Steps, checked

# Times at which a loss is measured; of more, as many evenly chosen ones.
MOST = 100


@checked
def steps_study(
    components: Components,
    n: Many | None = None,
    steps: Sequence[Steps] = (5, 10, 25, 50),
    samplers: Sequence[str] | None = None,
) -> Figure:
    """The same samples in several numbers of steps; of points, beside as many of the data.

    n: samples; null: 5,000 points, or 8 sets or images.
    steps: network steps of each sampler; with run=exact and no samplers: times T of the schedule.
    samplers: their names, as in sampler=NAME; null: the sampler of the run.
    """
    view = view_of(components)
    n = n or (8 if view.panels else 5000)
    drawn = {
        name: one.units.array(one.draw(n).x0) for name, one in with_steps(components, steps, samplers).items()
    }
    if not view.panels:
        drawn["truth"] = components.units.array(examples(components, n).x0)
    return view.compare(drawn, label_names(components, components.labels(n)))


def with_steps(
    components: Components, steps: Sequence[int], samplers: Sequence[str] | None
) -> dict[str, Components]:
    """The components with these numbers of steps, by what is different in them."""
    if samplers is not None:
        return {
            f"{name} {count}": replace(components, sampler=sampler_of(components, name, steps=count))
            for name in samplers
            for count in steps
        }
    if components.run is None:
        return {f"T = {count}": components.varied(schedule={"T": count}) for count in steps}
    return {
        f"{count} step{'s' * (count > 1)}": components.varied(sampler={"steps": count}) for count in steps
    }


@torch.no_grad()
@checked
def loss_by_timestep(components: Components, n: Many | None = None) -> Figure:
    """The loss of the trained network at each time and, where the exact denoiser is known, what it keeps of it and by how
    much the network lies above: the loss of the one with the other as its target, which is that difference in expectation.

    n: examples of the data at each time; null: 5,000 points, or 64 sets or images.
    """
    run = run_of(components)
    objective, parameterization = components.objective, components.parameterization
    if not isinstance(objective, Objective) or components.net is None:
        raise UserError("run", str(run.path), "was trained by another loss than that of noise")
    x0, label, noise = fresh(components, n)
    network = NetworkDenoiser(components.net, parameterization, components.schedule)
    is_known = components.dataset.density is not None and objective.loss == "mse"
    T = components.schedule.T
    times = [1 + k for k in evenly(T, min(T, MOST))]
    losses, kept, excess = [], [], []
    for time in times:
        t = torch.full((len(x0),), time, device=components.device)
        batch = TrainingBatch(x0, t, noise(), label)
        losses.append(float(objective.irreducible(network, parameterization, batch).mean()))
        if is_known:
            exact = components.exact
            kept.append(float(objective.irreducible(exact, parameterization, batch).mean()))
            level, x_t = batch.noised(components.schedule)
            ours, best = (
                parameterization.target(*each(x_t, t, label)[:2], level) for each in (network, exact)
            )
            excess.append(float(objective.compare(ours, best, level, parameterization).mean()))
    return curves.loss_over_time(times, {"network": losses}, kept or None, excess=excess or None)


@checked
def bound(components: Components, n: Many | None = None) -> Figure:
    """The terms L_1..L_{T-1} of the variational bound over the time of their step, in bits per dimension; of a network also
    by how much they lie above those of the exact denoiser, where it is known.

    In the legend the bound itself, with L_0 and L_T (see evaluation=likelihood).

    n: examples of the data; null: 5,000 points, or 64 sets or images.
    """
    denoisers = {"network" if components.run else "exact denoiser": components.denoiser}
    if components.run and components.dataset.density is not None:
        denoisers["exact denoiser"] = replace(components, net=None).denoiser
    lines = {}
    for name, denoiser in denoisers.items():
        # The same for all.
        x0, label, noise = fresh(components, n)
        terms = variational_terms(denoiser, x0, noise, label).mean(1)
        total, *middle = (bits(float(x), x0.shape[1:]) for x in (terms.sum(), *terms[1:-1]))
        lines[f"{name}, bound {total:.3f}"] = middle
    excess = None if len(lines) < 2 else [ours - best for ours, best in zip(*lines.values(), strict=True)]
    times = range(2, components.schedule.T + 1)
    return curves.loss_over_time(times, lines, ylabel="bits per dimension", excess=excess)


def fresh(components: Components, n: int | None) -> tuple[torch.Tensor, torch.Tensor | None, NoiseStream]:
    """Examples of the data on the device, their labels, and a stream of noise."""
    n = n or (5000 if len(components.dataset.shape) == 1 else 64)
    batch = components.dataset.draw(n, generator(components.seed, Stream.FIGURE, device=components.device))
    shape = tuple(batch.x0.shape[1:])
    return batch.x0, batch.label, NoiseStream(components.seed, n, shape, components.device)


@checked
def schedules(
    components: Components,
    names: Sequence[str] = ("constant", "linear", "quadratic", "cosine", "sigmoid", "loglinear"),
) -> Figure:
    """alpha_bar and log-SNR of several schedules, with the T of the run's own.

    names: of the schedules, as in schedule=NAME.
    """
    made = {name: option("names", "schedule", name, T=components.schedule.T) for name in names}
    return curves.schedule_comparison({name: (s.alpha_bar, s.log_snr) for name, s in made.items()})
