"""The view of images: grids and strips in which every pixel of an image is a square of whole pixels of the page.

An image is array-like (C, H, W), C = 1 (grey) or 3 (red, green, blue), values from -1 (black) to 1 (white); what lies
outside is clipped, what is not a number is drawn in a blue of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.animation import evenly
from diffusion_cli.figures.plane import Limits
from diffusion_cli.figures.space import Floats
from diffusion_cli.figures.style import DOUBLE, DPI, SKY, house_style, new_figure, time_title
from diffusion_cli.figures.view import Names, States, View, each

WIDTH = round(DOUBLE * DPI)  # of the page, in its pixels
LARGEST = round(1.15 * DPI)  # side of a panel
GAP = 8  # between panels
POINT = DPI / 72  # one point of type
SIZE = 7  # of type, in points
HIDDEN = tuple(int(SKY[i : i + 2], 16) for i in (1, 3, 5))


class ImageView(View):
    """Images, each in a panel of its own; there is no ground truth to draw beside them."""

    panels = True
    followed = 1

    @house_style
    def grid(self, x: ArrayLike, names: Names = None, columns: int = 8, title: str | None = None) -> Figure:
        images = each(x)
        if names is not None and len(names) != len(images):
            raise ValueError(f"{len(names)} names do not fit {len(images)} images")
        starts = range(0, len(images), columns)
        above = None if names is None else [names[i : i + columns] for i in starts]
        return page([images[i : i + columns] for i in starts], above)

    @house_style
    def strip(self, states: Sequence[ArrayLike], titles: Sequence[str], wide: bool = False) -> Figure:
        if not len(states) or len(states) != len(titles):
            raise ValueError(f"{len(states)} columns of images do not fit {len(titles)} titles")
        return page([*zip(*map(each, states), strict=True)], [titles])

    @house_style
    def compare(self, samples: Mapping[str, ArrayLike], names: Names = None, wide: bool = False) -> Figure:
        return page([each(images) for images in samples.values()], [names], list(samples))

    @house_style
    def paths(self, states: States, followed: int | None = None, columns: int = 10) -> Figure:
        """A row with x_t of an image, and below it a row with the x0 predicted from it."""
        chosen = evenly(len(states.times), columns)
        shown = range(min(followed or self.followed, states.x.shape[1]))
        rows = [each(row[chosen, i]) for i in shown for row in (states.x, states.x0)]
        return page(rows, [[time_title(states.times[k]) for k in chosen]], ["x_t", "predicted"] * len(shown))

    def limits(self, states: Sequence[ArrayLike], wide: bool = False) -> Limits:
        """Of the shape of an image, which `panel` fills with as many as make a square."""
        height, width = np.asarray(states[0]).shape[-2:]
        return 0.0, float(width), 0.0, float(height)

    def panel(self, ax: Axes, x: ArrayLike, limits: Limits, width: float) -> None:
        ax.imshow(mosaic(np.asarray(x)), vmin=0, vmax=1, cmap="gray", extent=limits, interpolation="nearest")
        ax.set(xticks=[], yticks=[])


def mosaic(images: Floats) -> Floats:
    """Images (n, C, H, W) in [-1, 1], as many as make a square, as one picture (h, w, C) or (h, w) in [0, 1]."""
    side = int(np.sqrt(len(images)))
    _, channels, height, width = images.shape
    tiles = images[: side * side].reshape(side, side, channels, height, width)
    picture = tiles.transpose(0, 3, 1, 4, 2).reshape(side * height, side * width, channels)
    picture = (picture.clip(-1, 1) + 1) / 2
    return picture[..., 0] if channels == 1 else picture


def page(
    rows: Sequence[Sequence[ArrayLike]],
    titles: Sequence[Names] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """All panels in one array of page pixels, and the texts on top of it.

    titles: above the panels, by row; rows without any, or beyond the last ones, take no room for them.
    names: left of each row.
    """
    known = [np.asarray(image, dtype=np.float64) for row in rows for image in row]
    if not known:
        raise ValueError("no images to draw")
    shape = known[0].shape
    if len(shape) != 3 or shape[0] not in (1, 3) or any(image.shape != shape for image in known):
        raise ValueError(
            f"expected images of one shape (1 or 3, H, W), not {sorted({i.shape for i in known})}"
        )
    texts = [list(row or ()) for row in titles or ()]
    texts += [[] for _ in rows[len(texts) :]]
    longest = max((len(name) for name in names or []), default=0)
    place = layout((shape[1], shape[2]), max(map(len, rows)), [any(row) for row in texts], longest)
    canvas = np.full((place.height, place.width, 3), 255, dtype=np.uint8)
    figure, ax = _paper(canvas.shape)
    write = partial(ax.text, fontsize=SIZE, parse_math=False)
    height, width = place.panel
    for r, (row, top) in enumerate(zip(rows, place.tops, strict=True)):
        for image, left in zip(row, place.lefts, strict=False):
            canvas[top : top + height, left : left + width] = drawn(image, height, width)
        for title, left in zip(texts[r], place.lefts, strict=False):
            above = top - 0.3 * SIZE * POINT
            write(left + width / 2, above, title, ha="center", va="baseline")
        if names is not None:
            write(place.lefts[0] - GAP, top + height / 2, names[r], ha="right", va="center")
    ax.imshow(canvas, extent=(0, place.width, place.height, 0), interpolation="nearest", aspect="auto")
    return figure


class Layout(NamedTuple):
    """Where panels lie, in pixels of the page.

    tops: of rows.
    lefts: of columns.
    panel: height and width of a panel.
    height, width: of the page.
    """

    tops: list[int]
    lefts: list[int]
    panel: tuple[int, int]
    height: int
    width: int


def layout(shape: tuple[int, int], columns: int, titled: Sequence[bool], longest: int = 0) -> Layout:
    """The layout of rows (titled or not) of images (H, W), as large as the width of the page allows.

    longest: characters of the longest name of a row.
    """
    margin = GAP + (GAP + round(0.62 * longest * SIZE * POINT) if longest else 0)
    room = max(min((WIDTH - margin - 2 * GAP * columns) // columns, LARGEST), 1)
    height, width = (zoomed(side, max(shape), room) for side in shape)
    text = round(1.5 * SIZE * POINT)
    tops, bottom = [], 0
    for has_title in titled:
        tops.append(bottom + GAP + text * has_title)
        bottom = tops[-1] + height
    lefts = [margin + c * (width + GAP) for c in range(columns)]
    return Layout(tops, lefts, (height, width), bottom + GAP, lefts[-1] + width + GAP)


def _paper(shape: tuple[int, ...]) -> tuple[Figure, Axes]:
    """A figure and axes without frame, both as large as an array of page pixels."""
    figure = new_figure(shape[1] / DPI, shape[0] / DPI)
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    return figure, ax


def zoomed(side: int, largest: int, room: int) -> int:
    """Page pixels of a side of an image whose larger side gets at most `room`: a multiple, or for large images a
    whole part, of its own."""
    return side * (room // largest) if room >= largest else -(-side // -(-largest // max(room, 1)))


def drawn(image: ArrayLike, height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3) bytes of an image: pixels repeated, or averaged over blocks where there are too many."""
    colors = np.asarray(image, dtype=np.float64)
    colors = np.broadcast_to(colors, (3, *colors.shape[1:]))
    colors = (np.clip(colors, -1, 1) * 127.5 + 127.5).transpose(1, 2, 0)
    hidden = np.isnan(colors).any(2)
    colors[hidden] = HIDDEN
    if height >= len(colors):
        zoom = height // len(colors)
        colors = colors.repeat(zoom, 0).repeat(zoom, 1)
    else:
        block = -(-len(colors) // height)
        edge = [(0, -side % block) for side in colors.shape[:2]]
        padded = np.pad(colors, (*edge, (0, 0)), mode="edge")
        colors = padded.reshape(height, block, width, block, 3).mean((1, 3))
    return np.rint(colors).astype(np.uint8)
