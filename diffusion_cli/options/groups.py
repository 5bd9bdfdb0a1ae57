"""The groups of options: what each is for, and what may be built of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

TRUST = "DIFFUSION_CLI_TRUST"  # environment variable: the user's own modules, comma separated


@dataclass(frozen=True)
class Group:
    """text: what is chosen by it.

    rooms: modules below diffusion_cli in which a component of it must be defined.
    given: arguments that the program hands in, so that no key sets them.
    functions: whether its components are functions; elsewhere a class is built.
    """

    text: str
    rooms: tuple[str, ...]
    given: tuple[str, ...] = ()
    functions: bool = False


GROUPS = {
    "dataset": Group("the data to learn", ("dataset",)),
    "model": Group("the network", ("model",), given=("shape", "num_classes", "outputs", "numbers")),
    "schedule": Group("the noise schedule", ("schedule",), functions=True),
    "parameterization": Group("what the network predicts", ("prediction",)),
    "objective": Group("the loss", ("objective",)),
    "optimizer": Group("the optimizer and its learning rate", ("optimizer",)),
    "guidance": Group("how labels steer the samples", ("guidance",), given=("classifier", "weak")),
    "sampler": Group("how samples are drawn", ("sampler",), given=("box", "fitted")),
    "evaluation": Group("what is measured of the samples", ("metrics",)),
    "logger": Group("where training numbers go beside metrics.csv", ("runs.logger",)),
    "figure": Group("a figure", ("figures.recipes",), given=("components", "results"), functions=True),
}
FIGURES = "figures"  # the section of named figures: each of its nodes is one of the group `figure`
EXACT = "exact"  # run=exact: no network, but the exact denoiser of dataset=...
RUN, WEIGHTS = "run", "weights"  # keys of a group whose argument `given` is made of the run that they name


def group_of(path: tuple[str, ...]) -> str | None:
    """The group whose node lies at `path` of a configuration, or None.

    >>> group_of(("model",)), group_of(("figures", "loss")), group_of(("model", "block"))
    ('model', 'figure', None)
    """
    if len(path) == 1 and path[0] in GROUPS:
        return path[0]
    return "figure" if len(path) == 2 and path[0] == FIGURES else None


def homes(group: str) -> tuple[str, ...]:
    """The modules in which a component of this group may be defined: ours, then those that the user trusts."""
    return (*(f"diffusion_cli.{room}" for room in GROUPS[group].rooms), *trusted_modules())


def trusted_modules() -> tuple[str, ...]:
    """The modules that the user has declared their own in the environment (DIFFUSION_CLI_TRUST), never in a file."""
    names = (name.strip() for name in os.environ.get(TRUST, "").split(","))
    return tuple(name for name in names if name)
