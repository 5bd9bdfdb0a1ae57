"""How samples lie in a density: how many fall outside of it, how probable they are, and what of it they leave out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.density import Density
from diffusion_cli.metrics.points import random_directions

# Of the truth that lies within the contour; random directions of the sliced distance.
HELD, DIRECTIONS = 0.99, 50


def in_density(x: Tensor, true: Tensor, density: Density, label: Tensor | None = None) -> dict[str, float]:
    """Four numbers of samples x (n, d) beside as many true points.

    outside: fraction of x where the density is less than at all but 1 % of the true points.
    log_density: mean log p(x | label).
    sliced_w2: root mean square over 50 directions of the Wasserstein distance from the true points.
    coverage: mean distance from a true point to the nearest of x, which grows where a part is left out.

    true: (n, d), of the density under the same label.
    density: one that clean points have; ValueError for a curve.
    label: (n,), or None.
    """
    from scipy.spatial import cKDTree

    log_x, log_true = (density.log_prob(points.double(), 1.0, 0.0, label) for points in (x, true))
    a, b = (points.flatten(1).double().numpy() for points in (x, true))
    directions = random_directions(a.shape[1], DIRECTIONS, 0).T
    squares = (np.sort(a @ directions, 0) - np.sort(b @ directions, 0)) ** 2
    return {
        "outside": float((log_x < torch.quantile(log_true, 1 - HELD)).double().mean()),
        "log_density": float(log_x.mean()),
        "sliced_w2": float(np.sqrt(squares.mean())),
        "coverage": float(cKDTree(a).query(b)[0].mean()),
    }
