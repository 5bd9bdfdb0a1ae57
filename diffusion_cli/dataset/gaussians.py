"""The exact density of a mixture of Gaussians of any covariances; see `diffusion_cli.dataset.density`."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import TAIL, Density, normalized, priors
from diffusion_cli.dataset.segments import PAIRS_AT_ONCE
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import checked


@checked
class Gaussians(Density):
    """Mixture of K Gaussians of full covariances C_k = V_k diag(l_k) V_k^T.

    The smallest of all l is the variance of the jitter, and the centre a Gaussian with what is left, l_k - jitter^2. Along
    column d of V_k, with y_d = v_d . (x - alpha m_k) and r_d = alpha^2 (l_d - jitter^2) + s^2, the variance of x_t,

        log Z_k = log w_k + sum_d (log(s^2 / r_d) - y_d^2 / r_d) / 2,
        E[c | x_t, k] = m_k + sum_d alpha (l_d - jitter^2) / r_d y_d v_d.

    means: (K, D).
    covariances: (K, D, D), symmetric, without negative eigenvalues.
    weights: (K,) positive, normalised here; None for equal ones.
    label: (K,) int64, the label of each Gaussian; None for no labels.

    `distance` is that to the nearest mean. Of round and equal Gaussians `Points` is quicker.
    Example: `Gaussians(torch.zeros(1, 2), torch.eye(2)[None]).log_prob(torch.zeros(1, 2), 0.6, 0.8)` is -log(2 pi).
    """

    def __init__(
        self,
        means: Tensor,
        covariances: Tensor,
        weights: Tensor | None = None,
        *,
        label: Tensor | None = None,
    ) -> None:
        means, covariances = means.double(), covariances.double()
        count, d = means.shape
        if covariances.shape != (count, d, d) or not torch.allclose(covariances, covariances.mT):
            raise ArgumentError(
                "covariances", ..., f"must be {count} symmetric matrices, ({count}, {d}, {d})"
            )
        variance, axes = torch.linalg.eigh(covariances)
        least = float(variance.min())
        if not least > -1e-9 * float(variance.max()):
            raise ArgumentError("covariances", ..., "must have no negative eigenvalues")
        jitter = max(least, 0.0) ** 0.5
        weights = normalized(weights, count)
        log_prior, class_weights = priors(weights, label)
        super().__init__(
            (d,),
            means,
            axes,
            (variance - jitter**2).clamp_min(0),
            log_prior,
            weights.cumsum(0)[:-1],
            rows_at_once=max(1, PAIRS_AT_ONCE // (count * d)),
            inner=d,
            class_weights=class_weights,
            jitter=jitter,
        )
        self.means, self.covariances, self.weights, self.label = means, covariances, weights, label

    def in_units(self, units: Units) -> Gaussians:
        """The same in the units of a run."""
        covariances = self.covariances / units.scale**2
        return Gaussians(units.inward(self.means), covariances, self.weights, label=self.label)

    def _evidence(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        means, axes, spread, log_prior, _ = self._on(x)
        # (B, K, D): offsets from each mean along its axes, their variances, and the part of these that the centre has.
        y = (axes.mT @ (x[:, None] - alpha[..., None] * means)[..., None])[..., 0]
        variance = (alpha.square() * spread.flatten()).view_as(y) + s.square()[..., None]
        log_ratio = (s.square()[..., None] / variance).log() - y.square() / variance
        log_joint = log_prior[label] + log_ratio.sum(2) / 2
        posterior = log_joint.softmax(1)
        offset = posterior[..., None] * alpha[..., None] * spread / variance * y
        return log_joint.logsumexp(1), posterior @ means + torch.einsum("kde,bke->bd", axes, offset)

    def box(self) -> Box:
        reach = TAIL * self.covariances.diagonal(dim1=1, dim2=2).sqrt()
        return Box((self.means - reach).amin(0), (self.means + reach).amax(0))

    def _centres(self, quantile: Tensor, inner: Tensor) -> tuple[Tensor, Tensor | None]:
        means, axes, spread, _, edges = self._on(quantile)
        index = torch.searchsorted(edges, quantile, right=True)
        normal = torch.special.ndtri(inner.clamp_min(torch.finfo(inner.dtype).eps))
        offset = (axes[index] @ (spread[index].sqrt() * normal)[..., None])[..., 0]
        return means[index] + offset, self._labels_of(index, self.label)

    def _distance(self, x: Tensor) -> Tensor:
        return torch.cdist(x, self._on(x)[0], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
