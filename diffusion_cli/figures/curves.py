"""Curves over steps and times: loss, metrics, loss by time step, noise schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.style import (
    BLUE,
    CYCLE,
    DOUBLE,
    GREY,
    INK,
    SINGLE,
    VERMILION,
    house_style,
    literally,
    new_figure,
    set_title,
)

# Fraction of the curve's length that is averaged on either side of a point.
WINDOW = 0.03
# Ratio of the largest to the smallest value from which a logarithmic axis helps.
LOG_FROM = 5.0
# Places that may have a tick each.
FEW = 6
# The second sign beside colour.
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 0.6)))


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running mean: centred, narrower towards the start, where losses are steep; one-sided at the end."""
    n = len(values)
    i = np.arange(n)
    half = int(np.ceil(n * WINDOW))
    first = i - np.minimum(i, half)
    last = i + np.minimum(np.minimum(i, n - 1 - i), half)
    total = np.concatenate(([0.0], values.cumsum()))
    return (total[last + 1] - total[first]) / (last + 1 - first)


def set_scale(ax: Axes, *values: ArrayLike) -> None:
    """Logarithmic y axis for positive values that span more than a factor of 5; else linear, from 0 upwards."""
    joined = np.concatenate([np.ravel(value) for value in values])
    if not len(joined) or joined.min() <= 0 or joined.max() <= LOG_FROM * joined.min():
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        return
    ax.set_yscale("log")
    short = joined.max() < 100 * joined.min()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


@house_style
def loss_curve(
    steps: ArrayLike, loss: ArrayLike, floor: float | None = None, title: str | None = None
) -> Figure:
    """Training loss (K,) at steps (K,): raw, smoothed, and the loss that even the exact denoiser keeps.

    Entries that are not finite are left out.

    floor: that irreducible loss, or None where it is not known.

    Example: `loss_curve(steps, loss, floor=0.31)`
    """
    step, raw = np.asarray(steps, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if step.shape != raw.shape or step.ndim != 1:
        raise ValueError(f"steps and loss must be equally long, not {step.shape} and {raw.shape}")
    finite = np.isfinite(raw)
    step, raw = step[finite], raw[finite]
    figure = new_figure(SINGLE * 1.25, 2.5)
    ax = figure.subplots()
    smooth = smoothed(raw)
    ax.plot(step, raw, color=BLUE, alpha=0.3, lw=0.6, label="loss")
    ax.plot(step, smooth, color=BLUE, label="smoothed")
    if floor is not None:
        ax.axhline(floor, color=VERMILION, ls="--", lw=1, label=f"exact denoiser: {floor:.3g}")
    set_scale(ax, raw if raw.size and raw.min() > 0 else smooth, [] if floor is None else [floor])
    if floor is not None and len(smooth) and ax.get_yscale() == "linear":
        # What matters is the height above the floor.
        ax.set_ylim(bottom=floor - 0.1 * max(smooth.max() - floor, 0.0))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set(xlabel="training step", ylabel="loss")
    ax.margins(x=0.01)
    literally(ax.legend(loc="upper right"))
    set_title(ax, title)
    return figure


@house_style
def metric_curves(steps: ArrayLike, metrics: Mapping[str, tuple[ArrayLike, float | None]]) -> Figure:
    """Each metric (K,) at training steps (K,) in a panel of its own, with its floor as a line where it has one.

    Example: `metric_curves(steps, {"Fréchet distance": (values, 2.3)})`
    """
    columns = min(len(metrics), 3)
    rows = -(-len(metrics) // columns)
    figure = new_figure(SINGLE * 1.25 if columns == 1 else DOUBLE, 2.5 if columns == 1 else 1.9 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, (values, floor)) in zip(panels, metrics.items(), strict=False):
        value = np.asarray(values, dtype=np.float64)
        ax.plot(steps, value, color=BLUE, marker=".", ms=3)
        if floor is not None:
            ax.axhline(floor, color=VERMILION, ls="--", lw=1, label=f"true data: {floor:.3g}")
            literally(ax.legend(loc="best"))
        # Towards 1, like recall: zero belongs to the picture.
        rising = floor is not None and np.nanmedian(value) < floor
        set_scale(ax, [] if rising else value[np.isfinite(value)], [] if floor is None else [floor])
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ticks_at(ax, steps)
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.set(xlabel="training step", ylabel=name if len(metrics) == 1 else "")
        set_title(ax, name if len(metrics) > 1 else None)
    for ax in panels[len(metrics) :]:
        ax.set_axis_off()
    return figure


@house_style
def loss_over_time(
    times: ArrayLike,
    losses: Mapping[str, ArrayLike],
    floor: ArrayLike | None = None,
    ylabel: str = "loss",
    xlabel: str = "time $t$",
    excess: ArrayLike | None = None,
) -> Figure:
    """Mean loss (K,) of each named model at times (K,), and as a dashed line what the exact denoiser keeps there.

    excess: (K,), by how much the first loss lies above the exact one, in a panel of its own: of most losses it is a small part.
    """
    figure = new_figure(SINGLE * 1.25 if excess is None else DOUBLE, 2.5)
    axes = figure.subplots(1, 1 if excess is None else 2, squeeze=False)[0]
    ax = axes[0]
    for (name, loss), color, dash in zip(
        losses.items(), _cycle(CYCLE, losses), _cycle(DASHES, losses), strict=True
    ):
        ax.plot(times, loss, color=color, ls=dash, label=name)
    if floor is not None:
        ax.plot(times, floor, color=INK, ls="--", lw=1, label="exact denoiser")
    set_scale(ax, *losses.values(), [] if floor is None else floor)
    ax.set(ylabel=ylabel)
    if excess is not None:
        axes[1].plot(times, excess, color=CYCLE[0])
        axes[1].axhline(0, color=INK, lw=0.4, zorder=0)
        set_scale(axes[1], excess)
        axes[1].set(ylabel=f"{ylabel}, above the exact")
    for ax in axes:
        ax.set(xlabel=xlabel)
        ax.margins(x=0.01)
        ticks_at(ax, times)
    literally(figure.legend(loc="outside lower center", ncols=3))
    return figure


def only_ticks(axis: Axis, places: Sequence[float], text: str) -> None:
    """Ticks of an axis at these places and nowhere else, with the text of each, such as {x:g}."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter(text))


def ticks_at(ax: Axes, places: ArrayLike) -> None:
    """Ticks of the x axis at these places, where they are few."""
    few = np.unique(np.asarray(places, dtype=np.float64))
    if len(few) <= FEW:
        ax.set_xticks(few.tolist())


@house_style
def schedule_comparison(schedules: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """alpha_bar (T + 1,) and log-SNR (T + 1,) of each named schedule over t / T; infinite log-SNR is left out.

    Example: `schedule_comparison({s.name: (s.alpha_bar, s.log_snr) for s in schedules})`
    """
    figure = new_figure(DOUBLE, 2.7)
    left, right = figure.subplots(1, 2)
    styles = zip(_cycle(CYCLE, schedules), _cycle(DASHES, schedules), strict=True)
    for (name, (alpha_bar, log_snr)), (color, dash) in zip(schedules.items(), styles, strict=True):
        for ax, values in ((left, alpha_bar), (right, log_snr)):
            value = np.asarray(values, dtype=np.float64)
            value = np.where(np.isfinite(value), value, np.nan)
            ax.plot(np.linspace(0, 1, len(value)), value, color=color, ls=dash, label=name)
    left.set(xlabel="$t\\,/\\,T$", ylabel="$\\bar\\alpha_t$", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="$t\\,/\\,T$", ylabel="log SNR", xlim=(0, 1))
    right.axhline(0, color=INK, lw=0.4, zorder=0)
    handles, labels = left.get_legend_handles_labels()
    literally(
        figure.legend(handles=handles, labels=labels, loc="outside lower center", ncols=min(len(labels), 6))
    )
    return figure


Style = TypeVar("Style")


def _cycle(values: Sequence[Style], along: Sized) -> list[Style]:
    return [values[i % len(values)] for i in range(len(along))]


@house_style
def score_curves(
    curves: Mapping[int, tuple[ArrayLike, ArrayLike, ArrayLike]], onset: Mapping[int, float | None]
) -> Figure:
    """For each number N of training examples: steps, distance to their own score and to that of their density, in a panel;
    and the step at which the first becomes the smaller one, over N."""
    figure = new_figure(DOUBLE, 2.4)
    panels = figure.subplots(1, len(curves) + 1, squeeze=False)[0]
    top = 1.08 * max(float(np.max(curve)) for _, *pair in curves.values() for curve in pair)
    for ax, (n, (steps, empirical, truth)) in zip(panels, curves.items(), strict=False):
        ax.plot(steps, truth, color=BLUE, label="to the true score")
        ax.plot(steps, empirical, color=VERMILION, ls="--", label="to that of the N points")
        begins = onset[n]
        if begins is not None:
            ax.axvline(begins, color=GREY, lw=0.8, ls=":")
        ax.set(xlim=(0, None), ylim=(0, top), xlabel="training step")
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.tick_params(labelleft=ax is panels[0])
        set_title(ax, f"N = {n:,}")
    panels[0].set_ylabel("distance, in eps")
    handles, labels = panels[0].get_legend_handles_labels()
    literally(figure.legend(handles=handles, labels=labels, loc="outside lower center", ncols=2))
    ax = panels[-1]
    known = {n: step for n, step in onset.items() if step is not None}
    ax.plot([*known], [*known.values()], color=INK, marker="o", ms=4)
    ax.set(xscale="log", yscale="log", xlabel="N", ylabel="step")
    for axis, places in ((ax.xaxis, [*known]), (ax.yaxis, [*known.values()])):
        only_ticks(axis, places, "{x:,.0f}")
    set_title(ax, "by heart from step")
    never = [f"{n:,}" for n, step in onset.items() if step is None]
    if never:
        ax.text(
            0.5, 0.05, f"not yet: N = {', '.join(never)}", transform=ax.transAxes, ha="center", fontsize=7
        )
    return figure
