"""What a training learns from: batches of noised data, of which every number is a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.dataset.targets import averaged, coupled, exact, stable
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator
from diffusion_cli.objective import Loss, TrainingBatch
from diffusion_cli.schedule import Schedule


class BatchSource(Protocol):
    """(step, shard) -> a part of a batch, of which every number is a function of (seed, step, shard).

    size: points in a batch, all shards together.
    shards: parts of a batch, as equal as can be.
    handed: tensors of it that process 0 has made, and hands to the others.
    """

    @property
    def schedule(self) -> Schedule: ...

    @property
    def objective(self) -> Loss: ...

    @property
    def seed(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def shards(self) -> int: ...

    @property
    def handed(self) -> Sequence[Tensor]: ...

    def __call__(self, step: int, shard: int = 0) -> TrainingBatch: ...


def rows_of_shard(batches: BatchSource, shard: int) -> range:
    """Which points of a batch are those of a shard."""
    size, shards = batches.size, batches.shards
    return range(shard * size // shards, (shard + 1) * size // shards)


def position_of(batches: BatchSource, step: int, shard: int) -> tuple[int, ...]:
    """Of the random numbers of a shard in their stream."""
    return (step,) if batches.shards == 1 else (step, shard)


@dataclass(frozen=True)
class Batches:
    """Batches of the data, noised; of shards, each of which is a function of (seed, step, shard).

    dataset: where the clean points come from.
    schedule: the noise levels.
    objective: how times are drawn, and of what x0 and eps are means (`Objective.targets`).
    size: points in a batch, all shards together.
    seed: of all batches.
    label_dropout: fraction of the labels replaced by "no label" (Ho & Salimans 2021, algorithm 1).
    device: on which all is drawn.
    stream: the use of the seed.
    held_out: draw what no training step sees.
    shards: parts of a batch, as equal as can be; the times of all of them are stratified together.
    """

    dataset: Dataset
    schedule: Schedule
    objective: Loss
    size: int
    seed: int
    label_dropout: float = 0.0
    device: torch.device | str = "cpu"
    stream: Stream = Stream.TRAINING
    held_out: bool = False
    shards: int = 1
    handed: ClassVar[Sequence[Tensor]] = ()

    def __call__(self, step: int, shard: int = 0) -> TrainingBatch:
        rows, position = rows_of_shard(self, shard), position_of(self, step, shard)
        g, n = generator(self.seed, self.stream, *position, device=self.device), len(rows)
        x0, label, source = self.draw(n, g)
        t = self.objective.draw_times(self.schedule, n, g, rows.start, self.size)
        eps = torch.randn(x0.shape, generator=g, device=x0.device)
        if self.objective.coupling == "optimal":
            eps = coupled(x0, eps, label)
        if label is not None and self.label_dropout:
            dropped = torch.rand(n, generator=g, device=x0.device) < self.label_dropout
            label = label.masked_fill(dropped, self.dataset.num_classes)
        batch = TrainingBatch(x0, t, eps, label)
        return batch if self.objective.targets == "sample" else self._means(batch, source, position)

    @property
    def draw(self) -> Callable[[int, torch.Generator], Batch]:
        """Where points come from: draw(n, generator)."""
        return self.dataset.held_out.draw if self.held_out else self.dataset.draw

    def _means(self, batch: TrainingBatch, source: Tensor | None, position: tuple[int, ...]) -> TrainingBatch:
        """The batch with x0 and eps as their means given x_t and the label; x_t stays what it was."""
        x0, t, eps, label, _ = batch
        level = self.schedule.level(t, like=x0)
        if self.objective.targets == "exact":
            if self.dataset.density is None:
                raise ArgumentError("targets", "exact", "needs data whose density is known")
            x0, eps = exact(x0, eps, self.dataset.density, level, label)
        elif source is not None:
            x0, eps = averaged(x0, eps, source, level.alpha, level.sigma)
        else:
            g = generator(self.seed, Stream.TARGETS, self.stream, *position, device=self.device)
            more = self.draw(self.objective.references, g)
            x0, eps = stable(x0, eps, more, level, label, self.dataset.num_classes)
        return batch._replace(x0=x0, eps=eps)
