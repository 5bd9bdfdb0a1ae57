"""Images on their way, beside a map of when their parts settle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from diffusion_cli.figures.images import mosaic
from diffusion_cli.figures.space import Floats
from diffusion_cli.figures.style import DOUBLE, LIGHT, TIME, house_style, new_figure, set_title, time_title


@house_style
def settling(
    predicted: Sequence[Floats],
    times: Sequence[float],
    settled: Floats,
    title: str | None = None,
) -> Figure:
    """A row for each image: the x0 predicted at falling times, and a map of when its parts settle.

    predicted: at each of `times`, (n, C, H, W).
    settled: (n, rows, columns), fractions of T, nan where nothing is in a part.
    """
    n, columns = len(settled), len(times) + 1
    side = (DOUBLE - 0.9) / columns
    figure = new_figure(DOUBLE, n * side + 0.5)
    axes = figure.subplots(n, columns, squeeze=False)
    for row, line in enumerate(axes):
        for ax, images in zip(line, predicted, strict=False):
            ax.imshow(mosaic(images[row : row + 1]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        drawn = line[-1].imshow(
            settled[row], cmap=TIME.with_extremes(bad=LIGHT), vmin=0, vmax=1, interpolation="nearest"
        )
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, head in zip(axes[0], [*map(time_title, times), "settled at"], strict=True):
        set_title(ax, head)
    bar = figure.colorbar(drawn, ax=list(axes[:, -1]), label="$t$ / $T$", fraction=0.12, pad=0.08)
    bar.set_ticks(list(np.linspace(0, 1, 5)))
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=8, parse_math=False)
    return figure
