"""Points of space as a picture: seen from one side, and how far away each is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of any width.
Floats = NDArray[np.floating]
# Where one looks from, in degrees: anticlockwise from the first axis, and above the plane of the first two.
AZIMUTH, ELEVATION = -60.0, 20.0


def axes_of_view(azimuth: float = AZIMUTH, elevation: float = ELEVATION) -> NDArray[np.float64]:
    """The directions of space (3, 3), as columns, that lie to the right and upwards in the picture and towards who looks."""
    a, e = math.radians(azimuth), math.radians(elevation)
    right = (-math.sin(a), math.cos(a), 0.0)
    up = (-math.sin(e) * math.cos(a), -math.sin(e) * math.sin(a), math.cos(e))
    near = (math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e))
    return np.array([right, up, near]).T


def flat(x: ArrayLike, azimuth: float = AZIMUTH) -> NDArray[np.float64]:
    """Points (..., d) as a picture shows them, (..., 1 or 2): those of space from one side, without perspective; of those of more
    dimensions the first two coordinates."""
    points = np.asarray(x, dtype=np.float64)
    return points @ axes_of_view(azimuth)[:, :2] if points.shape[-1] == 3 else points[..., :2]


def from_afar(x: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Points (n, d) as `flat` shows them, the farthest first, and how near each is, from 0 to 1; None without a third axis."""
    points = np.asarray(x, dtype=np.float64)
    if points.shape[-1] != 3 or not len(points):
        return flat(points), None
    near = np.nan_to_num(points @ axes_of_view()[:, 2])
    order = near.argsort()
    low, high = np.quantile(near, (0.02, 0.98))
    return flat(points[order]), np.clip((near[order] - low) / (high - low or 1.0), 0, 1)


def turned(x: ArrayLike, degrees: float) -> NDArray[np.float64]:
    """Points (..., 3), turned clockwise about the third axis."""
    angle = math.radians(degrees)
    turn = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    return np.asarray(x, dtype=np.float64) @ turn
