"""Datasets whose law is known exactly: a density, and how many training points are drawn from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.points import Points
from diffusion_cli.errors import UserError
from diffusion_cli.noise import Stream, generator

FROZEN_SEED = 20200619  # of every frozen training set: it depends neither on the run's seed nor on its device
LARGEST = 10**8  # points of a frozen training set


class ExactDataset:
    """Training points of a known law: fresh ones in every batch, or rows of one frozen set.

    Args:
        density: the law of x0; gives shape and num_classes.
        n: None for fresh points in every batch; else the size, at least 1, of a training set that is drawn once (the
            same for the same n and law), from whose rows batches are drawn with replacement.

    Raises UserError (dataset.n) for any other n. Proved by tests/test_dataset_plane.py.
    Example: `ExactDataset(Ring(1.0), n=1000).draw(64, torch.Generator().manual_seed(0)).x0` is (64, 2).
    """

    def __init__(self, density: Density, n: int | None = None) -> None:
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= LARGEST):
            reason = f"must be null (fresh points in every batch) or an integer in 1..{LARGEST}"
            raise UserError("dataset.n", n, reason)
        self.density = density
        self.shape = density.shape
        self.num_classes = density.num_classes
        self._frozen = None if n is None else density.sample(n, generator(FROZEN_SEED, Stream.FROZEN))

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """Draw a batch of n points, with labels if there are any, on `generator.device`."""
        if self._frozen is None:
            return self.density.sample(n, generator)
        x0, label = self._frozen
        if x0.device != generator.device:
            x0, label = x0.to(generator.device), None if label is None else label.to(generator.device)
            self._frozen = Batch(x0, label)
        row = torch.randint(len(x0), (n,), generator=generator, device=generator.device)
        return Batch(x0.index_select(0, row), None if label is None else label.index_select(0, row))


class Gaussian1D(ExactDataset):
    """One Gaussian on the line, x0 (n, 1) ~ N(mean, variance); variance > 0, else UserError."""

    def __init__(self, mean: float = 1.0, variance: float = 0.25, n: int | None = None) -> None:
        mean, variance = number("mean", mean), number("variance", variance, above=0)
        super().__init__(Points([[mean]], jitter=math.sqrt(variance)), n)


class TwoPoint(ExactDataset):
    """Atoms on the line, x0 (n, 1): `positions`, with probabilities proportional to `weights`.

    labels: whether the index of the atom is the label. UserError for weights that do not match or are not positive.
    """

    def __init__(
        self,
        positions: Sequence[float] = (-0.5, 0.5),
        weights: Sequence[float] = (0.5, 0.5),
        labels: bool = False,
        n: int | None = None,
    ) -> None:
        positions = numbers("positions", positions)
        weights = numbers("weights", weights, above=0, length=len(positions))
        super().__init__(Points([[position] for position in positions], weights, labelled=labels), n)


class GaussianMixture(ExactDataset):
    """Mixture of K equal round Gaussians, x0 (n, D): by default the world of two-pixel images.

    Args:
        means: K lists of D numbers.
        sigma: standard deviation of every component, > 0.
        weights: K positive numbers, proportional to the probabilities.
        labels: whether the index of the component is the label (num_classes = K); else there are no labels.
        n: size of a frozen training set, or None.

    Raises UserError (dataset.means, dataset.sigma, dataset.weights, dataset.n) otherwise.
    """

    def __init__(
        self,
        means: Sequence[Sequence[float]] = ((-0.35, 0.65), (0.75, -0.45)),
        sigma: float = 0.1,
        weights: Sequence[float] = (0.35, 0.65),
        labels: bool = True,
        n: int | None = None,
    ) -> None:
        if not _is_list(means) or not all(_is_list(mean) and len(mean) == len(means[0]) for mean in means):
            raise UserError("dataset.means", means, "must be lists of numbers, all of the same length")
        means = [numbers("means", mean) for mean in means]
        weights = numbers("weights", weights, above=0, length=len(means))
        jitter = number("sigma", sigma, above=0)
        super().__init__(Points(means, weights, labelled=labels, jitter=jitter), n)


def number(option: str, value: Any, *, above: float = -math.inf, minimum: float = -math.inf) -> float:
    """The value of `dataset.<option>` as a float, or UserError unless it is finite, > above and >= minimum."""
    real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not real or value <= above or value < minimum:
        bound = f" > {above:g}" if above > -math.inf else f" >= {minimum:g}" if minimum > -math.inf else ""
        raise UserError(f"dataset.{option}", value, f"must be a finite number{bound}")
    return float(value)


def numbers(option: str, values: Any, *, above: float = -math.inf, length: int | None = None) -> list[float]:
    """The list `dataset.<option>` as floats, or UserError unless its entries are numbers > above, `length` of them."""
    if not _is_list(values) or length not in (None, len(values)):
        raise UserError(f"dataset.{option}", values, f"must be a list of {length or 'at least 1'} numbers")
    return [number(option, value, above=above) for value in values]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
