"""Kinds of data, and which figure draws which."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from diffusion_cli.dataset.protocol import Kind

KINDS: dict[Kind, str] = {
    "line": "data on a line",
    "plane": "points in the plane",
    "space": "points of more than two coordinates",
    "sets": "sets of points",
    "images": "images",
}

Recipe = TypeVar("Recipe", bound=Callable[..., object])
_LIMITED: dict[Callable[..., object], tuple[Kind, ...]] = {}


def draws(*kinds: Kind) -> Callable[[Recipe], Recipe]:
    """A recipe that draws data of these kinds alone; one without this draws all.

    @draws("plane")
    def crowd(components: Components, n: Many = 500) -> Figure: ...
    """

    def remember(recipe: Recipe) -> Recipe:
        _LIMITED[recipe] = kinds
        return recipe

    return remember


def kinds_of(recipe: Callable[..., object]) -> tuple[Kind, ...]:
    """The kinds of data that a recipe draws."""
    return _LIMITED.get(recipe, tuple(KINDS))
