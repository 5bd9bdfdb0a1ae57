"""Data of three coordinates seen from all sides."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from diffusion_cli.components import Components
from diffusion_cli.errors import UserError
from diffusion_cli.figures.animation import FRAMES, STEP_MS, Animation
from diffusion_cli.figures.kinds import draws
from diffusion_cli.figures.recipes.material import view_of
from diffusion_cli.figures.space import turned
from diffusion_cli.ranges import Many, checked


@draws("space", "sets")
@checked
def turntable(
    components: Components, n: Many | None = None, angles: Many | None = None
) -> Animation | Figure:
    """Samples of three coordinates, turned about the third axis: one turn as an animation.

    n: samples; null: 2,000 points, or 16 sets, 4 of them side by side.
    angles: of a still figure, evenly spaced over the turn: a column for each; null: an animation.
    """
    if components.dataset.shape[-1] != 3:
        raise UserError("figure", "turntable", "needs points of three coordinates")
    view = view_of(components)
    n = n or ((16 if angles is None else 4) if view.panels else 2000)
    x = components.samples[0][:n]
    degrees = np.linspace(0, 360, angles or FRAMES, endpoint=False)
    states, titles = [turned(x, angle) for angle in degrees], [f"{angle:.0f}°" for angle in degrees]
    if angles is not None:
        return view.strip(states, titles)
    animation = view.frames(states, titles)
    return animation._replace(milliseconds=[STEP_MS] * len(animation.images))
