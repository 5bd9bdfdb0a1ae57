"""What every dataset is: its kind, batches of clean points, what is held out, and the exact density where there is one."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Protocol

import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.held_out import Fresh
from diffusion_cli.noise import Stream, generator

Kind = Literal["line", "plane", "space", "sets", "images"]


# Points from whose range that of data without a density follows.
BOX_POINTS = 8192


class HeldOut(Protocol):
    """Data that no training step sees.

    count: how many there are; None for fresh draws without end.
    """

    @property
    def count(self) -> int | None: ...

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """n of them, with replacement, on `generator.device`."""
        ...

    def distinct(self, n: int, seed: int) -> Batch:
        """n different ones, on the CPU; of fresh draws number i depends on (seed, i) alone.

        Raises ArgumentError (n) for more than there are.
        """
        ...


class Dataset(Protocol):
    """A source of training batches. A class of your own inherits from it and gives kind, shape and draw; the rest has
    defaults.

    kind: line, plane or space (points of one, two, or more coordinates), sets (of points), or images.
    shape: of one x0, without the batch dimension: (1,), (2,), (D,), (P, 2) or (C, H, W).
    num_classes: 0 for data without labels, else labels are 0..num_classes-1.
    density: the exact density of x0, or None where there is none in closed form.
    fingerprint: a digest of the data, where they are read from files that may change between two runs.
    """

    kind: Kind
    shape: tuple[int, ...]
    num_classes: int = 0
    density: Density | None = None
    fingerprint: str | None = None

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class: its number where the data have none."""
        return tuple(map(str, range(self.num_classes)))

    @cached_property
    def held_out(self) -> HeldOut:
        """What no training step sees: fresh draws where nothing is kept back."""
        return Fresh(self.draw)

    @cached_property
    def box(self) -> Box:
        """The range of each coordinate: [-1, 1] for images, that of the density, or else that of 8,192 draws (64 sets)."""
        if self.kind == "images":
            return Box.around(1.0)
        if self.density is not None:
            return self.density.box()
        return Box.of(self.draw(64 if self.kind == "sets" else BOX_POINTS, generator(0, Stream.FROZEN)).x0)

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """A batch of n points for training, on `generator.device`."""
        ...
