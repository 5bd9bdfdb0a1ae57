"""The figure of in-painting: the data, what is known of them, and the completions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.dataset.mask import NAMES
from diffusion_cli.errors import UserError
from diffusion_cli.figures.kinds import draws
from diffusion_cli.figures.recipes.completions import Completions, complete
from diffusion_cli.figures.recipes.material import view_of
from diffusion_cli.ranges import Many, checked

# Examples in a figure, and panels beside each other, at most: original, what is known, completions.
SHOWN, ACROSS = 8, 10


@draws("plane", "sets", "images")
@checked
def inpainting(components: Components, n: Many | None = None) -> Figure:
    """Held-out data, what is known of them, and completions; see the keys inpaint, completions and repaint.

    n: examples; null: 500 points, or 8 sets or images.
    """
    if components.config["inpaint"] is None:
        raise UserError("inpaint", None, "this figure needs a mask", NAMES)
    n = n or (SHOWN if view_of(components).panels else 500)
    return show_completions(components, complete(components, n), n)


def show_completions(components: Components, done: Completions, n: int = SHOWN) -> Figure:
    """A row for each of the first n sets or images: the original, what is known of it, its completions. Points: the
    completions of all of them, over the ground truth."""
    view, each = view_of(components), components.config["completions"]
    if not view.panels:
        return view.grid(done.x0, title=f"{len(done.x0):,} completions")
    first = range(0, min(len(done.x0), n * each), each)
    original = [done.original[i] for i in first]
    if components.dataset.kind == "sets":
        known = [x[done.mask] for x in original]
    else:
        known = [np.where(done.mask, x, np.nan) for x in original]
    completed = [[done.x0[i + k] for i in first] for k in range(min(each, ACROSS - 2))]
    titles = ["original", "known", "completed", *[""] * (len(completed) - 1)]
    return view.strip([original, known, *completed], titles)
