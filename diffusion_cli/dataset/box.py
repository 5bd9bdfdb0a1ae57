"""Where data lie: the range of each coordinate, by which samplers clip and outliers are counted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# A sample is an outlier where it lies outside of the box by more than this fraction of the box's longest side.
MARGIN = 0.1


@dataclass(frozen=True, eq=False)
class Box:
    """The lowest and the highest value of each coordinate.

    low, high: tensors that broadcast against x0.

    >>> Box.of(torch.tensor([[0.0, 1.0], [2.0, -1.0]])).clamp(torch.tensor([[3.0, 0.5]]))
    tensor([[2.0000, 0.5000]])
    """

    low: Tensor
    high: Tensor

    def __repr__(self) -> str:
        pairs = zip(self.low.flatten().tolist(), self.high.flatten().tolist(), strict=True)
        return " x ".join(f"[{low:.3g}, {high:.3g}]" for low, high in pairs)

    @classmethod
    def of(cls, points: Tensor) -> Box:
        """The smallest box around points (..., D)."""
        rows = points.double().flatten(0, -2)
        return cls(rows.amin(0), rows.amax(0))

    @classmethod
    def around(cls, bound: float) -> Box:
        """[-bound, bound] for every coordinate."""
        return cls(torch.tensor(-bound), torch.tensor(bound))

    def widened(self, margin: float) -> Box:
        """The box with this much more on every side."""
        return Box(self.low - margin, self.high + margin)

    def clamp(self, x: Tensor) -> Tensor:
        """x, each coordinate moved into the box."""
        return x.clamp(self.low.to(x), self.high.to(x))

    def outliers(self, x: Tensor) -> float:
        """The fraction of x (n, *shape) outside of the box by more than a tenth of its longest side (of 1 for a point)."""
        wide = self.widened(MARGIN * (float((self.high - self.low).max()) or 1.0))
        return float((wide.clamp(x) != x).flatten(1).any(1).double().mean())
