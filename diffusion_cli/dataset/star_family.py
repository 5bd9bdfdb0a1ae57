"""The distribution of stars: sets of points on star-shaped outlines."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class StarFamily(NamedTuple):
    """All stars that there are, by the ranges from which each star is drawn uniformly.

    arms: lowest and highest number of arms.
    ratio: lowest and highest ratio of inner to outer radius.
    radius: lowest and highest outer radius.
    """

    arms: tuple[int, int] = (4, 7)
    ratio: tuple[float, float] = (0.35, 0.65)
    radius: tuple[float, float] = (0.8, 1.2)


def draw_stars(family: StarFamily, n: int, size: int, jitter: float, generator: torch.Generator) -> Tensor:
    """n stars of the family, `size` points each: (n, size, 2) float32.

    A star has its tips at distance r and its notches at distance ratio * r, alternating at equal angles, and a uniform
    rotation. Each point is uniform by arc length on its 2 x arms edges, plus Gaussian noise of standard deviation
    jitter * r in either coordinate.
    """

    def uniform(shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    arms = torch.randint(family.arms[0], family.arms[1] + 1, (n, 1), generator=generator)
    ratio, radius = uniform((n, 1), *family.ratio), uniform((n, 1), *family.radius)
    rotation = uniform((n, 1), 0, 2 * math.pi)
    # All edges of a star have one length, so that edge and place on it are independent and uniform.
    edge = (uniform((n, size)) * 2 * arms).floor()
    place = uniform((n, size))
    start, end = (_corner(edge + i, arms, ratio) for i in (0, 1))
    x = radius[..., None] * torch.lerp(start, end, place[..., None])
    cos, sin = rotation.cos(), rotation.sin()
    x = torch.stack((cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]), -1)
    noise = torch.randn(n, size, 2, generator=generator, dtype=torch.float64)
    return (x + jitter * radius[..., None] * noise).float()


def _corner(index: Tensor, arms: Tensor, ratio: Tensor) -> Tensor:
    """Corner number `index` of the star of radius 1: tips have even numbers, notches odd ones; (..., 2)."""
    angle = math.pi * index / arms
    distance = torch.where(index % 2 == 0, 1.0, ratio)
    return torch.stack((distance * angle.cos(), distance * angle.sin()), -1)
