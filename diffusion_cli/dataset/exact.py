"""Datasets with an exact density, and how many training points are drawn from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.held_out import Fresh
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.protocol import Dataset, HeldOut, Kind
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Finite, Positive, Rows, checked

# Of every frozen training set, which depends neither on the run's seed nor on its device.
FROZEN_SEED = 20200619


@checked
class ExactDataset(Dataset):
    """Training points of a density: fresh ones in every batch, or rows of one frozen set.

    density: of x0; gives shape, kind and num_classes.
    n: points of a frozen training set, drawn once and always the same for this n and density; null: fresh points in
        every batch. Batches are rows of it, with replacement.

    Proved by tests/test_dataset_plane.py.
    Example: `ExactDataset(Ring(1.0), n=1000).draw(64, torch.Generator().manual_seed(0)).x0` is (64, 2).
    """

    density: Density

    def __init__(self, density: Density, n: Rows | None = None) -> None:
        self.density = density
        self.kind = _kind_of(density.shape)
        self.shape = density.shape
        self.num_classes = density.num_classes
        self.count = n
        self._frozen = None if n is None else density.sample(n, generator(FROZEN_SEED, Stream.FROZEN))

    @cached_property
    def held_out(self) -> HeldOut:
        return Fresh(self.density.sample)

    def examples(self) -> Iterator[Tensor] | None:
        return None if self._frozen is None else iter([self._frozen.x0.cpu()])

    @cached_property
    def empirical(self) -> Points | None:
        if self._frozen is None:
            return None
        label = self._frozen.label
        # without labels of which there is no example, which have no density
        whole = label is None or len(label.unique()) == self.num_classes
        return Points(self._frozen.x0.cpu(), label=label.cpu() if label is not None and whole else None)

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        if self._frozen is None:
            return self.density.sample(n, generator)
        self._frozen = self._frozen.to(generator.device)
        rows = torch.randint(len(self._frozen.x0), (n,), generator=generator, device=generator.device)
        return self._frozen.rows(rows)


def _kind_of(shape: tuple[int, ...]) -> Kind:
    if len(shape) > 1:
        return "sets" if len(shape) == 2 else "images"
    return "line" if shape == (1,) else "plane" if shape == (2,) else "space"


@checked
class Gaussian1D(ExactDataset):
    """One Gaussian on the line; x0 is (n, 1).

    mean: of the Gaussian, its centre.
    variance: of the Gaussian, the square of its standard deviation.
    """

    def __init__(self, mean: Finite = 1.0, variance: Positive = 0.25, n: Rows | None = None) -> None:
        super().__init__(Points([[float(mean)]], jitter=math.sqrt(variance)), n)


@checked
class TwoPoint(ExactDataset):
    """Atoms on the line, two by default; x0 is (n, 1).

    positions: places of the atoms on the line, one or more.
    weights: one number for each atom, proportional to its probability.
    labels: true: the number of the atom is the label; false: no labels.
    """

    def __init__(
        self,
        positions: Sequence[Finite] = (-0.5, 0.5),
        weights: Sequence[Positive] = (0.5, 0.5),
        labels: bool = False,
        n: Rows | None = None,
    ) -> None:
        _check_weights(weights, len(positions))
        points = [[float(position)] for position in positions]
        super().__init__(Points(points, [*map(float, weights)], labelled=labels), n)


@checked
class GaussianMixture(ExactDataset):
    """Mixture of K equal round Gaussians, by default the distribution of two-pixel images; x0 is (n, D).

    means: centres of the components, K lists of D numbers. D gives the kind of data: line, plane, or space for D > 2.
    sigma: standard deviation of every component, the same in all directions.
    weights: one number for each component, proportional to its probability.
    labels: true: the number of the component is the label; false: no labels.
    """

    def __init__(
        self,
        means: Sequence[Sequence[Finite]] = ((-0.35, 0.65), (0.75, -0.45)),
        sigma: Positive = 0.1,
        weights: Sequence[Positive] = (0.35, 0.65),
        labels: bool = True,
        n: Rows | None = None,
    ) -> None:
        if len({len(mean) for mean in means}) > 1:
            raise ArgumentError("means", means, "must be lists of the same length")
        _check_weights(weights, len(means))
        points = [[*map(float, mean)] for mean in means]
        super().__init__(Points(points, [*map(float, weights)], labelled=labels, jitter=sigma), n)


def _check_weights(weights: Sequence[float], count: int) -> None:
    if len(weights) != count:
        raise ArgumentError("weights", weights, f"must be a list of {count}, one number for each point")
