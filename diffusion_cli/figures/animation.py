"""The reverse process in motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import ArrayLike
from PIL import Image

from diffusion_cli.figures.plane import Curve, as_points, draw_curve, draw_points, limits_of, set_plane
from diffusion_cli.figures.style import house_style, new_figure, set_title

INCHES, PIXELS_PER_INCH = 3.0, 120
POINTS = 2000  # drawn, of as many as there are
FRAMES = 60
STEP_MS, HOLD_MS = 80, 2500


class Animation(NamedTuple):
    """Images of one size with a common palette, and how long each is shown."""

    images: list[Image.Image]
    milliseconds: list[int]


@house_style
def reverse_animation(
    frames: Sequence[ArrayLike], times: Sequence[float], curve: Curve | None = None
) -> Animation:
    """The samples (n, 2) at each of `times`, falling, as an animation that loops and rests on its last frame.

    At most 60 frames, evenly chosen, and the first 2,000 points are drawn: below 2 MB as a GIF.

    Example: `save(reverse_animation(frames, times), "reverse.gif")`
    """
    if not len(frames) or len(frames) != len(times):
        raise ValueError(f"frames and times must be equally many, not {len(frames)} and {len(times)}")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), FRAMES)).round().astype(int))
    sets = [as_points(frames[i])[:POINTS] for i in chosen]
    limits = limits_of(sets, curve)
    figure = new_figure(INCHES, INCHES)
    figure.set_dpi(PIXELS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    ax = figure.subplots()
    set_plane(ax, limits)
    draw_curve(ax, curve)
    dots = draw_points(ax, sets[0], INCHES)
    images = []
    for points, i in zip(sets, chosen, strict=True):
        dots.set_offsets(points)
        set_title(ax, f"t = {times[i]:g}")
        canvas.draw()
        figure.set_layout_engine("none")  # settled by the first frame: nothing may move
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    # One palette for all, from the first frame, which is as blue, grey and white as the others: no flicker.
    palette = images[0].quantize(48)
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    return Animation(indexed, [STEP_MS] * (len(indexed) - 1) + [HOLD_MS])
