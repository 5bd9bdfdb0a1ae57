"""What every dataset gives: batches of clean points, and where it is known their exact law."""

from __future__ import annotations

from typing import Protocol

import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.density import Density


class Dataset(Protocol):
    """A source of training batches.

    shape: of one point, without the batch dimension. num_classes: 0 when there are no labels, else labels run
    over 0..num_classes-1. density: the exact law of x0, or None where nobody knows it.
    """

    shape: tuple[int, ...]
    num_classes: int
    density: Density | None

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """Draw a batch of n points on `generator.device`."""
        ...
