"""Shapes in the plane, uniform by arc length: circle, square, dinosaur's head."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.density import Ring
from diffusion_cli.dataset.exact import ExactDataset
from diffusion_cli.dataset.segments import Segments
from diffusion_cli.ranges import NonNegative, Positive, Rows, checked


@checked
class Circle(ExactDataset):
    """A circle about the origin; x0 is (n, 2).

    radius: distance of the points from the origin.
    jitter: standard deviation of Gaussian noise on the points.

    Example: `Circle(jitter=0.01).draw(256, torch.Generator().manual_seed(0)).x0`.
    """

    def __init__(self, radius: Positive = 1.0, n: Rows | None = None, jitter: NonNegative = 0.0) -> None:
        super().__init__(Ring(radius, jitter=jitter), n)


@checked
class Square(ExactDataset):
    """The perimeter of a square about the origin, corners included; x0 is (n, 2).

    side: length of a side; 2 makes it the perimeter of [-1, 1]^2.
    jitter: standard deviation of Gaussian noise on the points.
    """

    def __init__(self, side: Positive = 2.0, n: Rows | None = None, jitter: NonNegative = 0.0) -> None:
        corners = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]], dtype=torch.float64)
        super().__init__(Segments([corners * float(side) / 2], jitter=jitter), n)


@checked
class Dinohead(ExactDataset):
    """The outline of a dinosaur's head within [-1, 1]^2: skull, jaw with teeth, eye socket, nostril; x0 is (n, 2).

    jitter: standard deviation of Gaussian noise on the points.
    """

    def __init__(self, n: Rows | None = None, jitter: NonNegative = 0.0) -> None:
        super().__init__(Segments(dinohead_strokes(), jitter=jitter), n)


def dinohead_strokes() -> list[Tensor]:
    """The strokes (V, 2) of the drawing in dinohead.csv (stroke, x, y); closed ones end as they began."""
    with files(__package__).joinpath("dinohead.csv").open(encoding="ascii") as file:
        stroke, *xy = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    vertices = torch.from_numpy(np.stack(xy, 1))
    return [vertices[torch.from_numpy(stroke == index)] for index in np.unique(stroke)]
