"""Clean points with their labels, as datasets give them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Clean points `x0` (n, *shape) float32 and, for labelled data, `label` (n,) int64."""

    x0: Tensor
    label: Tensor | None
