"""The states of a reverse process, packed small for a page that lets them be dragged through."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_cli.figures.plane import limits_of

FULL = 65535  # positions are whole numbers from 0 to this between the limits
ZOOM = 1.25  # extent of the zoomed view in that of the final samples
WORTH = 0.75  # share of the whole view below which a zoomed one is offered


@dataclass(frozen=True)
class Process:
    """x (K, n, *shape) at falling times (K,) out of T, noise first, on its way to data.

    noise: sigma/alpha (K,). x0: like x, what the denoiser takes for x0 at each time, or None. label (n,) and names of
    the classes, or None. density: of x_t, not negative: (K, size, size) in the plane, row 0 at the bottom, (K, size) on a
    line, over `limits`, or None. outline: polylines (V, 2) of the data, or (). Points on a line and in the plane, sets
    (P, 2) and images (C, H, W) in [-1, 1] are drawn; ValueError for other shapes.
    """

    times: Sequence[float]
    T: int
    noise: Sequence[float]
    x: NDArray[np.floating]
    x0: NDArray[np.floating] | None = None
    label: NDArray[np.integer] | None = None
    names: Sequence[str] = ()
    limits: tuple[float, float] = (-1.0, 1.0)
    density: NDArray[np.floating] | None = None
    outline: Sequence[NDArray[np.floating]] = ()
    note: str = ""

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def kind(self) -> str:
        return kind_of(self.x.shape[2:])

    @cached_property
    def data(self) -> dict[str, Any]:
        """What page.js is told: plain values; positions as base64 of little-endian uint16, shades of uint8."""
        images, n = self.kind == "images", self.x.shape[1]
        sets = self.x.ndim == 4
        pack = shades if images else self.quantised
        panels = n if sets else 1
        columns = grid_columns(n if images or sets else 1)
        rows = -(-(n if images or sets else 1) // columns)
        views = {"x": self.x} | ({} if self.x0 is None else {"x0": self.x0})
        height, width = (self.x.shape[-2:]) if images else (1, 1)
        under = 1 / 0.86 if images and self.label is not None else 1  # room for the labels
        return {
            "kind": self.kind,
            "what": {"images": "images", "plane": "points in the plane", "line": "histogram"}[self.kind],
            "times": [round(float(t), 3) for t in self.times],
            "noise": [float(f"{value:.4g}") for value in self.noise],
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
        if self.kind != "plane":
            return None
        left, right, bottom, top = limits_of(list(self.x[-1]) if self.x.ndim == 4 else [self.x[-1]])
        half = ZOOM * max(map(abs, (left, right, bottom, top)))
        low, high = self.limits
        if half > WORTH * (high - low) / 2:
            return None
        centre = (low + high) / 2
        return [round((centre + side * half - low) / (high - low) * FULL) for side in (-1, 1)]

    def _density(self, density: NDArray[np.floating]) -> dict[str, Any]:
        """Each frame in shares of its own peak; in the plane the root of them, so that tails are seen."""
        peaks = density.reshape(self.frames, -1).max(1)
        shares = density / np.maximum(peaks, 1e-300).reshape(-1, *[1] * (density.ndim - 1))
        shares = np.sqrt(shares) if self.kind == "plane" else shares
        return {
            "size": density.shape[-1],
            "peaks": [float(f"{peak:.5g}") for peak in peaks],
            "values": text_of(np.round(shares * 255).astype(np.uint8)),
        }


def kind_of(shape: Sequence[int]) -> str:
    """line, plane (points, or sets of them) or images."""
    if tuple(shape) == (1,):
        return "line"
    if tuple(shape) == (2,) or (len(shape) == 2 and shape[1] == 2):
        return "plane"
    if len(shape) == 3 and shape[0] in (1, 3):
        return "images"
    raise ValueError(f"there is no picture of samples of shape {tuple(shape)}")


def grid_columns(n: int) -> int:
    """Columns of a grid of n cells that is about square."""
    return int(np.ceil(np.sqrt(n)))


def shades(values: NDArray[np.floating]) -> str:
    """Pixels in [-1, 1] as bytes; what lies outside is clipped, as in any image file."""
    return text_of(np.round((np.nan_to_num(values).clip(-1, 1) + 1) * 127.5).astype(np.uint8))


def text_of(array: NDArray[Any]) -> str:
    """The bytes of an array in base64, for a page's script."""
    return base64.b64encode(array.tobytes()).decode()
