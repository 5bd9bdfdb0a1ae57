"""What no training step sees: fresh draws of a distribution, or rows that a dataset keeps back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator

# Fresh points that are drawn together: point i must not depend on how many there are.
BLOCK = 256


class Fresh:
    """Fresh draws without end, of data that come from a distribution: the `HeldOut` of dataset.protocol.

    draw: (n, generator) -> Batch.
    """

    count = None

    def __init__(self, draw: Callable[[int, torch.Generator], Batch]) -> None:
        self._draw = draw

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        return self._draw(n, generator)

    def distinct(self, n: int, seed: int) -> Batch:
        blocks = [self._draw(BLOCK, generator(seed, Stream.HELD_OUT, k)) for k in range(-(-n // BLOCK))]
        x0 = torch.cat([block.x0 for block in blocks])[:n]
        label = [block.label for block in blocks if block.label is not None]
        return Batch(x0, torch.cat(label)[:n] if label else None)


class KeptRows:
    """Examples that are held back: the `HeldOut` of dataset.protocol.

    x0: (N, *shape) float32.
    label: (N,) int64, or None.
    """

    def __init__(self, x0: Tensor, label: Tensor | None = None) -> None:
        self._kept = Batch(x0, label)
        self.count = len(x0)

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        rows = torch.randint(self.count, (n,), generator=generator, device=generator.device)
        return self._kept.rows(rows.to(self._kept.x0.device)).to(generator.device)

    def distinct(self, n: int, seed: int) -> Batch:
        return self._kept.rows(distinct_rows(self.count, n, seed))


def distinct_rows(count: int, n: int, seed: int) -> Tensor:
    """n different rows of the `count` that are held out, in random order; ArgumentError (n) for more than there are."""
    if n > count:
        raise ArgumentError("n", n, f"must be at most {count:,}: this dataset holds out no more")
    return torch.randperm(count, generator=generator(seed, Stream.HELD_OUT))[:n]
