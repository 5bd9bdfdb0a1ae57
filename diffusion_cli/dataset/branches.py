"""Two trees of anisotropic Gaussians, back to back: the toy on which autoguidance was shown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_cli.dataset.gaussians import Gaussians
from diffusion_cli.dataset.toys import Toy
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import Depth, Many, Rows, Whole, checked

MOST_GAUSSIANS = 2**16
ROOT, STRETCH = (0.0030, 0.0325), (1.3136, 1.3844)
# Of a branch: its length and the angle to its parent at depth 0, by what they shrink with depth, and how far they scatter.
LENGTH, SHORTER, ANGLE_LESS, SCATTER = 0.292, 0.8, 0.7, 0.2
# Fractions of a branch at which its first and its last Gaussian stand; standard deviation of one along the branch, as a
# fraction of that, and across it, of one at depth 0.
ENDS, ALONG, ACROSS = (0.07, 0.93), 0.06, 0.012


class Branch(NamedTuple):
    """Where a branch begins (2,), its angle, length and depth."""

    start: NDArray[np.float64]
    angle: float
    length: float
    depth: int


def branches(angle: float, deepest: int, random: np.random.RandomState) -> Iterator[Branch]:
    """A binary tree of branches from ROOT, each before its two children."""

    def grow(start: NDArray[np.float64], angle: float, depth: int) -> Iterator[Branch]:
        if depth == deepest:
            return
        length = LENGTH * SHORTER**depth * (1 + SCATTER * random.randn())
        yield Branch(start, angle, length, depth)
        end = start + length * np.array([math.cos(angle), math.sin(angle)])
        for side in (1, -1):
            turn = side * ANGLE_LESS**depth * (1 + SCATTER * random.randn())
            yield from grow(end, angle + turn, depth + 1)

    return grow(np.array(ROOT), angle, 0)


@checked
class GaussianTree(Toy):
    """Two trees of long, thin Gaussians, the toy of autoguidance (Karras et al. 2024, section 3); x0 is (n, 2).

    Each branch is a chain of Gaussians along it and ends in two shorter, thinner and less probable ones. With the defaults it
    is the paper's density of both classes, with a standard deviation of 1/2.

    depth: branches from the root to a tip.
    links: Gaussians of a branch.
    seed: of lengths and angles, which do not depend on the run's seed.
    labels: true: the number of the tree is the label; false: no labels.
    """

    def __init__(
        self, depth: Depth = 7, links: Many = 8, seed: Whole = 2, labels: bool = True, n: Rows | None = None
    ) -> None:
        if 2 * links * 2**depth > MOST_GAUSSIANS:
            raise ArgumentError("depth", depth, f"makes more than {MOST_GAUSSIANS:,} Gaussians")
        random = np.random.RandomState(seed % 2**32)
        means, covariances, weights, label = [], [], [], []
        for tree, angle in enumerate((0.25 * math.pi, 1.25 * math.pi)):
            for branch in branches(angle, depth, random):
                along = np.array([math.cos(branch.angle), math.sin(branch.angle)])
                across = np.array([-along[1], along[0]])
                sizes = ALONG * branch.length, ACROSS * SHORTER**branch.depth
                covariance = sum(
                    np.outer(axis, axis) * size**2 for axis, size in zip((along, across), sizes, strict=True)
                )
                for place in np.linspace(*ENDS, links):
                    means.append((branch.start + place * branch.length * along) * STRETCH)
                    covariances.append(covariance * np.outer(STRETCH, STRETCH))
                    weights.append(branch.length * 0.5**branch.depth)
                    label.append(tree)
        density = Gaussians(
            torch.from_numpy(np.stack(means)),
            torch.from_numpy(np.stack(covariances)),
            torch.tensor(weights, dtype=torch.float64),
            label=torch.tensor(label) if labels else None,
        )
        super().__init__(density, n)
