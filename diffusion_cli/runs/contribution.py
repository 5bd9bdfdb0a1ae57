"""What each shard of a batch contributes to a training step of several processes, and what they say to each other with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

# What a process says to the others: a signal that has come to it, and whether it wants a pause.
Say = Callable[[], tuple[int | None, bool]]


class Contribution(NamedTuple):
    """What a shard of a batch adds to the sums of the whole batch.

    gradient: (n,).
    weight: factor by which the gradient counts.
    losses: (s,), which count as they are.
    """

    gradient: Tensor
    weight: float
    losses: Tensor

    def written(self, row: Tensor | None = None) -> Tensor:
        """The two behind each other, (n + s,), in a new vector or in this one."""
        n = len(self.gradient)
        row = self.gradient.new_empty(n + len(self.losses)) if row is None else row
        torch.mul(self.gradient, self.weight, out=row[:n])
        row[n:] = self.losses
        return row


def added(vectors: Iterable[Tensor], total: Tensor | None = None) -> Tensor:
    """Their sum, one after the other, in the memory of the first, or of two or more in that of `total`."""
    vectors = iter(vectors)
    first = next(vectors)
    total = first if total is None else torch.add(first, next(vectors), out=total)
    for vector in vectors:
        total += vector
    return total
