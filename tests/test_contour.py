"""Samples in a density, against closed forms of one Gaussian."""

import math

import pytest
import torch

from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.metrics.contour import in_density

N, WIDTH = 20_000, 0.1
DENSITY = GaussianMixture([[0.0, 0.0]], sigma=WIDTH, weights=[1.0], labels=False).density


def drawn(seed, scale=1.0, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    return scale * WIDTH * torch.randn(N, 2, generator=g) + torch.tensor([shift, 0.0])


def test_true_samples_lie_where_they_should():
    found = in_density(drawn(1), drawn(2), DENSITY)
    assert math.isclose(found["outside"], 0.01, abs_tol=0.004)
    assert math.isclose(found["log_density"], -1 - math.log(2 * math.pi * WIDTH**2), abs_tol=0.03)
    assert found["sliced_w2"] < 0.003 and found["coverage"] < 0.003


def test_samples_half_as_wide_are_too_probable_and_leave_the_rim_out():
    found, truth = in_density(drawn(1, 0.5), drawn(2), DENSITY), in_density(drawn(3), drawn(2), DENSITY)
    # |x|^2 / (2 width^2) is exponential, of mean 1; of the narrow ones, 1/4.
    assert found["outside"] == 0
    assert math.isclose(found["log_density"] - truth["log_density"], 0.75, abs_tol=0.03)
    assert math.isclose(found["sliced_w2"], 0.5 * WIDTH, rel_tol=0.03)
    assert found["coverage"] > 3 * truth["coverage"]


def test_samples_that_are_moved_or_too_wide_fall_outside():
    wide = in_density(drawn(1, 2.0), drawn(2), DENSITY)
    # P(|x|^2 / 2 width^2 > log 100) with twice the width.
    assert math.isclose(wide["outside"], 0.01**0.25, abs_tol=0.02)
    moved = in_density(drawn(1, shift=0.3), drawn(2), DENSITY)
    assert math.isclose(moved["sliced_w2"], 0.3 / math.sqrt(2), rel_tol=0.05) and moved["outside"] > 0.4


def test_a_curve_has_no_density_in_the_plane():
    x = torch.randn(4, 2)
    with pytest.raises(ValueError, match="no density"):
        in_density(x, x, Circle().density)
