"""Shapes in the plane, uniform by arc length: circle, square, dinosaur's head; and a user's own points."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.density import Ring
from diffusion_cli.dataset.exact import ExactDataset, number
from diffusion_cli.dataset.point_file import content_digest, read_points
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.segments import Segments


class Circle(ExactDataset):
    """The circle of a given radius about the origin; x0 is (n, 2).

    Args of all shapes here:
        n: None for fresh points in every batch, or the size of a frozen training set (see ExactDataset).
        jitter: standard deviation of Gaussian noise added to every point, >= 0.
        radius, side: size, > 0.

    Raises UserError (dataset.n, dataset.jitter, dataset.radius, dataset.side) otherwise.
    Example: `Circle(jitter=0.01).draw(256, torch.Generator().manual_seed(0)).x0`.
    """

    def __init__(self, radius: float = 1.0, n: int | None = None, jitter: float = 0.0) -> None:
        radius, jitter = number("radius", radius, above=0), number("jitter", jitter, minimum=0)
        super().__init__(Ring(radius, jitter=jitter), n)


class Square(ExactDataset):
    """The perimeter of a square about the origin, corners included: that of [-1, 1]^2 for the default side of 2."""

    def __init__(self, side: float = 2.0, n: int | None = None, jitter: float = 0.0) -> None:
        side, jitter = number("side", side, above=0), number("jitter", jitter, minimum=0)
        corners = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]], dtype=torch.float64)
        super().__init__(Segments([corners * side / 2], jitter=jitter), n)


class Dinohead(ExactDataset):
    """The outline of a dinosaur's head within [-1, 1]^2: skull, jaw with teeth, eye socket, nostril."""

    def __init__(self, n: int | None = None, jitter: float = 0.0) -> None:
        super().__init__(Segments(dinohead_strokes(), jitter=number("jitter", jitter, minimum=0)), n)


class PointCloud(ExactDataset):
    """A user's own points in the plane, each as likely as any other, in the units of the file.

    path: a CSV file (with or without a header), a .npy file or an .npz file with one array, of (N, 2) points.
    Raises UserError (dataset.path) for anything else: see `diffusion_cli.dataset.point_file`.
    """

    def __init__(self, path: str, n: int | None = None, jitter: float = 0.0) -> None:
        points = read_points(path)
        self.fingerprint = content_digest(points)
        super().__init__(Points(points, jitter=number("jitter", jitter, minimum=0)), n)


def dinohead_strokes() -> list[Tensor]:
    """The strokes (V, 2) of the drawing in dinohead.csv (stroke, x, y); closed ones end as they began."""
    with files(__package__).joinpath("dinohead.csv").open(encoding="ascii") as file:
        stroke, *xy = np.loadtxt(file, delimiter=",", skiprows=1, unpack=True)
    vertices = torch.from_numpy(np.stack(xy, 1))
    return [vertices[torch.from_numpy(stroke == index)] for index in np.unique(stroke)]
