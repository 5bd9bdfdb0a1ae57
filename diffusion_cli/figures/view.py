"""What a view is: how data of one kind are drawn, in whichever figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_cli.figures.animation import INCHES, Animation, animate
from diffusion_cli.figures.plane import Limits
from diffusion_cli.figures.space import Floats

# A name for each panel.
Names = Sequence[str] | None


def each(x: ArrayLike) -> list[Floats]:
    """The samples of (n, *shape), one by one; sets of points need not be of one size."""
    return [np.asarray(sample) for sample in cast(Sequence[ArrayLike], x)]


class States(NamedTuple):
    """Where chains are at falling times, in the units of the data's file.

    times: (K,), noise first.
    x: (K, n, *shape), x_t.
    x0: the same, what the denoiser predicts from x_t; at t = 0 the sample itself.
    """

    times: Sequence[float]
    x: Floats
    x0: Floats


class View(ABC):
    """Draws samples of one kind of data; holds the ground truth of one dataset. A new kind of data is one of these.

    x is array-like (n, *shape) on the CPU; states are several of them, of the same n chains.

    panels: whether each sample has a panel of its own (sets, images), or all share one (points).
    followed: trajectories that can be told apart in one figure.
    """

    panels: ClassVar[bool]
    followed: ClassVar[int]

    @abstractmethod
    def grid(self, x: ArrayLike, names: Names = None, columns: int = 8, title: str | None = None) -> Figure:
        """Samples beside the ground truth.

        names: above each sample that has a panel.
        columns: of panels.
        title: above a panel that all samples share.
        """

    @abstractmethod
    def strip(self, states: Sequence[ArrayLike], titles: Sequence[str], wide: bool = False) -> Figure:
        """One column for each state, under its title; a row for each sample that has panels.

        wide: limits that hold the noise, too; else those of the ground truth.
        """

    @abstractmethod
    def compare(self, samples: Mapping[str, ArrayLike], names: Names = None, wide: bool = False) -> Figure:
        """The same samples under several named settings: a panel for each setting, or a row of panels.

        names: above the columns of panels.
        wide: as in `strip`.
        """

    @abstractmethod
    def paths(self, states: States, followed: int | None = None, columns: int = 10) -> Figure:
        """The ways of the first `followed` samples from x_T to x_0.

        columns: states that are shown where a state needs a panel.
        """

    @abstractmethod
    def limits(self, states: Sequence[ArrayLike], wide: bool = False) -> Limits:
        """Common limits of panels that show these states; wide: as in `strip`."""

    @abstractmethod
    def panel(self, ax: Axes, x: ArrayLike, limits: Limits, width: float) -> None:
        """All samples in one axes, `width` inches wide."""

    def frames(self, states: Sequence[ArrayLike], titles: Sequence[str]) -> Animation:
        """The states one after the other, as an animation that loops and rests on its last frame.

        Example: `save_figure(view.frames(states, [f"t = {t:g}" for t in times]), "reverse.gif")`
        """
        if not len(states) or len(states) != len(titles):
            raise ValueError(f"{len(states)} states do not fit {len(titles)} titles")
        limits = self.limits(states, wide=True)
        return animate(lambda ax, k: self.panel(ax, states[k], limits, INCHES), titles)
