"""Stars: sets of points on star-shaped outlines, every set a star of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_cli.dataset.exact import number, numbers
from diffusion_cli.dataset.point_sets import SetDataset, count
from diffusion_cli.errors import UserError
from diffusion_cli.noise import Stream, generator


class StarFamily(NamedTuple):
    """All stars there are: lowest and highest number of arms, ratio of inner to outer radius, outer radius."""

    arms: tuple[int, int] = (4, 7)
    ratio: tuple[float, float] = (0.35, 0.65)
    radius: tuple[float, float] = (0.8, 1.2)


class Stars(SetDataset):
    """Sets of points uniform over the 2 x arms edges of stars about the origin.

    A star has its tips at distance r and its notches at distance ratio * r, alternating at equal angles. For each set
    the number of arms is uniform over the whole numbers arms[0]..arms[1], ratio and radius r uniform over their
    ranges, the rotation uniform; each point is uniform by arc length, plus Gaussian noise of standard deviation
    jitter * r in either coordinate.

    n: sets, `test` of which are held out. size: points in each. seed: of the data alone; they depend neither on the
    run's seed nor on its device. points, sample_points, rotate: see SetDataset.

    Raises UserError (dataset.n, dataset.size, dataset.arms, dataset.ratio, dataset.radius, dataset.jitter, ...).
    Example: `Stars(n=64, test=16).test` is (16, 1024, 2). Proved by tests/test_stars.py.
    """

    def __init__(
        self,
        n: int = 1024,
        test: int = 128,
        size: int = 1024,
        arms: Sequence[int] = (4, 7),
        ratio: Sequence[float] = (0.35, 0.65),
        radius: Sequence[float] = (0.8, 1.2),
        jitter: float = 0.01,
        points: int | Sequence[int] | None = 512,
        sample_points: int | None = 512,
        rotate: bool = True,
        seed: int = 0,
    ) -> None:
        n, size = count("n", n), count("size", size)
        if n < 2:
            raise UserError("dataset.n", n, "must be at least 2: some sets are held out")
        self.family = StarFamily(
            _whole_range("arms", arms, 2), _range("ratio", ratio), _range("radius", radius)
        )
        jitter = number("jitter", jitter, minimum=0)
        g = generator(seed, Stream.STARS)
        super().__init__(draw_stars(self.family, n, size, jitter, g), test, points, sample_points, rotate)


def draw_stars(family: StarFamily, n: int, size: int, jitter: float, generator: torch.Generator) -> Tensor:
    """n stars of the family, `size` points each: (n, size, 2) float32, by the law that `Stars` tells."""

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


def _range(option: str, values: Any) -> tuple[float, float]:
    low, high = numbers(option, values, above=0, length=2)
    if low > high:
        raise UserError(f"dataset.{option}", values, "must be [lowest, highest]")
    return low, high


def _whole_range(option: str, values: Any, least: int) -> tuple[int, int]:
    low, high = _range(option, values)
    if low != int(low) or high != int(high) or low < least:
        raise UserError(f"dataset.{option}", values, f"must be whole numbers >= {least}")
    return int(low), int(high)
