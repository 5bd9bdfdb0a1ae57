"""Animations: a panel that changes, as images with a common palette."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from diffusion_cli.figures.style import house_style, new_figure, set_title

INCHES, PIXELS_PER_INCH = 3.0, 120
FRAMES = 60
STEP_MS, HOLD_MS = 80, 2500
COLOURS = 64
NEARLY_WHITE = 240


class Animation(NamedTuple):
    """Images of one size with a common palette, and how long each is shown."""

    images: list[Image.Image]
    milliseconds: list[int]


def evenly(count: int, chosen: int) -> list[int]:
    """At most `chosen` indices below `count`, evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, chosen).round().astype(int)).tolist()


@house_style
def animate(draw: Callable[[Axes, int], None], titles: Sequence[str]) -> Animation:
    """At most 60 frames, evenly chosen, the last of which rests for a while.

    draw: draw(ax, k) draws frame k into empty axes.
    titles: one for each frame.
    """
    chosen = evenly(len(titles), FRAMES)
    figure = new_figure(INCHES, INCHES)
    figure.set_dpi(PIXELS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    ax = figure.subplots()
    images = []
    # The last frame first: by it the layout is settled, and then nothing moves.
    for k in [chosen[-1], *chosen]:
        ax.clear()
        draw(ax, k)
        set_title(ax, titles[k])
        canvas.draw()
        figure.set_layout_engine("none")
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    palette = palette_of(images[1], images[-1])
    indexed = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images[1:]]
    return Animation(indexed, [STEP_MS] * (len(indexed) - 1) + [HOLD_MS])


def palette_of(*images: Image.Image) -> Image.Image:
    """An image with one palette for all frames, so that nothing flickers; nearly white is white, as paper is."""
    together = np.concatenate([np.asarray(image) for image in images])
    palette = Image.fromarray(together).quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[colours.min(1) > NEARLY_WHITE] = 255
    palette.putpalette(colours.ravel().tolist())
    return palette
