"""The exact density of a curve made of straight segments; see `diffusion_cli.dataset.density`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.density import Density, normalized, priors
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import NonNegative, checked

# A segment whose nearest point is this far below the best one, in nats, weighs less than float64 can see: the
# logarithm of its truncated mass differs from that of another segment by at most log(dynamic range) ~ 25.
NEGLIGIBLE = 64.0
# Five Gauss-Legendre nodes on [-1/2, 1/2] err by less than 1e-12 while width * (1 + |at|) is at most SHORT.
SHORT = 0.5
NODES, NODE_WEIGHTS = ((column / 2).tolist() for column in leggauss(5))
# Pairs (x, segment) evaluated together: temporaries that stay in a processor's cache.
PAIRS_AT_ONCE = 2**15


@checked
class Segments(Density):
    """Centre on one or several polylines in the plane, uniform by arc length unless there are weights.

    A segment of length l, middle m and unit direction d is a product of two distributions: across it a Gaussian, along it a
    Gaussian truncated to the segment. Mixed over segments with their lengths l, or weights, as w,

        Z = sum w E_v exp(-|x - alpha (m + l v d)|^2 / (2 s^2)) / sum w,    v uniform on [-1/2, 1/2],

    where the mean over v is a difference of two Gaussian distribution functions, and E[c | x_t] the mean of
    m + l E[v | x_t] d under the segments' posterior probabilities.

    strokes: polylines (V, 2), V >= 2, each as it is drawn; a closed one repeats its first vertex at its end.
    weights: for each stroke (V - 1,), the probability of each of its segments, up to a factor; None: their lengths.
    label: (strokes,) int64, the label of each stroke; None for no labels.
    jitter: standard deviation of the Gaussian around the curve.

    Raises ArgumentError for strokes of other shapes, non-finite vertices, or no length at all, and for other weights.
    Example: `Segments([torch.tensor([[-1., 0.], [1., 0.]])]).distance(torch.tensor([[0., 3.]]))` is 3.
    """

    def __init__(
        self,
        strokes: Sequence[Tensor],
        *,
        weights: Sequence[Tensor] | None = None,
        label: Tensor | None = None,
        jitter: NonNegative = 0.0,
    ) -> None:
        strokes = [torch.as_tensor(stroke, dtype=torch.float64) for stroke in strokes]
        if not strokes or any(stroke.shape[1:] != (2,) or len(stroke) < 2 for stroke in strokes):
            raise ArgumentError("strokes", ..., "must be polylines of shape (V, 2) with V >= 2")
        self.strokes, self.weights, self.label = strokes, weights, label
        start = torch.cat([stroke[:-1] for stroke in strokes])
        step = torch.cat([stroke.diff(dim=0) for stroke in strokes])
        length = step.norm(dim=1)
        there = length > 0
        start, step, length = (column[there] for column in (start, step, length))
        if not len(length) or not (start + step).isfinite().all() or not length.isfinite().all():
            raise ArgumentError("strokes", ..., "must be finite and have a length")
        direction = step / length[:, None]
        normal = torch.stack((-direction[:, 1], direction[:, 0]), 1)
        # Arc length for each unit of probability.
        pace = length.sum().expand(len(length))
        edges, chance = length.cumsum(0)[:-1] / length.sum(), length / length.sum()
        if weights is not None:
            chance = normalized(torch.cat([*weights])[there], len(length))
            edges, pace = chance.cumsum(0)[:-1], length / chance
        sizes = torch.tensor([len(stroke) - 1 for stroke in strokes])
        self._label = None if label is None else label.repeat_interleave(sizes)[there]
        log_prior, class_weights = priors(chance, self._label)
        super().__init__(
            (2,),
            start + step / 2,
            direction,
            normal,
            length,
            edges,
            pace,
            log_prior,
            rows_at_once=max(1, PAIRS_AT_ONCE // len(length)),
            class_weights=class_weights,
            jitter=jitter,
        )

    def in_units(self, units: Units) -> Segments:
        """The same in the units of a run."""
        strokes = [units.inward(stroke) for stroke in self.strokes]
        return Segments(strokes, weights=self.weights, label=self.label, jitter=self.jitter / units.scale)

    def _evidence(self, x: Tensor, alpha: Tensor, s: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        middle, direction, normal, length, _, _, log_prior = self._on(x)
        # Offsets (B, K) from each segment's middle, along it and across it, in units of s.
        along = (x @ direction.T - alpha * (middle * direction).sum(1)) / s
        across = (x @ normal.T - alpha * (middle * normal).sum(1)) / s
        width = alpha * length / s
        log_weight = log_prior[label] - across.square() / 2
        bound = log_weight - (along.abs() - width / 2).clamp_min(0).square() / 2
        near = (bound > bound.amax(1, keepdim=True) - NEGLIGIBLE).flatten().nonzero()[:, 0]
        log_mass, offset = truncated_normal(along.flatten()[near], width.flatten()[near])
        log_joint = torch.full_like(along, -math.inf).flatten()
        log_joint = log_joint.index_copy(0, near, log_weight.flatten()[near] + log_mass).view_as(along)
        offset = torch.zeros_like(along).flatten().index_copy(0, near, offset).view_as(along)
        posterior = log_joint.softmax(1)
        return log_joint.logsumexp(1), posterior @ middle + (posterior * offset * length) @ direction

    def _centre_box(self) -> Box:
        return Box.of(torch.cat(self.strokes))

    def _centres(self, quantile: Tensor, inner: Tensor) -> tuple[Tensor, Tensor | None]:
        middle, direction, _, length, edges, pace, _ = self._on(quantile)
        index = torch.searchsorted(edges, quantile, right=True)
        ends = torch.cat((edges.new_zeros(1), edges))
        offset = (quantile - ends[index]) * pace[index] - length[index] / 2
        return middle[index] + offset[:, None] * direction[index], self._labels_of(index, self._label)

    def outline(self) -> list[Tensor]:
        return self.strokes

    def _distance(self, x: Tensor) -> Tensor:
        middle, direction, normal, length, *_ = self._on(x)
        along = x @ direction.T - (middle * direction).sum(1)
        across = x @ normal.T - (middle * normal).sum(1)
        return torch.hypot(across, (along.abs() - length / 2).clamp_min(0)).amin(1)


def truncated_normal(at: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """log E_v exp(-(at - width v)^2 / 2) and E[v] under that weight, v uniform on [-1/2, 1/2]; elementwise, flat.

    Exact to about 1e-11 for every at and every width >= 0, 0 included: short intervals by quadrature, where a
    difference of distribution functions would cancel, and long ones by scaled error functions, which do not underflow.
    """
    log_mass, offset = _short(at, width)
    long = (width * (1 + at.abs()) > SHORT).nonzero()[:, 0]
    log_mass_long, offset_long = _long(at[long], width[long])
    return log_mass.index_copy(0, long, log_mass_long), offset.index_copy(0, long, offset_long)


def _short(at: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre: exp(-(at - width v)^2 / 2) = exp(-at^2 / 2) exp(at width v - (width v)^2 / 2)."""
    # Clamped so that nothing overflows where `_long` takes over.
    slope = (at * width).clamp(-SHORT, SHORT)
    curvature = width.clamp_max(SHORT).square() / 2
    mass, moment = torch.zeros_like(at), torch.zeros_like(at)
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        term = weight * (slope * node - curvature * node**2).exp()
        mass, moment = mass + term, moment + term * node
    return mass.log() - at.square() / 2, moment / mass


def _long(at: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Closed form in y = |at| - width v, which runs over [a, b].

    mass = int exp(-y^2/2) dy is a sum or a difference of two error functions, E[y] = (e^(-a^2/2) - e^(-b^2/2)) / mass;
    both are multiplied by exp(nearest^2/2), nearest = max(a, 0), so that neither underflows.
    """
    far = at.abs()
    a, b = far - width / 2, far + width / 2
    nearest = a.clamp_min(0)
    # drop = exp(a^2/2 - b^2/2), peak = exp(nearest^2/2 - a^2/2)
    drop = (-far * width).exp()
    peak = (-a.clamp_max(0).square() / 2).exp()
    at_a, at_b = torch.special.erfcx(a.abs() / math.sqrt(2)), torch.special.erfcx(b / math.sqrt(2))
    mass = torch.where(a > 0, at_a - drop * at_b, 2 - peak * (at_a + drop * at_b)) * math.sqrt(math.pi / 2)
    mean = peak * -torch.expm1(-far * width) / mass
    return (mass / width).log() - nearest.square() / 2, (far - mean) / width * at.sign()
