"""Pictures of samples: alone, over training, over the forward and the reverse process, over the number of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.plane import (
    Curve,
    Limits,
    as_points,
    as_polylines,
    count_outside,
    draw_cloud,
    limits_of,
    panel_axes,
)
from diffusion_cli.figures.style import GREY, SINGLE, add_legend, house_style, new_figure, set_title

VIEW = 1.4  # samples are shown out to this many times the extent of the truth
WRAP = 6  # panels in a row, at most


@house_style
def scatter(x: ArrayLike, curve: Curve | None = None, title: str | None = None) -> Figure:
    """Samples x (n, d) over the true curve; d = 1 gives a histogram.

    Example: `scatter(x, curve=ring.reference(2000))`
    """
    one_line = as_points(x).shape[1] == 1
    figure = new_figure(SINGLE, 2.4 if one_line else SINGLE)
    ax = figure.subplots()
    limits = limits_of([x], curve, reach=VIEW)
    draw_cloud(ax, x, limits, curve, SINGLE)
    if one_line:
        ax.set(xlabel="$x_0$", ylabel="density")
        if as_polylines(curve):
            add_legend(figure, loc="outside lower center", ncols=2)
    else:
        ax.set(xlabel="$x$", ylabel="$y$")
    lost = count_outside(x, limits)
    set_title(ax, (title or f"{len(as_points(x)):,} samples") + (f", {lost:,} outside" if lost else ""))
    return figure


@house_style
def stages(
    samples: Sequence[ArrayLike] | Mapping[str, Sequence[ArrayLike]],
    steps: Sequence[int],
    curve: Curve | Mapping[str, Curve | None] | None = None,
) -> Figure:
    """Samples (n, d) taken during training, one column for each of `steps`.

    With one model the columns wrap into rows. Several models are mappings name -> samples and name -> curve, one row
    each. Limits are 1.4 times the extent of the curve or, without one, of the last stage.

    Example: `stages([x_0, x_1000, x_2000], [0, 1000, 2000], curve)`
    """
    titles = [f"step {step:,}" for step in steps]
    if not isinstance(samples, Mapping):
        if isinstance(curve, Mapping):
            raise ValueError("several curves need as many named rows of samples")
        return _wrapped(samples, titles, curve, _view(samples[-1], curve))
    curves = [curve.get(name) for name in samples] if isinstance(curve, Mapping) else [curve] * len(samples)
    rows = list(samples.values())
    limits = [_view(row[-1], true) for row, true in zip(rows, curves, strict=True)]
    return _grid(rows, titles, limits, curves, list(samples))


@house_style
def forward_strip(
    xs: Sequence[ArrayLike], percents: Sequence[float], T: int, curve: Curve | None = None
) -> Figure:
    """The forward process: x_t (n, d) at t = `percents` of T, rounded, left to right, on common limits.

    Example: `forward_strip([x_0, x_25, x_50], [0, 50, 100], T=50)`
    """
    titles = [f"{percent:g} %\nt = {round(percent / 100 * T)}" for percent in percents]
    return _wrapped(xs, titles, curve, limits_of(xs, curve))


@house_style
def reverse_strip(xs: Sequence[ArrayLike], times: Sequence[float], curve: Curve | None = None) -> Figure:
    """The reverse process: the samples (n, d) at each of `times`, falling, left to right, on common limits."""
    return _wrapped(xs, [f"t = {time:g}" for time in times], curve, limits_of(xs, curve))


@house_style
def sample_panels(samples: Sequence[ArrayLike], titles: Sequence[str], truth: ArrayLike) -> Figure:
    """Samples under several settings, e.g. T = 5, 10, 25, 50, and as the last panel the truth.

    Limits are 1.4 times the extent of the truth.
    """
    return _wrapped([*samples, truth], [*titles, "truth"], None, _view(truth, None))


def _view(x: ArrayLike, curve: Curve | None) -> Limits:
    return limits_of([x] if curve is None else [], curve, widen=VIEW)


def _wrapped(xs: Sequence[ArrayLike], titles: Sequence[str], curve: Curve | None, limits: Limits) -> Figure:
    """One panel each, in as few rows as the width allows, evenly filled."""
    rows = max(1, -(-len(xs) // WRAP))
    columns = -(-len(xs) // rows)
    split = [xs[i : i + columns] for i in range(0, len(xs), columns)]
    return _grid(split, titles, [limits] * rows, [curve] * rows)


def _grid(
    rows: Sequence[Sequence[ArrayLike]],
    titles: Sequence[str],
    limits: Sequence[Limits],
    curves: Sequence[Curve | None],
    names: Sequence[str] = (),
) -> Figure:
    """One panel for each set, row by row; the last row may be shorter.

    titles: one for each panel, or with `names`, those of the rows, one for each column. limits, curves: of the rows.
    """
    sizes = [len(row) for row in rows]
    expected = max(sizes) if names else sum(sizes)
    if not expected or len(titles) != expected or (names and len(set(sizes)) > 1):
        raise ValueError(f"{sum(sizes)} sets of points in {len(rows)} rows do not fit {len(titles)} titles")
    on_a_line = as_points(rows[0][0]).shape[1] == 1
    legend = on_a_line and any(curve is not None for curve in curves)
    lines = 1 + max(title.count("\n") for title in titles)
    figure, axes, width = panel_axes(len(rows), max(sizes), lines, 1 if names else len(rows), legend=legend)
    for r, row in enumerate(rows):
        for c, (ax, x) in enumerate(zip(axes[r], row, strict=False)):
            draw_cloud(ax, x, limits[r], curves[r], width)
            if not names or r == 0:
                set_title(ax, titles[r * max(sizes) + c])
            lowest = r == len(rows) - 1 or c >= sizes[r + 1]
            ax.tick_params(labelbottom=lowest or limits[r] != limits[r + 1], labelleft=c == 0)
            lost = count_outside(x, limits[r])
            if lost:
                ax.set_xlabel(f"{lost:,} outside", fontsize=6, color=GREY, labelpad=1)
        for ax in axes[r, len(row) :]:
            ax.remove()
        if on_a_line:
            top = max(ax.get_ylim()[1] for ax in axes[r, : len(row)])
            for ax in axes[r, : len(row)]:
                ax.set_ylim(0, top)
        label = names[r] if names else ("density" if on_a_line else "")
        axes[r, 0].set_ylabel(label, parse_math=False)
    if legend:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        add_legend(figure, handles=handles, labels=labels, loc="outside lower center", ncols=2)
    return figure
