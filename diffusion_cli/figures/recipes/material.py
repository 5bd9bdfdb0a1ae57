"""What figures are drawn from: the view of the data, examples of them, states of chains, the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, SupportsInt

import numpy as np
import torch

from diffusion_cli.components import Components
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.protocol import NO_LABEL
from diffusion_cli.dataset.remembered import Remembered
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.figures.animation import evenly
from diffusion_cli.figures.images import ImageView
from diffusion_cli.figures.plane import Curve
from diffusion_cli.figures.points import LineView, PlaneView, SpaceView
from diffusion_cli.figures.sets import SetView
from diffusion_cli.figures.space import Floats
from diffusion_cli.figures.view import States, View
from diffusion_cli.noise import NoiseStream, Stream, generator
from diffusion_cli.options.build import build_component
from diffusion_cli.options.files import FOLDERS, names_of, node_of
from diffusion_cli.options.signature import read
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.sampler import Sampler, State

# Points that stand for a density without an outline, and sets that tell the extent of all.
TRUE_POINTS, TRUE_SETS = 5000, 64


def view_of(components: Components) -> View:
    """How the data of this run are drawn, with their ground truth."""
    kind = components.dataset.kind
    if kind == "line":
        return LineView(truth_of(components), density_on_line(components))
    if kind == "plane":
        return PlaneView(truth_of(components))
    if kind == "sets" and isinstance(components.dataset, Remembered):
        return SetView(components.samples[0][:TRUE_SETS])
    if kind == "sets":
        return SetView(components.units.array(examples(components, TRUE_SETS).x0))
    if kind == "space":
        return SpaceView(truth_of(components))
    return ImageView()


def truth_of(components: Components) -> Curve | None:
    """The outline of the data as polylines, else a cloud of points that represent their density, else None."""
    density = components.dataset.density
    if density is None:
        return None
    outline, in_file = density.outline(), components.units.array
    return in_file(density.reference(TRUE_POINTS)) if outline is None else [in_file(line) for line in outline]


def density_on_line(components: Components) -> Callable[[Floats], Floats] | None:
    """Positions (G,) -> probability density of the data on a line; None where it is not known, or they are atoms."""
    density, units = components.dataset.density, components.units
    if density is None or not density.jitter:
        return None

    def at(positions: Floats) -> Floats:
        x = units.inward(torch.as_tensor(positions)[:, None])
        return density.log_prob(x, 1.0, 0.0).exp().numpy() / units.scale

    return at


def examples(components: Components, n: int) -> Batch:
    """n examples of the data in the units of the run, as a batch of training has them, on the CPU."""
    return components.dataset.draw(n, generator(components.seed, Stream.FIGURE))


def noised(components: Components, x0: torch.Tensor, t: float) -> torch.Tensor:
    """x_t of clean examples (n, *shape), with the first noise of the seed."""
    level = components.schedule.level(t, like=x0)
    eps = NoiseStream(components.seed, len(x0), tuple(x0.shape[1:]))()
    return level.alpha * x0 + level.sigma * eps


def states_of(components: Components, n: int, most: int | None = None) -> States:
    """The chains of n samples from noise to data.

    most: states that are kept, evenly chosen, the first and the last among them; None: all.
    """
    total = len(components.times)
    kept = set(evenly(total, most or total))
    return collected(components.walk(n, label=components.labels(n)), components.units, kept)


def collected(walk: Iterable[State], units: Units, kept: set[int] | None = None) -> States:
    """The states of a sampler's walk, those of these indices or all."""
    times: list[float] = []
    x: list[Floats] = []
    x0: list[Floats] = []
    for k, state in enumerate(walk):
        # The prediction that comes with a state was made from the one before.
        if state.prediction is not None and (kept is None or k - 1 in kept):
            x0.append(units.array(state.prediction.x0.float()))
        if kept is None or k in kept:
            times.append(float(state.t))
            x.append(units.array(state.x.float()))
    return States(times, np.stack(x), np.stack([*x0, x[-1]]))


def nearest_states(states: States, times: Iterable[float]) -> list[int]:
    """The states nearest to these times, each once, in their order."""
    return sorted({int(np.abs(np.array(states.times) - t).argmin()) for t in times})


def density_of(components: Components, figure: str) -> Density:
    """The exact density of the data; UserError where it is not known."""
    if components.dataset.density is None:
        raise UserError("figure", figure, "needs data whose exact density is known")
    return components.dataset.density


def run_of(components: Components) -> RunDirectory:
    """The run that the network comes from; UserError where there is none."""
    if components.run is None:
        raise UserError("run", "exact", "this figure needs a trained run; say run=DIR")
    return components.run


def label_names(components: Components, label: Iterable[SupportsInt] | None) -> list[str] | None:
    """The names of classes (n,); None for data without labels."""
    if label is None:
        return None
    names = (*components.dataset.class_names, NO_LABEL)
    return [names[k] for k in map(int, label)]


def option(argument: str, group: str, name: str, **keys: object) -> Any:
    """The component of an option by its name, as GROUP=NAME on the command line, with some of its keys.

    argument: of the recipe that lists such names, for the error.
    """
    choices = names_of(group, FOLDERS)
    if name not in choices:
        raise ArgumentError(argument, name, f"no such {group}", choices)
    return build_component({group: node_of(group, name, FOLDERS) | keys}, group)


def sampler_of(components: Components, name: str, **keys: object) -> Sampler:
    """A sampler by its name with some of its keys, clipped as that of the run; also one of the user's own, of which only those
    keys are set that it has."""
    ours = components.sampler
    keys = {"clip": ours.clip, "box": ours.box} | keys
    if name in names_of("sampler", FOLDERS):
        signature = read(node_of("sampler", name, FOLDERS)["_target_"])
        keys = {key: value for key, value in keys.items() if signature is None or key in signature.arguments}
    return option("samplers", "sampler", name, **keys)
