"""A dataset of anybody's own in standard units: centred and scaled to a spread of 1 inside the run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.protocol import BOX_POINTS, Dataset, HeldOut
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator

# Sets by which centre and scale are measured, at least.
SETS = 256


def in_standard_units(dataset: Dataset) -> Dataset:
    """The dataset, or where it leaves its units to the run (`standardize`) what it draws in units of which the spread is 1.

    Raises ArgumentError for draws without spread, and for those that are not finite.
    """
    if not dataset.standardize or dataset.kind == "images" or dataset.density is not None:
        return dataset
    return Standardized(dataset)


class Standardized(Dataset):
    """What another dataset draws, in standard units; all else is as there."""

    standardize = False

    def __init__(self, dataset: Dataset) -> None:
        n = max(SETS, BOX_POINTS // dataset.shape[0]) if dataset.kind == "sets" else BOX_POINTS
        x0 = dataset.draw(n, generator(0, Stream.FROZEN)).x0
        points = x0.flatten(0, -2).cpu()
        if not points.isfinite().all():
            raise ArgumentError("", ..., "draws values that are not finite")
        try:
            self.units = Units.of(points)
        except ValueError as error:
            raise ArgumentError("", ..., str(error)) from error
        self._dataset = dataset
        self.kind, self.shape, self.num_classes = dataset.kind, dataset.shape, dataset.num_classes
        self.class_names, self.label_counts = dataset.class_names, dataset.label_counts
        self.fingerprint, self.about, self.count = dataset.fingerprint, dataset.about, dataset.count

    @cached_property
    def held_out(self) -> HeldOut:
        return _Inward(self._dataset.held_out, self._inward)

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        return self._inward(self._dataset.draw(n, generator))

    def _inward(self, batch: Batch) -> Batch:
        x0, label, source = batch
        inward = self.units.inward
        return Batch(inward(x0).float(), label, None if source is None else inward(source).float())


class _Inward:
    """Held-out data, each batch in the units of the run."""

    def __init__(self, held_out: HeldOut, inward: Callable[[Batch], Batch]) -> None:
        self._held_out, self._inward, self.count = held_out, inward, held_out.count

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        return self._inward(self._held_out.draw(n, generator))

    def distinct(self, n: int, seed: int) -> Batch:
        return self._inward(self._held_out.distinct(n, seed))
