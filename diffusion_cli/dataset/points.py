"""The exact density of weighted points and of mixtures of equal Gaussians; see `diffusion_cli.dataset.density`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density, Factor, normalized, priors
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import NonNegative, checked

# Pairs (x, point) evaluated together: 8 MB for each temporary, some 60 MB in all.
PAIRS_AT_ONCE = 2**20


@checked
class Points(Density):
    """Centre on one of K points with given probabilities; with jitter, a mixture of K equal Gaussians.

    log Z = logsumexp_k (log w_k - |x - alpha c_k|^2 / (2 s^2)); E[c | x_t] is the mean of c_k under the softmax of
    the same terms. Given a label, only the points that have it are left.

    points: (K, *shape), finite; a tensor or nested lists.
    weights: (K,) positive, normalised here; None for equal ones.
    labelled: whether the index of a point is its label, so that num_classes = K; else there are no labels.
    label: (K,) int64, the label of each point, instead; every one of 0..max occurs.
    jitter: standard deviation of the Gaussian around every point.

    Raises ArgumentError for empty or non-finite points, and for weights that are not K positive numbers.
    Example: `Points([[-0.5], [0.5]]).posterior_mean(torch.zeros(1, 1), alpha=0.6, sigma=0.8)` is 0.
    """

    def __init__(
        self,
        points: Tensor | Sequence[object],
        weights: Tensor | Sequence[float] | None = None,
        *,
        labelled: bool = False,
        label: Tensor | None = None,
        jitter: NonNegative = 0.0,
    ) -> None:
        points = torch.as_tensor(points, dtype=torch.float64)
        if points.numel() == 0 or not points.isfinite().all():
            raise ArgumentError("points", ..., "must be finite, and at least one")
        count = len(points)
        weights = normalized(weights, count)
        label = torch.arange(count) if labelled else label
        log_prior, class_weights = priors(weights, label)
        super().__init__(
            points.shape[1:],
            points.flatten(1),
            log_prior,
            weights.cumsum(0)[:-1],
            rows_at_once=max(1, PAIRS_AT_ONCE // count),
            class_weights=class_weights,
            jitter=jitter,
        )
        self.label = label

    def in_units(self, units: Units) -> Points:
        """The same in the units of a run."""
        points, scale = units.inward(self.points), units.scale
        return Points(points, self.weights, label=self.label, jitter=self.jitter / scale)

    @property
    def points(self) -> Tensor:
        """(K, *shape) float64."""
        return self._constants[0].view(-1, *self.shape)

    @property
    def weights(self) -> Tensor:
        """(K,) float64, of sum 1."""
        return self._constants[1][-1].exp()

    def class_posterior(self, x: Tensor, alpha: Factor, sigma: Factor) -> Tensor:
        """As of every density; without labels y is the index of the point."""
        if self.label is not None and self.num_classes < len(self.label):
            return super().class_posterior(x, alpha, sigma)

        def log_posterior(x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> Tensor:
            return self._log_joint(x, alpha, s, label).log_softmax(1)

        return self._by_rows(log_posterior, x, alpha, sigma, None)

    def _log_joint(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> Tensor:
        """log w_k - |x - alpha c_k|^2 / (2 s^2), (B, K)."""
        points, log_prior, _ = self._on(x)
        squares = x.square().sum(1, keepdim=True) + alpha.square() * points.square().sum(1)
        return log_prior[label] - (squares - 2 * alpha * (x @ points.T)) / (2 * s.square())

    def _evidence(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        log_joint = self._log_joint(x, alpha, s, label)
        return log_joint.logsumexp(1), log_joint.softmax(1) @ self._on(x)[0]

    def _centre_box(self) -> Box:
        return Box(self.points.amin(0), self.points.amax(0))

    def _centres(self, quantile: Tensor, inner: Tensor) -> tuple[Tensor, Tensor | None]:
        points, _, edges = self._on(quantile)
        index = torch.searchsorted(edges, quantile, right=True)
        return points[index], self._labels_of(index, self.label)

    def _distance(self, x: Tensor) -> Tensor:
        return torch.cdist(x, self._on(x)[0], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
