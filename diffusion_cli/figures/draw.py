"""How an option of the group `figure` becomes a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from diffusion_cli.errors import UserError
from diffusion_cli.figures.files import Drawing
from diffusion_cli.figures.kinds import KINDS, kinds_of
from diffusion_cli.options.build import build_component, component_of
from diffusion_cli.options.check import TARGET
from diffusion_cli.options.files import is_default_figure, names_of, node_of
from diffusion_cli.options.signature import read
from diffusion_cli.ranges import Config
from diffusion_cli.runs.comparison import Compared

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.dataset.protocol import Dataset


def draw(node: Config, components: Components, results: Compared | None = None) -> Drawing | None:
    """The figure that a node describes; None where the run has nothing of it.

    components: of the run that it shows.
    results: of the many runs that it compares, or None.

    Raises UserError, before anything is computed, for data of a kind that the figure does not draw.
    """
    check_kind(node, components.dataset)
    signature = read(node[TARGET])
    wanted = signature.arguments if signature else ("components",)
    given = {"components": components, "results": results}
    return build_component({"figure": node}, "figure", **{key: given[key] for key in given if key in wanted})


def drawable(nodes: Mapping[str, Config | None], dataset: Dataset) -> dict[str, Config]:
    """The figures that training draws of such data: without those that are null, and without the defaults that do not
    draw this kind of data. Raises UserError for others that do not."""
    found = {}
    for name, node in nodes.items():
        if node is None:
            continue
        if not is_default_figure(name, node):
            check_kind(node, dataset)
        if dataset.kind in kinds_of(recipe_of(node)):
            found[name] = node
    return found


def check_kind(node: Config, dataset: Dataset) -> None:
    """Refuses a figure that does not draw this kind of data: UserError, with those that do."""
    kind, recipe = dataset.kind, recipe_of(node)
    if kind not in kinds_of(recipe):
        drawn = " and ".join(KINDS[one] for one in kinds_of(recipe))
        options = {name: recipe_of(node_of("figure", name)) for name in names_of("figure")}
        choices = [name for name, other in options.items() if kind in kinds_of(other)]
        raise UserError("figure", recipe.__name__, f"draws {drawn}, not {KINDS[kind]}", choices)


def recipe_of(node: Config) -> Callable[..., Drawing | None]:
    """The function that draws the figure of a node."""
    return component_of("figure", node[TARGET])
