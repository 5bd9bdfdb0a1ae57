"""The exact density of independent parts of the coordinates; see `diffusion_cli.dataset.density`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.boxes import Boxes
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.segments import Segments
from diffusion_cli.dataset.units import Units
from diffusion_cli.ranges import NonNegative, checked


@checked
class Product(Density):
    """Some coordinates follow one density and the others another, independently: a curve times an interval is a surface.

    The evidence is the product of theirs.

    factors: two densities without labels and jitter.
    axes: for each of them its coordinates, each of 0..D-1 in one of them.
    jitter: standard deviation of the Gaussian around the centre.
    """

    def __init__(
        self,
        factors: tuple[Segments | Boxes, Segments | Boxes],
        axes: tuple[Sequence[int], Sequence[int]],
        *,
        jitter: NonNegative = 0.0,
    ) -> None:
        self.factors, self.axes = factors, [list(part) for part in axes]
        super().__init__(
            (sum(map(len, axes)),),
            rows_at_once=min(factor._rows for factor in factors),
            inner=1 + sum(factor.inner for factor in factors),
            jitter=jitter,
        )

    def in_units(self, units: Units) -> Product:
        """The same in the units of a run."""
        first, second = (
            factor.in_units(Units(tuple(units.centre[axis] for axis in part), units.scale))
            for factor, part in zip(self.factors, self.axes, strict=True)
        )
        return Product((first, second), (self.axes[0], self.axes[1]), jitter=self.jitter / units.scale)

    def _evidence(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        log_evidence, centre = torch.zeros_like(x[:, 0]), torch.empty_like(x)
        for factor, axes in zip(self.factors, self.axes, strict=True):
            log_factor, centre[:, axes] = factor._evidence(x[:, axes], alpha, s, label)
            log_evidence = log_evidence + log_factor
        return log_evidence, centre

    def _centre_box(self) -> Box:
        low, high = torch.empty(2, *self.shape, dtype=torch.float64)
        for factor, axes in zip(self.factors, self.axes, strict=True):
            box = factor._centre_box()
            low[axes], high[axes] = box.low, box.high
        return Box(low, high)

    def _centres(self, quantile: Tensor, inner: Tensor) -> tuple[Tensor, None]:
        first, second = self.factors
        centre = quantile.new_empty(len(quantile), *self.shape)
        centre[:, self.axes[0]] = first._centres(quantile, inner[:, 1 : 1 + first.inner])[0]
        centre[:, self.axes[1]] = second._centres(inner[:, 0].contiguous(), inner[:, 1 + first.inner :])[0]
        return centre, None

    def _distance(self, x: Tensor) -> Tensor:
        parts = [factor._distance(x[:, axes]) for factor, axes in zip(self.factors, self.axes, strict=True)]
        return torch.hypot(*parts)
