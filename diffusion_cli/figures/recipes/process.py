"""Figures of both processes: strips of states, trajectories, and the reverse process as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.errors import ArgumentError, in_group
from diffusion_cli.figures.animation import FRAMES, Animation
from diffusion_cli.figures.paths import trajectories_2d
from diffusion_cli.figures.recipes.material import (
    collected,
    examples,
    nearest_states,
    noised,
    states_of,
    truth_of,
    view_of,
)
from diffusion_cli.figures.style import time_title
from diffusion_cli.figures.view import States, View
from diffusion_cli.noise import NoiseStream
from diffusion_cli.ranges import Many, Percent, Several, checked
from diffusion_cli.sampler import DDIM, DDPM, Sampler


@checked
def forward_strip(
    components: Components, n: Many | None = None, percents: Sequence[Percent] = (0, 25, 50, 75, 100)
) -> Figure:
    """The forward process: x_t of examples of the data at some times, always with the same noise.

    n: examples; null: 2,000 points, or 4 sets or images.
    percents: the times, in percent of T.
    """
    view = view_of(components)
    x0 = examples(components, n or rows_of(view)).x0
    times = times_at(components, percents)
    states = [components.units.array(noised(components, x0, t)) for t in times]
    return view.strip(states, [time_title(t) for t in times], wide=True)


@checked
def reverse_strip(
    components: Components, n: Many | None = None, percents: Sequence[Percent] = (100, 75, 50, 25, 0)
) -> Figure:
    """The reverse process at some times, or at those nearest to them that the sampler goes through.

    n: samples; null: 2,000 points, or 4 sets or images.
    percents: the times, in percent of T, falling. 100 first: from noise; less than that: from the x_t of the same examples
        of the data that `forward_strip` shows at that time.
    """
    if any(a <= b for a, b in pairwise(percents)):
        raise ArgumentError("percents", list(percents), "must fall from column to column")
    view = view_of(components)
    n = n or rows_of(view)
    wanted = times_at(components, percents)
    from_noise = wanted[0] in (0, components.schedule.T)
    states = states_of(components, n) if from_noise else from_data(components, n, wanted[0])
    chosen = nearest_states(states, wanted)
    return view.strip([states.x[k] for k in chosen], [time_title(states.times[k]) for k in chosen], wide=True)


def times_at(components: Components, percents: Sequence[float]) -> list[int]:
    """Whole times at these percents of T."""
    return [round(percent / 100 * components.schedule.T) for percent in percents]


def rows_of(view: View) -> int:
    """Samples of a strip: rows of panels, or points that share a panel."""
    return 4 if view.panels else 2000


def from_data(components: Components, n: int, t: float) -> States:
    """The chains of n examples of the data from their x_t back to t = 0."""
    batch = examples(components, n)
    label = components.labels(n) if components.label is not None else batch.label
    start = noised(components, batch.x0, t).to(components.device)
    noise = NoiseStream(components.seed, n, tuple(batch.x0.shape[1:]), components.device)
    # The first noise of the stream has made x_t.
    noise()
    times = [float(t), *(time for time in components.times if time < t)]
    label = None if label is None else label.to(components.device)
    with in_group("sampler"):
        return collected(
            components.sampler(components.denoiser, start, label, noise, times), components.units
        )


@checked
def trajectories(
    components: Components, n: Many | None = None, background: Many = 2000, columns: Several = 10
) -> Figure:
    """The ways of samples from x_T to x_0; of an image also the x0 that is predicted on the way.

    In the plane DDIM beside a sampler that draws noise, from the same x_T: its ways are smooth.

    n: trajectories; null: 150 on a line, 4 in the plane, 4 sets, 1 image.
    background: points drawn behind them, or on a line, whose ends make the histogram.
    columns: times at which an image is shown, evenly chosen.
    """
    view = view_of(components)
    n = n or view.followed
    states = states_of(components, n if view.panels else max(n, background))
    if components.dataset.kind == "plane" and (smooth := without_noise(components.walking)) is not None:
        ways = {"by the run's sampler": states.x[:, :n],
                "by DDIM, without noise": states_of(replace(components, sampler=smooth), n).x}  # fmt: skip
        return trajectories_2d(ways, states.x[-1], states.times, truth_of(components))
    return view.paths(states, n, columns)


def without_noise(sampler: Sampler) -> DDIM | None:
    """DDIM through the times of a sampler that draws noise; None for one that draws none, or that is not ours."""
    if not isinstance(sampler, DDPM | DDIM) or not sampler.noisy:
        return None
    return DDIM(sampler.steps, sampler.grid, sampler.rho, sampler.clip, sampler.box, sampler.fitted)


@checked
def animation(components: Components, n: Many | None = None) -> Animation:
    """The reverse process as an animation.

    n: samples; null: 2,000 points, or 16 sets or images.
    """
    view = view_of(components)
    states = states_of(components, n or (16 if view.panels else 2000), FRAMES)
    return view.frames(list(states.x), [time_title(t) for t in states.times])
