"""The chair behind a set of points: the best-fitting surface, and whether it has arms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from diffusion_cli.dataset.chair_family import RANGES, boxes_of, measures, surface_distance
from diffusion_cli.metrics.catalogue import ARMED, SURFACE
from diffusion_cli.metrics.sets import as_sets

METRICS = (*SURFACE, ARMED)
# Chairs, evenly spread, among which a fit begins, its points, and the steps of its descent.
STARTS, POINTS, STEPS = 128, 256, 60
RATE = 0.05
GAIN = 0.01


class ChairFit(NamedTuple):
    """For each of n sets: measures as fractions of their ranges (n, 8), arms (n,) bool, and mean distance to the surface (n,)."""

    fraction: NDArray[np.float64]
    arms: NDArray[np.bool_]
    distance: NDArray[np.float64]


def chair_form(x: ArrayLike) -> dict[str, float]:
    """Distance of sets to the surface of their best-fitting chair, and the fraction with arms."""
    fit = fit_chairs(x)
    return {
        "surface_mean": float(fit.distance.mean()),
        "surface_p90": float(np.quantile(fit.distance, 0.9)),
        "armed": float(fit.arms.mean()),
    }


def fit_chairs(x: ArrayLike) -> ChairFit:
    """The chair nearest to each of the sets x (n, P, 3), as they stand, by mean distance to its surface.

    Without and with arms: from the best of many chairs a descent by Adam. More surface is never farther away, so arms must
    bring the points nearer by more than GAIN. Proved by tests/test_chairs.py: it finds the chairs from which points were drawn.
    """
    sets = torch.from_numpy(as_sets(x)).float()
    fits = [_fit(sets, torch.full((len(sets),), arms)) for arms in (False, True)]
    (plain, far), (armed, near) = fits
    arms = far - near > GAIN
    fraction, distance = torch.where(arms[:, None], armed, plain), torch.where(arms, near, far)
    return ChairFit(fraction.double().numpy(), arms.numpy(), distance.double().numpy())


def _fit(x: Tensor, arms: Tensor) -> tuple[Tensor, Tensor]:
    """Fractions (n, 8) of the measures of the best chairs with, or without, arms, and the mean distances (n,)."""
    starts = torch.quasirandom.SobolEngine(len(RANGES)).draw(STARTS)
    few = x[:, :POINTS]
    boxes = boxes_of(measures(starts), arms[:1].expand(STARTS))
    first = torch.stack(
        [_mean_distance(few[:, :64], low[None], high[None]) for low, high in zip(*boxes, strict=True)]
    )
    fraction = starts[first.argmin(0)].clone().requires_grad_()
    optimizer = torch.optim.Adam([fraction], lr=RATE)
    with torch.enable_grad():
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            optimizer.zero_grad()
            _mean_distance(few, *boxes_of(measures(fraction), arms)).sum().backward()
            optimizer.step()
            fraction.data.clamp_(0, 1)
    fraction = fraction.detach()
    return fraction, _mean_distance(x, *boxes_of(measures(fraction), arms))


def _mean_distance(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return surface_distance(x, low, high).mean(1)
