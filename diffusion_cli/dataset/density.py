"""Exact densities of clean points and of their noised versions: the ground truth for a diffusion model.

Every density here is that of x0 = c + jitter * n, with n ~ N(0, I) and a centre c on a ring, on points, on segments, in
boxes, ... (each in a module of its own). Given the centre, the noised point is therefore Gaussian,

    x_t = alpha x0 + sigma eps,    x_t | c ~ N(alpha c, s^2 I),    s^2 = sigma^2 + alpha^2 jitter^2,        (1)

and all else follows from two quantities that each distribution of c has in closed form, the evidence
Z(x) = E_c exp(-|x - alpha c|^2 / (2 s^2)) and the posterior mean of the centre, E[c | x_t]:

    log p(x_t)  = log Z(x_t) - D/2 log(2 pi s^2)                                                          (2)
    E[x0 | x_t] = E[c | x_t] + alpha jitter^2 / s^2 (x_t - alpha E[c | x_t])                              (3)
    score(x_t)  = (alpha E[c | x_t] - x_t) / s^2 = (alpha E[x0 | x_t] - x_t) / sigma^2                    (4)

(4) is Tweedie's formula (Efron 2011, Tweedie's Formula and Selection Bias, section 1). Nothing divides by alpha, so
pure noise, alpha = 0, is as exact as the rest. tests/test_density.py compares all of it with numerical quadrature.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.box import Box
from diffusion_cli.errors import ArgumentError
from diffusion_cli.schedule import float64, widest

# Standard deviations of jitter that belong to the range of the data: beyond them lies one coordinate in 16,000.
TAIL = 4.0
# Quantiles by which the range of the centre is found where no class says it better.
CENTRES = 2**16
# One for all points, or (B, 1, ..., 1).
Factor = float | Tensor


class Density(ABC):
    """The exact density of x0, and of x_t = alpha x0 + sigma eps.

    In every method x is (B, *shape) of any float dtype; alpha and sigma are floats, 0-d tensors or tensors
    (B, 1, ..., 1), with sigma > 0 unless alpha * jitter > 0; label is None or (B,) int64 in 0..num_classes, where
    num_classes means "no label". ValueError otherwise. Work is done in float64; results have x's dtype and device.

    shape: of one point.
    constants: the float64 tensors that define the distribution of c; copied once to each device that needs them.
    rows_at_once: how many x are evaluated together, at most; bounds the memory.
    inner: uniform numbers that a centre needs beside its quantile: 0 on a curve, D in a solid.
    class_weights: (num_classes,) the probability of each label; None for no labels.
    jitter: standard deviation of the Gaussian around c.
    """

    # Whether the support has a volume, so that samples can be counted that lie outside.
    solid = False

    def __init__(
        self,
        shape: tuple[int, ...],
        *constants: Tensor,
        rows_at_once: int = 2**16,
        inner: int = 0,
        class_weights: Tensor | None = None,
        jitter: float = 0.0,
    ) -> None:
        self.shape = tuple(shape)
        self.inner = inner
        self.class_weights = class_weights
        self.num_classes = 0 if class_weights is None else len(class_weights)
        self.jitter = float(jitter)
        self._rows = rows_at_once
        self._constants = constants
        self._copies: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}
        self._labels: dict[torch.device, Tensor] = {}

    @abstractmethod
    def _evidence(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """log Z (B,) and E[c | x_t] (B, D) for x (B, D), alpha and s (B, 1), label (B,)."""

    @abstractmethod
    def _centres(self, quantile: Tensor, inner: Tensor) -> tuple[Tensor, Tensor | None]:
        """Centres (n, D) at quantiles (n,) in [0, 1) of the distribution of c, and their labels (n,) if there are any.

        inner: (n, self.inner) in [0, 1), independent and uniform.
        """

    @abstractmethod
    def _distance(self, x: Tensor) -> Tensor:
        """Distance (B,) of x (B, D) to the nearest possible centre."""

    def sample(self, n: int, generator: torch.Generator) -> Batch:
        """Draw n points (n, *shape) float32, with labels if there are any, on `generator.device`."""
        device, dtype = generator.device, widest(generator.device)

        def uniform(*size: int) -> Tensor:
            return torch.rand(size, generator=generator, device=device, dtype=dtype)

        centre, label = self._centres(uniform(n), uniform(n, self.inner))
        if self.jitter:
            around = torch.randn(centre.shape, generator=generator, device=device, dtype=dtype)
            centre = centre + self.jitter * around
        return Batch(centre.reshape(n, *self.shape).float(), label)

    def reference(self, n: int) -> Tensor:
        """Return n points (n, *shape) float32 that represent the distribution of x0 evenly, without randomness.

        The centres are the quantiles (i + 1/2) / n: equal steps of arc length on a curve. What else a point needs, such as
        jitter, comes from a Sobol sequence, which together with the first coordinate i / n is a Hammersley set.
        """
        return self._even(n).reshape(n, *self.shape).float()

    def _even(self, n: int) -> Tensor:
        quantile = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        dims = self.inner + (math.prod(self.shape) if self.jitter else 0)
        # The first point of the sequence is the origin, whose normal quantiles are infinite.
        sobol = (
            torch.quasirandom.SobolEngine(dims).fast_forward(1).draw(n, dtype=torch.float64)
            if dims
            else quantile.new_empty(n, 0)
        )
        centre, _ = self._centres(quantile, sobol[:, : self.inner])
        if self.jitter:
            centre = centre + self.jitter * torch.special.ndtri(sobol[:, self.inner :])
        return centre

    def box(self) -> Box:
        """The range of x0: that of the centre, and 4 standard deviations of jitter on every side."""
        return self._centre_box().widened(TAIL * self.jitter)

    def _centre_box(self) -> Box:
        """The range of the centre, which broadcasts against x0."""
        quantile = (torch.arange(CENTRES, dtype=torch.float64) + 0.5) / CENTRES
        centres, _ = self._centres(quantile, quantile[:, None].expand(-1, self.inner))
        return Box.of(centres.view(-1, *self.shape))

    def outline(self) -> list[Tensor] | None:
        """The support as polylines (V, 2) to draw, or None where it is no curve."""
        return None

    def distance(self, x: Tensor) -> Tensor:
        """Distance (B,) of x (B, *shape) to the support of the centre: to the curve, or to the nearest point."""
        rows = float64(x.flatten(1)).split(self._rows)
        return torch.cat([self._distance(row) for row in rows]).to(x)

    def log_prob(self, x: Tensor, alpha: Factor, sigma: Factor, label: Tensor | None = None) -> Tensor:
        """Log-density (B,) of x_t at x, given the label where there is one; equation (2)."""

        def log_density(x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> Tensor:
            log_evidence, _ = self._evidence(x, alpha, s, label)
            return log_evidence - x.shape[1] * (s[:, 0].log() + math.log(2 * math.pi) / 2)

        return self._by_rows(log_density, x, alpha, sigma, label)

    def posterior_mean(self, x: Tensor, alpha: Factor, sigma: Factor, label: Tensor | None = None) -> Tensor:
        """E[x0 | x_t = x, label], shaped like x: what a perfect network predicts for x0; equation (3)."""

        def mean(x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> Tensor:
            _, centre = self._evidence(x, alpha, s, label)
            return centre + alpha * (self.jitter / s).square() * (x - alpha * centre)

        return self._by_rows(mean, x, alpha, sigma, label).view(x.shape)

    def score(self, x: Tensor, alpha: Factor, sigma: Factor, label: Tensor | None = None) -> Tensor:
        """Gradient of log p(x_t | label) at x, shaped like x; equation (4)."""

        def gradient(x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> Tensor:
            _, centre = self._evidence(x, alpha, s, label)
            return (alpha * centre - x) / s.square()

        return self._by_rows(gradient, x, alpha, sigma, label).view(x.shape)

    def class_posterior(self, x: Tensor, alpha: Factor, sigma: Factor) -> Tensor:
        """log p(y | x_t = x) (B, num_classes): the exact noise-aware classifier, by Bayes' rule. ValueError without labels."""
        if self.class_weights is None:
            raise ValueError("there are no labels")
        rows = torch.ones(len(x), dtype=torch.int64)
        of_class = [self.log_prob(x, alpha, sigma, y * rows) for y in range(self.num_classes)]
        return (torch.stack(of_class, 1) + self.class_weights.log().to(x)).log_softmax(1)

    def _by_rows(
        self,
        function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        x: Tensor,
        alpha: Factor,
        sigma: Factor,
        label: Tensor | None,
    ) -> Tensor:
        """Evaluate function(x (b, D), alpha (b, 1), s (b, 1), label (b,)) in chunks of few enough rows b."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"expected points of shape {self.shape}, not {tuple(x.shape[1:])}")
        rows = len(x)
        label = torch.full((rows,), self.num_classes) if label is None else label
        if label.shape != (rows,) or not ((label >= 0) & (label <= self.num_classes)).all():
            raise ValueError(f"labels must be {rows} integers in 0..{self.num_classes}")
        flat = float64(x.flatten(1))
        alpha, sigma = (
            float64(level).to(flat.device).reshape(-1, 1).expand(rows, 1) for level in (alpha, sigma)
        )
        s = torch.hypot(sigma, alpha * self.jitter)
        if not (s > 0).all():
            raise ValueError("x_t has no density where sigma and alpha * jitter are both 0")
        columns = (flat, alpha, s, label.to(flat.device))
        chunks = zip(*(column.split(self._rows) for column in columns), strict=True)
        return torch.cat([function(*chunk) for chunk in chunks]).to(x)

    def _on(self, like: Tensor) -> tuple[Tensor, ...]:
        """The constants on the device, and in the dtype, of `like`."""
        key = (like.device, like.dtype)
        if key not in self._copies:
            self._copies[key] = tuple(constant.to(like.dtype).to(like.device) for constant in self._constants)
        return self._copies[key]

    def _labels_of(self, parts: Tensor, label: Tensor | None) -> Tensor | None:
        """The labels (n,) of parts of the distribution (n,), of which each has its own in label (K,); None for no labels."""
        if label is None:
            return None
        if parts.device not in self._labels:
            self._labels[parts.device] = label.to(parts.device)
        return self._labels[parts.device][parts]


def priors(weights: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The parts of a mixture by label: log-probabilities (num_classes + 1, K), and that of each label (num_classes,).

    Row y is the distribution of the part given label y, and the last row the one without a label.

    weights: (K,) of sum 1.
    label: (K,) int64, of each part, every one of 0..max among them; None for no labels.
    """
    log_prior = weights.log()[None]
    if label is None:
        return log_prior, None
    of_class = weights * (label == torch.arange(int(label.max()) + 1)[:, None])
    class_weights = of_class.sum(1)
    return torch.cat(((of_class / class_weights[:, None]).log(), log_prior)), class_weights


def normalized(weights: Tensor | Sequence[float] | None, count: int) -> Tensor:
    """Weights (count,) of sum 1, equal ones for None; ArgumentError where they are not `count` positive numbers."""
    weights = torch.as_tensor([1.0] * count if weights is None else weights, dtype=torch.float64)
    if weights.shape != (count,) or not ((weights > 0) & weights.isfinite()).all():
        raise ArgumentError("weights", ..., f"must be {count} positive numbers")
    return weights / weights.sum()
