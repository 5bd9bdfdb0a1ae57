"""What a sweep found: a metric over a swept key, and samples over two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from diffusion_cli.figures.curves import DASHES, set_scale
from diffusion_cli.figures.plane import Curve, as_points, draw_cloud, limits_of, panel_axes
from diffusion_cli.figures.style import CYCLE, GREY, SINGLE, add_legend, house_style, new_figure, set_title

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
LOG_FROM = 8.0  # ratio of the largest to the smallest number on an axis from which it is logarithmic
VIEW = 1.4  # samples are shown out to this many times the extent of the truth
TILES = 16  # images in a cell


class Line(NamedTuple):
    """One value of hue. x: numbers or names; mean, std (nan: a single run); runs: the single values at each x; floor:
    what a perfect model would have there, or nan."""

    x: Sequence[Any]
    mean: Sequence[float]
    std: Sequence[float]
    runs: Sequence[Sequence[float]]
    floor: Sequence[float]


class Panel(NamedTuple):
    """Samples (n, 1) or (n, 2) or images (n, C, H, W) in [-1, 1], the truth beside them, and what is said above."""

    samples: ArrayLike
    curve: Curve | None
    text: str


@house_style
def metric_lines(lines: Mapping[str, Line], xlabel: str, ylabel: str, hue: str | None = None) -> Figure:
    """Mean and standard deviation over seeds against a swept key, one line for each value of `hue`; faint dots are
    the single runs, dotted lines the floor of true samples.

    Numbers lie on an axis, logarithmic where they span much; names lie side by side in the order given.
    """
    figure = new_figure(SINGLE * 1.35, 2.7)
    ax = figure.subplots()
    names = list(dict.fromkeys(x for line in lines.values() for x in line.x))
    numeric = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in names)
    for i, (name, line) in enumerate(lines.items()):
        place = np.array([x if numeric else names.index(x) for x in line.x], dtype=float)
        color, style = CYCLE[i % len(CYCLE)], {"marker": MARKERS[i % len(MARKERS)], "ms": 3.5}
        std = np.nan_to_num(np.asarray(line.std, dtype=float))
        ax.errorbar(place, line.mean, std, color=color, ls=DASHES[i % len(DASHES)] if numeric else "none",
                    capsize=2, elinewidth=0.8, label=name, zorder=3, **style)  # fmt: skip
        for x, values in zip(place, line.runs, strict=True):
            if len(values) > 1:
                ax.scatter([x] * len(values), values, s=5, color=color, alpha=0.35, lw=0, zorder=2)
        if np.isfinite(line.floor).any():
            ax.plot(
                place,
                line.floor,
                color=color,
                ls=(0, (1, 2)),
                lw=0.8,
                zorder=1,
                marker="" if numeric else "_",
            )
    _x_axis(ax, names, numeric)
    low = [m - s for line in lines.values() for m, s in zip(line.mean, np.nan_to_num(line.std), strict=True)]
    every = [value for line in lines.values() for values in line.runs for value in values]
    if min(low) > 0:
        set_scale(ax, every, [f for line in lines.values() for f in line.floor if np.isfinite(f) and f > 0])
    ax.set_xlabel(xlabel).set_parse_math(False)
    ax.set_ylabel(ylabel).set_parse_math(False)
    if any(np.isfinite(line.floor).any() for line in lines.values()):
        ax.plot([], [], color=GREY, ls=(0, (1, 2)), lw=0.8, label="floor of true samples")
    handles, labels = ax.get_legend_handles_labels()
    if len(handles) > 1 or hue:
        longest = max(map(len, labels))
        columns = min(len(labels), 3 if longest < 14 else 2 if longest < 24 else 1)
        add_legend(figure, handles=handles, labels=labels, title=hue, loc="outside lower center", ncols=columns,
                   title_fontsize=7)  # fmt: skip
    return figure


def _x_axis(ax: Axes, names: Sequence[Any], numeric: bool) -> None:
    if not numeric:
        ax.set_xticks(range(len(names)), [str(name) for name in names])
        for label in ax.get_xticklabels():
            label.set_parse_math(False)
            if sum(len(str(name)) for name in names) > 32:
                label.set(rotation=30, ha="right", rotation_mode="anchor")
        ax.set_xlim(-0.5, len(names) - 0.5)
        return
    if min(names) > 0 and max(names) >= LOG_FROM * min(names):
        ax.set_xscale("log")
    if len(names) <= 8:  # every value that was swept, and no other
        ax.xaxis.set_major_locator(FixedLocator(sorted(names)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:.4g}")


@house_style
def sample_grid(
    panels: Mapping[tuple[int, int], Panel], columns: Sequence[str], rows: Sequence[str]
) -> Figure:
    """Samples over two swept keys: panels[row, column], a missing one left blank; heads of columns and rows.

    Points are shown on the limits of the truth of their row, or without one of their own; images as mosaics.
    """
    figure, axes, width = panel_axes(len(rows), len(columns), title_lines=2, titled_rows=len(rows))
    for r, row in enumerate(rows):
        shown = [panels[r, c] for c in range(len(columns)) if (r, c) in panels]
        limits = None
        if shown and np.ndim(shown[0].samples) == 2:
            curve = shown[0].curve
            limits = limits_of([panel.samples for panel in shown] if curve is None else [], curve, widen=VIEW)
        first = True
        for c, head in enumerate(columns):
            ax = axes[r, c]
            panel = panels.get((r, c))
            if panel is None:
                ax.set_axis_off()
                ax.text(0.5, 0.5, "no run", ha="center", va="center", color=GREY, transform=ax.transAxes)
            elif limits is None:
                ax.imshow(
                    mosaic(np.asarray(panel.samples)), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
                )
                ax.set(xticks=[], yticks=[])
            else:
                draw_cloud(ax, panel.samples, limits, panel.curve, width)
                ax.tick_params(
                    labelbottom=r == len(rows) - 1, labelleft=c == 0 and as_points(panel.samples).shape[1] > 1
                )
            lines = ([head] if r == 0 else []) + ([panel.text] if panel is not None else [])
            set_title(ax, "\n".join(lines))
            if first and row:
                ax.text(-0.06 if panel is None else -0.2, 0.5, row, rotation=90, ha="right", va="center",
                        transform=ax.transAxes).set_parse_math(False)  # fmt: skip
            first = False
    return figure


def mosaic(images: np.ndarray) -> np.ndarray:
    """The first images (n, C, H, W) in [-1, 1] as one picture (h, w, C) or (h, w), in [0, 1], in a square."""
    side = max(1, int(np.sqrt(min(len(images), TILES))))
    _, channels, height, width = images[: side * side].shape
    tiles = images[: side * side].reshape(side, side, channels, height, width)
    picture = tiles.transpose(0, 3, 1, 4, 2).reshape(side * height, side * width, channels)
    picture = (picture.clip(-1, 1) + 1) / 2
    return picture[..., 0] if channels == 1 else picture
