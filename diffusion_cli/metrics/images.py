"""Distances between two collections of images, by the features that an extractor sees in them.

Everything here works on features (n, D), float64, on the CPU; what the extractor is, and what a value is to be
compared with, is the business of `metrics.image_report`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.metrics.progress import NoBar, ProgressBar
from diffusion_cli.metrics.protocol import Each, one_by_one

CHUNK = 1_000  # rows of a kernel or distance matrix at a time: a chunk against 10,000 images is 80 MB


class Moments(NamedTuple):
    """Mean (D,) and covariance (D, D) of features, float64: of their Gaussian, by which the Fréchet distance goes."""

    mean: Tensor
    cov: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Of n >= 2 rows; the covariance is divided by n - 1."""
        return cls(features.mean(0), torch.cov(features.T, correction=1).reshape(features.shape[1], -1))


def frechet(a: Moments, b: Moments) -> float:
    """Squared 2-Wasserstein distance of the Gaussians with these moments (Dowson & Landau 1982; Heusel et al. 2017, eq. 6):

        |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    The last trace is the sum of square roots of the eigenvalues of R C_b R, R = C_a^(1/2), a symmetric matrix: exact to
    rounding also where there are fewer samples than features. Those of C_a C_b itself, which is what torchmetrics and
    scipy's sqrtm work on, lose half of all digits there, since that matrix is neither symmetric nor of full rank.

    >>> one = Moments(torch.zeros(2).double(), torch.eye(2).double())
    >>> frechet(one, Moments(one.mean + 3, 4 * one.cov))  # 2 * 3^2 + 2 * (2 - 1)^2
    20.0
    """
    values, vectors = torch.linalg.eigh(a.cov)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b.cov @ root).clamp(min=0).sqrt().sum()
    squared = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * cross
    return max(float(squared), 0.0)


def mean_kernel(x: Tensor, y: Tensor | None = None, each: Each = one_by_one) -> float:
    """Mean of k(x_i, y_j) = (x_i . y_j / D + 1)^3 over all pairs; without y over the pairs i != j within x.

    each: sums the rows of chunks, in this process or in several; their sums are added in order, to the same bits.
    """
    sums = each(partial(_kernel_sum, x, y), range(0, len(x), CHUNK), NoBar())
    return sum(sums) / (len(x) * (len(x) - 1 if y is None else len(y)))


def _kernel_sum(x: Tensor, y: Tensor | None, here: object, start: int, bar: ProgressBar) -> float:
    """The work of one chunk of rows."""
    kernel = (x[start : start + CHUNK] @ (x if y is None else y).T / x.shape[1] + 1) ** 3
    return float(kernel.sum()) - (0.0 if y is not None else float(kernel.diagonal(start).sum()))


def kernel_distance(x: Tensor, y: Tensor, within_y: float | None = None) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with a cubic kernel (Binkowski et al. 2018, eq. 4):

        mean k(x, x') + mean k(y, y') - 2 mean k(x, y),  pairs of different rows.

    Its expectation is 0 for two draws of one distribution, whatever their sizes, so single values may be negative. All pairs are
    used: the usual random subsets only save memory.

    within_y: mean_kernel(y), where it has been computed already.
    """
    return mean_kernel(x) + (mean_kernel(y) if within_y is None else within_y) - 2 * mean_kernel(x, y)


class Manifold:
    """The union of balls around points, each as far as its k-th neighbour (Kynkäänniemi et al. 2019, eq. 1).

    points: (n, D), n > k.
    k: the number of the neighbour that gives a ball its radius.
    """

    def __init__(self, points: Tensor, k: int) -> None:
        if not 0 < k < len(points):
            raise ValueError(f"{k} neighbours among {len(points)} points")
        self.points = points
        # The first neighbour of a point is itself.
        rows = (torch.cdist(part, points).kthvalue(k + 1).values for part in points.split(CHUNK))
        self.radius = torch.cat(list(rows))

    def fraction_inside(self, x: Tensor) -> float:
        """The fraction of the rows of x that lie in at least one ball."""
        inside = [(torch.cdist(part, self.points) <= self.radius).any(1) for part in x.split(CHUNK)]
        return float(torch.cat(inside).double().mean())


def precision_recall(real: Manifold, ours: Manifold) -> tuple[float, float]:
    """Precision, the fraction of ours within the real manifold, and recall, that of real within ours (eq. 2, 3)."""
    return real.fraction_inside(ours.points), ours.fraction_inside(real.points)
