"""Figures of in-painting: what was known, and what a model made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_cli.completions import Completions, complete
from diffusion_cli.dataset.mask import NAMES
from diffusion_cli.errors import UserError
from diffusion_cli.figures import images, points, sets
from diffusion_cli.figures.recipes.images import named
from diffusion_cli.figures.recipes.plane import truth

if TYPE_CHECKING:
    from diffusion_cli.components import Components

SHOWN = 8  # images in a figure
ACROSS = 10  # panels beside each other, at most: original, what is known, completions


def inpainting(components: Components, n: int) -> Any:
    """n held-out images, what is known of them, and completions; see `complete` for the keys that it obeys."""
    if components.config["inpaint"] is None:
        raise UserError("inpaint", None, "this figure needs a mask", NAMES)
    return show_completions(components, complete(components, n), n)


def show_completions(components: Components, done: Completions, n: int = SHOWN) -> Any:
    """A row for each of the first n images: the original, what is known of it, its completions. Sets of points
    likewise; single points over their law; None for what cannot be shown (lines of more than two pixels)."""
    shape, each = done.x0.shape[1:], components.config["completions"]
    if len(shape) == 1:
        title = f"{len(done.x0):,} completions"
        return points.scatter(done.x0, truth(components), title) if shape[0] <= 2 else None
    first = range(0, min(len(done.x0), n * each), each)
    completed = [list(done.x0[i : i + min(each, ACROSS - 2)]) for i in first]
    original = [done.original[i] for i in first]
    if len(shape) == 2:
        known = [x[done.mask] for x in original]
        rows = [[x, part, *more] for x, part, more in zip(original, known, completed, strict=True)]
        titles = ["original", "known", *["completed"] * len(completed[0])]
        above = [titles, *[[""] * len(titles)] * (len(rows) - 1)]
        return sets.panels(rows, sets.limits([x for row in rows for x in row], original), titles=above)
    known = [np.where(done.mask, x, np.nan) for x in original]
    names = named(components, None if done.label is None else [done.label[i] for i in first])
    return images.inpainting(original, known, completed, names)
