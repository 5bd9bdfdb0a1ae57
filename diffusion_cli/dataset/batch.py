"""Clean points with their labels, as datasets give them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Clean points.

    x0: (n, *shape) float32.
    label: (n,) int64, or None for data without labels.
    source: (n, S, d), the whole sets that the points of x0 were drawn from; None for data that are not sets.
    """

    x0: Tensor
    label: Tensor | None = None
    source: Tensor | None = None

    def rows(self, rows: Tensor) -> Batch:
        """Some of the points, with their labels."""
        return Batch(self.x0[rows], None if self.label is None else self.label[rows])

    def to(self, device: torch.device) -> Batch:
        """The points with their labels on a device."""
        return Batch(self.x0.to(device), None if self.label is None else self.label.to(device))
