"""The classic toys of the plane, as torchcfm, FFJORD and scikit-learn define them, each with its exact density.

Data are in the units of these definitions; inside a run they are standardised, so that one network suits all.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from diffusion_cli.dataset.boxes import Boxes
from diffusion_cli.dataset.exact import ExactDataset
from diffusion_cli.dataset.gaussians import Gaussians
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.product import Product
from diffusion_cli.dataset.segments import Segments
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import Few, NonNegative, Positive, Rows, checked

# Vertices of a curve: a chord of two moons leaves its circle by 5e-6, one of the Swiss roll by 6e-4 of its radius of 14.
VERTICES = 513
# Points of a density from which centre and scale are found.
MOMENTS = 2**14
SMALLEST = 1e-15
# Gaussians of an arm of the pinwheel, and how far they reach along it, in standard deviations.
LINKS, REACH = 33, 4.0


class Toy(ExactDataset):
    """Draws of a density whose units are those of a definition; see `ExactDataset`."""

    def __init__(self, density: Points | Segments | Boxes | Gaussians | Product, n: Rows | None) -> None:
        points = density.reference(MOMENTS)
        if not SMALLEST < float(points.abs().max()) < 1 / SMALLEST:
            raise ArgumentError("", ..., "its points are too far from each other, or too close, for float32")
        found = Units.of(points)
        digits = 1 - math.floor(math.log10(found.scale))
        self.units = Units(tuple(round(x, digits) + 0.0 for x in found.centre), round(found.scale, digits))
        super().__init__(density.in_units(self.units), n)


def curve(x: Tensor, y: Tensor) -> Tensor:
    """(V, 2) float64."""
    return torch.stack((x, y), 1)


def span(start: float, end: float) -> Tensor:
    """Parameters of the vertices of a curve, evenly spaced."""
    return torch.linspace(start, end, VERTICES, dtype=torch.float64)


def even(strokes: list[Tensor]) -> list[Tensor]:
    """Weights of a curve on which the parameter is uniform, and not the arc length."""
    return [torch.ones(len(stroke) - 1, dtype=torch.float64) for stroke in strokes]


@checked
class Moons(Toy):
    """Two interleaving half circles of radius 1 (sklearn.datasets.make_moons); x0 is (n, 2).

    jitter: standard deviation of Gaussian noise on the points.
    labels: true: the number of the moon is the label; false: no labels.
    """

    def __init__(self, jitter: NonNegative = 0.05, labels: bool = True, n: Rows | None = None) -> None:
        t = span(0, math.pi)
        moons = [curve(t.cos(), t.sin()), curve(1 - t.cos(), 0.5 - t.sin())]
        super().__init__(Segments(moons, label=torch.arange(2) if labels else None, jitter=jitter), n)


@checked
class SwissRoll(Toy):
    """A spiral band of one and a half turns (sklearn.datasets.make_swiss_roll); x0 is (n, dims).

    jitter: standard deviation of Gaussian noise on the points, whose coordinates lie in [-10, 15].
    dims: 2: the spiral, as in papers on generative models; 3: the band, of which the second coordinate is uniform on [0, 21].
    """

    def __init__(self, jitter: NonNegative = 0.25, dims: Literal[2, 3] = 2, n: Rows | None = None) -> None:
        t = span(1.5 * math.pi, 4.5 * math.pi)
        super().__init__(_surface(curve(t * t.cos(), t * t.sin()), 21.0, dims, jitter), n)


@checked
class SCurve(Toy):
    """A band bent like an S (sklearn.datasets.make_s_curve); x0 is (n, dims).

    jitter: standard deviation of Gaussian noise on the points.
    dims: 2: the curve; 3: the band, of which the second coordinate is uniform on [0, 2].
    """

    def __init__(self, jitter: NonNegative = 0.05, dims: Literal[2, 3] = 2, n: Rows | None = None) -> None:
        t = span(-1.5 * math.pi, 1.5 * math.pi)
        super().__init__(_surface(curve(t.sin(), t.sign() * (t.cos() - 1)), 2.0, dims, jitter), n)


def _surface(stroke: Tensor, depth: float, dims: int, jitter: float) -> Segments | Product:
    """A curve, or the surface over it with the second coordinate uniform on [0, depth]."""
    if dims == 2:
        return Segments([stroke], weights=even([stroke]), jitter=jitter)
    factors = (Segments([stroke], weights=even([stroke])), Boxes([[0.0]], [[depth]]))
    return Product(factors, ((0, 2), (1,)), jitter=jitter)


@checked
class Spirals(Toy):
    """Two spirals, one half a turn behind the other (FFJORD's 2spirals); x0 is (n, 2).

    jitter: standard deviation of Gaussian noise on the points, which reach out to 3.1 turns / 1.5.
    turns: of each spiral.
    labels: true: the number of the spiral is the label; false: no labels.
    """

    def __init__(
        self, jitter: NonNegative = 0.1, turns: Positive = 1.5, labels: bool = True, n: Rows | None = None
    ) -> None:
        # The root makes steps of equal length of equal probability, but near the middle.
        angle = 2 * math.pi * turns * span(0, 1).sqrt()
        arm = angle[:, None] / 3 * curve(-angle.cos(), angle.sin())
        strokes, label = [arm, -arm], torch.arange(2) if labels else None
        super().__init__(Segments(strokes, weights=even(strokes), label=label, jitter=jitter), n)


@checked
class GaussianRing(Toy):
    """Round Gaussians on a circle, by default the 8 of torchcfm; x0 is (n, 2).

    count: of Gaussians.
    radius: of the circle of their means.
    sigma: standard deviation of each; by default that of a variance of 0.1.
    labels: true: the number of the Gaussian is the label, anticlockwise; false: no labels.
    """

    def __init__(
        self,
        count: Few = 8,
        radius: Positive = 5.0,
        sigma: Positive = 0.3162,
        labels: bool = True,
        n: Rows | None = None,
    ) -> None:
        angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
        super().__init__(Points(radius * curve(angle.cos(), angle.sin()), labelled=labels, jitter=sigma), n)


@checked
class GaussianGrid(Toy):
    """Round Gaussians on a square grid, by default the 25 on {-4, -2, 0, 2, 4}^2 by which mode collapse is shown; x0 is (n, 2).

    side: Gaussians along a side of the grid.
    spacing: distance of neighbouring means.
    sigma: standard deviation of each.
    labels: true: the number of the Gaussian is the label, row by row from the bottom left; false: no labels.
    """

    def __init__(
        self,
        side: Few = 5,
        spacing: Positive = 2.0,
        sigma: Positive = 0.05,
        labels: bool = True,
        n: Rows | None = None,
    ) -> None:
        place = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
        means = torch.cartesian_prod(place, place).flip(1)
        super().__init__(Points(means, labelled=labels, jitter=sigma), n)


@checked
class Checkerboard(Toy):
    """Every other square of a board, uniform, by default FFJORD's: 8 squares of [-4, 4]^2; x0 is (n, 2).

    squares: along a side of the board.
    side: length of the side of a square.
    labels: true: the number of the square is the label; false: no labels.
    """

    def __init__(
        self, squares: Few = 4, side: Positive = 2.0, labels: bool = False, n: Rows | None = None
    ) -> None:
        cells = torch.cartesian_prod(torch.arange(squares), torch.arange(squares))
        cells = cells[cells.sum(1) % 2 == 0]
        low = side * (cells.double() - squares / 2)
        super().__init__(Boxes(low, low + side, label=torch.arange(len(cells)) if labels else None), n)


@checked
class Pinwheel(Toy):
    """Bent arms around the middle, FFJORD's pinwheel; x0 is (n, 2).

    A point at distance 1 + radial r and tangential offset tangential q, r and q normal, is turned by its arm's angle and by
    rate exp(1 + radial r), and doubled. That has no density in closed form; here each arm is a chain of Gaussians along it,
    which follow the bend, and their mixture is exactly known.

    arms: their number.
    radial: standard deviation along an arm, before doubling.
    tangential: standard deviation across an arm, before doubling.
    rate: how far arms are bent.
    labels: true: the number of the arm is the label; false: no labels.
    """

    def __init__(
        self,
        arms: Few = 5,
        radial: Positive = 0.3,
        tangential: Positive = 0.1,
        rate: Positive = 0.25,
        labels: bool = True,
        n: Rows | None = None,
    ) -> None:
        # Nodes at LINKS quantiles of r; a Gaussian at each has the variance that these leave, and meets its neighbours.
        z = torch.linspace(-REACH, REACH, LINKS, dtype=torch.float64)
        gap = float(z[1] - z[0])
        weight = (-z.square() / (2 * (1 - gap**2))).exp()
        r = 1 + radial * z
        angle = (2 * math.pi / arms * torch.arange(arms, dtype=torch.float64))[:, None] + rate * r.exp()
        outward = torch.stack((angle.cos(), -angle.sin()), -1)
        across = torch.stack((angle.sin(), angle.cos()), -1)
        # d/dr of 2 r outward(angle(r)): outward, and turned with the angle.
        along = outward - (r * rate * r.exp())[:, None] * across
        steps = 2 * torch.stack((radial * gap * along, tangential * across), -1).flatten(0, 1)
        means = (2 * r[:, None] * outward).flatten(0, 1)
        label = torch.arange(arms).repeat_interleave(LINKS) if labels else None
        super().__init__(Gaussians(means, steps @ steps.mT, weight.repeat(arms), label=label), n)
