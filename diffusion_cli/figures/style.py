"""The look of every figure: sizes for a printed report, colours that the colour-blind can tell apart."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.legend import Legend

# Inches: one column of a report, and both.
SINGLE, DOUBLE = 3.3, 6.8
DPI = 200

# Okabe and Ito, Color Universal Design (2008); their yellow is left out, being too pale for lines on paper.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
INK, GREY, LIGHT = "#222222", "#8c8c8c", "#d4d4d4"
# The ground truth, beside what is learned; as a curve under points.
TRUTH, BAND = GREY, "#f0c27b"

_VIRIDIS = matplotlib.colormaps["viridis"]
# Without the yellow end.
TIME = ListedColormap(_VIRIDIS([0.88 * i / 255 for i in range(256)]), "time")
DENSITY = LinearSegmentedColormap.from_list(
    "density", ["#ffffff", "#c6dbef", "#6baed6", "#2171b5", "#08306b"]
)

HOUSE: dict[str, object] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    # It comes with matplotlib: the same picture on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
}

P = ParamSpec("P")
R = TypeVar("R")


def house_style(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run with the house style over matplotlib's defaults, whatever the caller has set."""

    @functools.wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(HOUSE)  # type: ignore[arg-type]
            return function(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that draws by Agg and belongs to no window."""
    # Panels of equal aspect stay close together.
    figure = Figure(figsize=(width, height), layout="compressed")
    FigureCanvasAgg(figure)
    return figure


def set_title(ax: Axes, text: str | None) -> None:
    """Title of an axes, if any; a `$` in a user's text stays a dollar sign."""
    if text:
        ax.set_title(text).set_parse_math(False)


def time_title(t: float) -> str:
    """The title of a panel that shows x_t.

    >>> time_title(12.5), time_title(1000)
    ('t = 12.5', 't = 1000')
    """
    return f"t = {round(t, 1):g}"


def literally(legend: Legend) -> None:
    """Has the texts of a legend stand as they are, a `$` in them too."""
    for text in legend.get_texts():
        text.set_parse_math(False)
