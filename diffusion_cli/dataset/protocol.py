"""What every dataset is: its kind, batches of clean points, what is held out, and the exact density where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Literal, Protocol

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.held_out import Fresh
from diffusion_cli.dataset.units import Units
from diffusion_cli.noise import Stream, generator

# As a label: none at all, the number num_classes.
NO_LABEL = "none"
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
    count: training examples; None for fresh ones without end.
    density: the exact density of x0, or None where there is none in closed form.
    fingerprint: a digest of the data, where they are read from files that may change between two runs.
    units: those of the file, for what leaves the run. Batches and density are in the units of the run, of which the usual spread
        is 1.
    standardize: whether points without a density are centred and scaled by the run (dataset.standardized); a class of your own
        that takes it as an argument has the key dataset.standardize.
    label_counts: (num_classes,) how often each class occurs, where it is known; labels are then drawn from it alone.
    about: what was read, for people: fields of the block that a run shows and keeps in summary.json.
    """

    kind: Kind
    shape: tuple[int, ...]
    num_classes: int = 0
    count: int | None = None
    density: Density | None = None
    fingerprint: str | None = None
    units: Units = Units()
    standardize: bool = True
    label_counts: Tensor | None = None
    about: Mapping[str, object] = MappingProxyType({})

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class: its number where the data have none."""
        return tuple(map(str, range(self.num_classes)))

    @cached_property
    def held_out(self) -> HeldOut:
        """What no training step sees: fresh draws where nothing is kept back."""
        return Fresh(self.draw)

    @property
    def truth(self) -> Density | None:
        """The density that samples are compared with: of held-out points, where there are some; else `density`."""
        return self.density

    def examples(self) -> Iterator[Tensor] | None:
        """All that training draws from, some at a time, (m, *shape) float32 on the CPU; None for fresh draws without end."""
        return None

    @property
    def empirical(self) -> Density | None:
        """The density of the training examples, points of equal weight, where there are finitely many and they are few."""
        return None

    def draw_labels(self, n: int, generator: torch.Generator) -> Tensor | None:
        """n labels as in the data, on `generator.device`; None for data without labels."""
        if self.label_counts is None:
            return self.draw(n, generator).label
        weights = self.label_counts.float().to(generator.device)
        return torch.multinomial(weights, n, replacement=True, generator=generator)

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
