"""Pictures of images: grids and strips in which every pixel of an image is a square of whole pixels of the page.

An image is array-like (C, H, W), C = 1 (grey) or 3 (red, green, blue), values from -1 (black) to 1 (white); what lies
outside is clipped, what is not a number is drawn in a blue of its own. None is an empty place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.style import DOUBLE, DPI, SKY, house_style, new_figure

Image = ArrayLike | None
Rows = Sequence[Sequence[Image]]
Names = Sequence[str | None] | None

WIDTH = round(DOUBLE * DPI)  # of the page, in its pixels
LARGEST = round(1.15 * DPI)  # side of a panel
GAP = 8  # between panels
POINT = DPI / 72  # one point of type
SIZE = 7  # of type, in points
HIDDEN = tuple(int(SKY[i : i + 2], 16) for i in (1, 3, 5))


@house_style
def grid(images: Sequence[Image], titles: Names = None, columns: int = 8) -> Figure:
    """Images row by row, a title (such as a class) above each.

    Example: `grid(x[:64], [names[k] for k in label[:64]])`
    """
    cells = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    above = (
        None if titles is None else [list(titles[i : i + columns]) for i in range(0, len(images), columns)]
    )
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles do not fit {len(images)} images")
    return page(cells, above)


@house_style
def strip(rows: Rows, titles: Sequence[str], names: Names = None) -> Figure:
    """Rows of images under the titles of their columns; a name to the left of each row.

    Example: `strip([[x_50[0], x_25[0], x_0[0]]], ["t = 50", "t = 25", "t = 0"])`
    """
    if any(len(row) != len(titles) for row in rows):
        raise ValueError(f"rows of {[len(row) for row in rows]} images do not fit {len(titles)} titles")
    return page(rows, [titles, *([None] * (len(rows) - 1))], names)


@house_style
def beside(
    left: Sequence[Image], right: Sequence[Image], titles: tuple[str, str], columns: int = 6
) -> Figure:
    """Two grids of as many images side by side, each under its title.

    Example: `beside(x_T[:36], x_0[:36], ("noise", "samples"))`
    """
    if len(left) != len(right):
        raise ValueError(f"{len(left)} images cannot stand beside {len(right)}")
    rows = []
    for i in range(0, len(left), columns):
        first = [*left[i : i + columns]]
        rows.append([*first, *[None] * (columns - len(first)), None, *right[i : i + columns]])
    above = [[None] * len(row) for row in rows]
    above[0][0], above[0][columns + 1] = titles
    return page(rows, above, align="left", narrow=columns)


@house_style
def inpainting(
    original: Sequence[Image],
    known: Sequence[Image],
    completed: Sequence[Sequence[Image]],
    names: Names = None,
) -> Figure:
    """A row for each image: the original, what is known of it (the rest not a number), its completions.

    Example: `inpainting(x0, np.where(mask, x0, np.nan), completions.reshape(n, 4, *x0.shape[1:]))`
    """
    if not len(original) == len(known) == len(completed):
        raise ValueError(
            f"{len(original)} images, {len(known)} known and {len(completed)} completed do not fit"
        )
    rows = [[a, b, *more] for a, b, more in zip(original, known, completed, strict=True)]
    count = len(rows[0]) - 2
    titles = ["original", "known", "completed", *[None] * (count - 1)]
    return page(rows, [titles, *[None] * (len(rows) - 1)], names)


def page(
    rows: Rows,
    titles: Sequence[Sequence[str | None] | None] | None = None,
    names: Names = None,
    align: str = "center",
    narrow: int | None = None,
) -> Figure:
    """All panels in one array of page pixels, and the texts on top of it.

    titles: above each panel, by row; rows without any take no room for them. names: left of each row. align: of the
    titles over their panels. narrow: a column that is but a gap.
    """
    known = [np.asarray(image, dtype=np.float64) for row in rows for image in row if image is not None]
    if not known:
        raise ValueError("no images to draw")
    shape = known[0].shape
    if len(shape) != 3 or shape[0] not in (1, 3) or any(image.shape != shape for image in known):
        raise ValueError(
            f"expected images of one shape (1 or 3, H, W), not {sorted({i.shape for i in known})}"
        )
    titles = [[]] * len(rows) if titles is None else [row or [] for row in titles]
    longest = max((len(name or "") for name in names or []), default=0)
    columns = max(map(len, rows))
    place = layout(shape[1:], columns, [any(row) for row in titles], longest, narrow)
    canvas = np.full((place.height, place.width, 3), 255, dtype=np.uint8)
    figure, ax = _paper(canvas.shape)
    style: dict[str, Any] = {"fontsize": SIZE, "parse_math": False}
    height, width = place.panel
    for r, (row, top) in enumerate(zip(rows, place.tops, strict=True)):
        for image, left in zip(row, place.lefts, strict=False):
            if image is not None:
                canvas[top : top + height, left : left + width] = drawn(image, height, width)
        for title, left in zip(titles[r], place.lefts, strict=False):
            at = left + (width / 2 if align == "center" else 0)
            ax.text(at, top - 0.3 * SIZE * POINT, title or "", ha=align, va="baseline", **style)
        if names is not None:
            at = place.lefts[0] - GAP
            ax.text(at, top + height / 2, names[r] or "", ha="right", va="center", **style)
    ax.imshow(canvas, extent=(0, place.width, place.height, 0), interpolation="nearest", aspect="auto")
    return figure


class Layout(NamedTuple):
    """Where panels lie, in pixels of the page: tops of rows, lefts of columns, (height, width) of a panel; and the
    page's own height and width."""

    tops: list[int]
    lefts: list[int]
    panel: tuple[int, int]
    height: int
    width: int


def layout(
    shape: tuple[int, int], columns: int, titled: Sequence[bool], longest: int = 0, narrow: int | None = None
) -> Layout:
    """The layout of rows (titled or not) of images (H, W), as large as the width of the page allows.

    longest: characters of the longest name of a row. narrow: a column that is but a gap.
    """
    margin = GAP + (GAP + round(0.62 * longest * SIZE * POINT) if longest else 0)
    wide = columns - (narrow is not None)
    room = max(min((WIDTH - margin - 2 * GAP * columns) // wide, LARGEST), 1)
    height, width = (zoomed(side, max(shape), room) for side in shape)
    text = round(1.5 * SIZE * POINT)
    tops, bottom = [], 0
    for has_title in titled:
        tops.append(bottom + GAP + text * has_title)
        bottom = tops[-1] + height
    lefts = [margin + c * (width + GAP) for c in range(columns)]
    if narrow is not None:
        lefts = [left - (width - GAP) * (c > narrow) for c, left in enumerate(lefts)]
    return Layout(tops, lefts, (height, width), bottom + GAP, lefts[-1] + width + GAP)


def _paper(shape: tuple[int, ...]) -> tuple[Figure, Any]:
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
