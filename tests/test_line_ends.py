"""What is said of the ends of trajectories on a line: moments, and the test of Kolmogorov and Smirnov."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kstest, norm

from diffusion_cli.dataset.exact import Gaussian1D
from diffusion_cli.figures.recipes import line


def density(positions: NDArray) -> NDArray:
    return norm.pdf(positions, 1.0, 0.5)


def test_the_ends_are_tested_against_their_distribution() -> None:
    """Against scipy's own normal distribution: a shift by a tenth of sigma is seen in 10,000 draws, no shift is not."""
    data = Gaussian1D(mean=1.0, variance=0.25)
    x = data.draw(10_000, torch.Generator().manual_seed(1)).x0[:, 0].double().numpy()
    cdf = line.distribution(density, data.box)
    np.testing.assert_allclose(cdf(x), norm.cdf(x, 1.0, 0.5), atol=1e-4)
    same, shifted = (line.kolmogorov_smirnov(values, cdf, "the data") for values in (x, x + 0.05))
    assert f"D = {kstest(x, norm(1.0, 0.5).cdf).statistic:.4f}" in same
    p_values = [float(text.rpartition("p = ")[2]) for text in (same, shifted)]
    assert p_values[0] > 0.01 and p_values[1] < 1e-6
    assert "N(0, 1)" in line.kolmogorov_smirnov((x - 1) / 0.5, "norm", "N(0, 1)")


def test_moments_by_hand() -> None:
    assert line.moments(np.array([0.0, 2.0])) == "mean 1.000 ± 1.000, deviation 1.414"
