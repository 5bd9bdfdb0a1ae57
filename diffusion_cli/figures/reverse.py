"""The states of a reverse process, packed small for a page that lets them be dragged through."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.plane import limits_of
from diffusion_cli.figures.space import Floats
from diffusion_cli.ranges import Facts

if TYPE_CHECKING:
    from diffusion_cli.dataset.protocol import Kind

# Positions are whole numbers from 0 to this between the limits.
FULL = 65535
# Extent of the zoomed view, in that of the final samples.
ZOOM = 1.25
# Fraction of the whole view below which a zoomed one is offered.
WORTH = 0.75
# The painter in page.js of each kind of data, and what it shows in words. Sets are points in panels of their own.
PAINTERS: dict[Kind, tuple[str, str]] = {
    "line": ("line", "histogram"),
    "plane": ("plane", "points in the plane"),
    "space": ("plane", "points, seen from one side"),
    "sets": ("plane", "sets of points"),
    "images": ("images", "images"),
}


@dataclass(frozen=True)
class Process:
    """The states of a reverse process, noise first.

    kind: of data.
    times: (K,), falling, out of T.
    ratios: sigma/alpha (K,).
    x: (K, n, *shape); of points, in the plane of the page.
    x0: like x, what the denoiser predicts for x0 at each time, or None.
    label: (n,), or None.
    names: of the classes.
    limits: of each coordinate of points.
    density: of x_t, not negative, over `limits`: (K, size, size) in the plane, row 0 at the bottom; (K, size) on a line.
    outline: polylines (V, 2) of the data.
    note: shown below.
    """

    kind: Kind
    times: Sequence[float]
    T: int
    ratios: Sequence[float]
    x: Floats
    x0: Floats | None = None
    label: NDArray[np.integer] | None = None
    names: Sequence[str] = ()
    limits: tuple[float, float] = (-1.0, 1.0)
    density: Floats | None = None
    outline: Sequence[Floats] = ()
    note: str = ""

    @property
    def frames(self) -> int:
        return len(self.times)

    @cached_property
    def data(self) -> Facts:
        """The input of page.js: plain values; positions as base64 of little-endian uint16, shades of uint8."""
        images, sets, n = self.kind == "images", self.kind == "sets", self.x.shape[1]
        painter, what = PAINTERS[self.kind]
        pack = shades if images else self.quantised
        panels = n if sets else 1
        columns = grid_columns(n if images or sets else 1)
        rows = -(-(n if images or sets else 1) // columns)
        views = {"x": self.x} | ({} if self.x0 is None else {"x0": self.x0})
        height, width = (self.x.shape[-2:]) if images else (1, 1)
        under = 1 / 0.86 if images and self.label is not None else 1  # room for the labels
        return {
            "kind": painter,
            "what": what,
            "times": [round(float(t), 3) for t in self.times],
            "ratios": [float(f"{value:.4g}") for value in self.ratios],
            "T": self.T,
            "shape": list(self.x.shape[2:]),
            "count": self.x.shape[2] if sets else n,
            "panels": panels,
            "columns": columns,
            "aspect": 1.9 if self.kind == "line" else columns * width / (rows * height * under),
            "limits": list(self.limits),
            "zoom": self._zoom(),
            "views": {name: pack(values) for name, values in views.items()},
            "label": None if self.label is None else [int(value) for value in self.label],
            "names": [str(name) for name in self.names],
            "density": None if self.density is None else self._density(self.density),
            "outline": [self.quantised(line) for line in self.outline],
        }

    def quantised(self, values: ArrayLike) -> str:
        low, high = self.limits
        scaled = (np.nan_to_num(np.asarray(values, dtype=np.float64), nan=2 * high) - low) / (high - low)
        return text_of(np.round(scaled.clip(0, 1) * FULL).astype("<u2"))

    def _zoom(self) -> list[int] | None:
        """The part of the view that the final samples need, where that is much less than the whole."""
        if self.kind not in ("plane", "space", "sets"):
            return None
        left, right, bottom, top = limits_of(list(self.x[-1]) if self.kind == "sets" else [self.x[-1]])
        half = ZOOM * max(map(abs, (left, right, bottom, top)))
        low, high = self.limits
        if half > WORTH * (high - low) / 2:
            return None
        centre = (low + high) / 2
        return [round((centre + side * half - low) / (high - low) * FULL) for side in (-1, 1)]

    def _density(self, density: Floats) -> Facts:
        """Each frame relative to its own peak; in the plane the root of that, so that tails are seen."""
        peaks = density.reshape(self.frames, -1).max(1)
        relative = density / np.maximum(peaks, 1e-300).reshape(-1, *[1] * (density.ndim - 1))
        relative = np.sqrt(relative) if self.kind == "plane" else relative
        return {
            "size": density.shape[-1],
            "peaks": [float(f"{peak:.5g}") for peak in peaks],
            "values": text_of(np.round(relative * 255).astype(np.uint8)),
        }


def grid_columns(n: int) -> int:
    """Columns of a grid of n cells that is about square."""
    return int(np.ceil(np.sqrt(n)))


def shades(values: Floats) -> str:
    """Pixels in [-1, 1] as bytes; what lies outside is clipped, as in any image file."""
    return text_of(np.round((np.nan_to_num(values).clip(-1, 1) + 1) * 127.5).astype(np.uint8))


def text_of(array: NDArray[np.generic]) -> str:
    """The bytes of an array in base64, for a page's script."""
    return base64.b64encode(array.tobytes()).decode()
