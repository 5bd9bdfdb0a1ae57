"""Clean points with their labels, as datasets give them."""

from __future__ import annotations

from typing import NamedTuple

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
