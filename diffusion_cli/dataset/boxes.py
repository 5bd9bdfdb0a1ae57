"""The exact density of solid boxes; see `diffusion_cli.dataset.density`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density, normalized, priors
from diffusion_cli.dataset.segments import PAIRS_AT_ONCE, truncated_normal
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import NonNegative, checked


@checked
class Boxes(Density):
    """Centre uniform in one of K boxes, whose sides are parallel to the axes.

    Z = sum_k w_k prod_d E_v exp(-(x_d - alpha (m_kd + l_kd v))^2 / (2 s^2)), v uniform on [-1/2, 1/2]: along each axis what a
    segment is along itself, see `diffusion_cli.dataset.segments`.

    low, high: (K, D), the two corners of each box, low < high; tensors or nested lists.
    weights: (K,) positive, normalised here; None: their volumes.
    label: (K,) int64, the label of each box, or None.
    jitter: standard deviation of the Gaussian around the boxes.

    Example: `Boxes([[0.0]], [[1.0]]).posterior_mean(torch.zeros(1, 1), alpha=0.0, sigma=1.0)` is 1/2.
    """

    solid = True

    def __init__(
        self,
        low: Tensor | Sequence[Sequence[float]],
        high: Tensor | Sequence[Sequence[float]],
        weights: Tensor | Sequence[float] | None = None,
        *,
        label: Tensor | None = None,
        jitter: NonNegative = 0.0,
    ) -> None:
        low, high = (torch.as_tensor(corner, dtype=torch.float64) for corner in (low, high))
        if (
            low.ndim != 2
            or low.shape != high.shape
            or not (low < high).all()
            or not (high - low).isfinite().all()
        ):
            raise ArgumentError("low", ..., "must be (K, D), finite and below high")
        size = high - low
        weights = normalized(size.prod(1) if weights is None else weights, len(size))
        log_prior, class_weights = priors(weights, label)
        super().__init__(
            size.shape[1:],
            low,
            size,
            log_prior,
            weights.cumsum(0)[:-1],
            rows_at_once=max(1, PAIRS_AT_ONCE // size.numel()),
            inner=size.shape[1],
            class_weights=class_weights,
            jitter=jitter,
        )
        self.low, self.high, self.weights, self.label = low, high, weights, label

    def in_units(self, units: Units) -> Boxes:
        """The same in the units of a run."""
        low, high = units.inward(self.low), units.inward(self.high)
        return Boxes(low, high, self.weights, label=self.label, jitter=self.jitter / units.scale)

    def _evidence(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        low, size, log_prior, _ = self._on(x)
        middle = low + size / 2
        # (B, K, D), from each box's middle in units of s.
        at = (x[:, None] - alpha[..., None] * middle) / s[..., None]
        width = alpha[..., None] * size / s[..., None]
        log_mass, offset = (part.view_as(at) for part in truncated_normal(at.flatten(), width.flatten()))
        log_joint = log_prior[label] + log_mass.sum(2)
        posterior = log_joint.softmax(1)
        return log_joint.logsumexp(1), (posterior[..., None] * (middle + offset * size)).sum(1)

    def _centre_box(self) -> Box:
        return Box(self.low.amin(0), self.high.amax(0))

    def _centres(self, quantile: Tensor, inner: Tensor) -> tuple[Tensor, Tensor | None]:
        low, size, _, edges = self._on(quantile)
        index = torch.searchsorted(edges, quantile, right=True)
        return low[index] + inner * size[index], self._labels_of(index, self.label)

    def outline(self) -> list[Tensor] | None:
        if self.shape != (2,):
            return None
        corners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], dtype=torch.float64)
        return [low + corners * (high - low) for low, high in zip(self.low, self.high, strict=True)]

    def _distance(self, x: Tensor) -> Tensor:
        low, size, *_ = self._on(x)
        beyond = (x[:, None] - low - size / 2).abs() - size / 2
        return beyond.clamp_min(0).norm(dim=2).amin(1)
