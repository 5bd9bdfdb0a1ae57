"""Shapes in the plane, uniform by arc length: circle, square, dinosaur's head."""

from __future__ import annotations

import math
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.exact import ExactDataset
from diffusion_cli.dataset.segments import Segments
from diffusion_cli.ranges import NonNegative, Positive, Rows, checked


@checked
class Ring(Density):
    """Centre uniform on the circle of a given radius about the origin of the plane.

    With rho = |x| and kappa = alpha radius rho / s^2, the angle of c given x_t is von Mises with mean resultant
    length I1(kappa) / I0(kappa) (Mardia and Jupp 2000, Directional Statistics, section 3.5.4), and

        log Z = log I0(kappa) - (rho^2 + alpha^2 radius^2) / (2 s^2),    E[c | x_t] = radius I1/I0(kappa) x / rho,

    here in exponentially scaled Bessel functions, which serve for every kappa.

    radius: of the circle.
    jitter: standard deviation of the Gaussian around the circle.

    Example: `Ring(1.0).score(torch.zeros(1, 2), alpha=0.6, sigma=0.8)` is 0, by symmetry.
    """

    def __init__(self, radius: Positive = 1.0, *, jitter: NonNegative = 0.0) -> None:
        super().__init__((2,), jitter=jitter)
        self.radius = float(radius)

    def _evidence(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        rho = x.norm(dim=1, keepdim=True)
        kappa = rho / s * (alpha * self.radius / s)
        i0e, i1e = torch.special.i0e(kappa), torch.special.i1e(kappa)
        log_evidence = i0e.log() - ((rho - alpha * self.radius) / s).square() / 2
        towards = x / rho.clamp_min(torch.finfo(x.dtype).tiny)
        return log_evidence[:, 0], self.radius * i1e / i0e * towards

    def _centres(self, quantile: Tensor, inner: Tensor) -> tuple[Tensor, None]:
        angle = 2 * math.pi * quantile
        return self.radius * torch.stack((angle.cos(), angle.sin()), 1), None

    def outline(self) -> list[Tensor]:
        angle = torch.linspace(0, 2 * math.pi, 257)
        return [self.radius * torch.stack((angle.cos(), angle.sin()), 1)]

    def _distance(self, x: Tensor) -> Tensor:
        return (x.norm(dim=1) - self.radius).abs()


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
