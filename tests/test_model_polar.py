"""Angular harmonics about the origin: their formula, how they turn, and the symmetry that their kernel keeps."""

import math

import pytest
import torch

from diffusion_cli.dataset.point_sets import rotated
from diffusion_cli.dataset.stars import StarFamily, draw_stars
from diffusion_cli.model.embedding import RingFourier
from diffusion_cli.model.polar import AngularHarmonics, PlaneEmbedding


def points(n=50):
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_formula_term_by_term():
    polar, x = AngularHarmonics(orders=5, shells=3).double(), points()
    sin, cos = polar(x).chunk(2, -1)
    assert sin.shape == (50, 15) and polar.features == 30
    r, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    for k in range(5):
        for j, c in enumerate((0.5, 1.4, 2.3)):
            size = torch.exp(-(((r - c) / 0.63) ** 2) / 2) * (r**2 / (r**2 + 0.05)) ** (k / 2)
            torch.testing.assert_close(cos[:, 3 * k + j], size * torch.cos(k * angle), rtol=0, atol=1e-6)
            torch.testing.assert_close(sin[:, 3 * k + j], size * torch.sin(k * angle), rtol=0, atol=1e-6)


def test_turning_the_points_turns_each_order_by_its_own_angle():
    polar, x, angle = AngularHarmonics(orders=6, shells=2).double(), points(), 0.7
    sin, cos = polar(x).view(50, 2, 6, 2).unbind(1)
    turned = polar(rotated(x.unsqueeze(0), torch.tensor([angle], dtype=torch.float64))[0])
    sin_after, cos_after = turned.view(50, 2, 6, 2).unbind(1)
    a = torch.arange(6).view(6, 1) * angle
    torch.testing.assert_close(cos_after, cos * a.cos() - sin * a.sin())
    torch.testing.assert_close(sin_after, sin * a.cos() + cos * a.sin())


@pytest.mark.parametrize("arms", [4, 5, 6, 7])
def test_the_number_of_arms_is_the_order_of_the_largest_moment(arms):
    family = StarFamily((arms, arms), (0.5, 0.5), (1.0, 1.0))
    x = draw_stars(family, 8, 512, 0.01, torch.Generator().manual_seed(1)) / 0.53
    moments = AngularHarmonics(12, 4)(x).mean(1).view(8, 2, 12, 4).square().sum((1, 3))  # power of each order
    assert (moments[:, 1:8].argmax(1) + 1 == arms).all()


def test_multiples_of_an_order_make_a_symmetric_kernel():
    polar, x = AngularHarmonics(orders=11, shells=4).double(), points()
    phi, kept = polar(x).view(50, 2, 11, 4), torch.zeros(11, 1, dtype=torch.float64)
    kept[::5] = 1
    read = (phi * kept).flatten(1) @ phi.mean(0).flatten()
    turn = torch.tensor([2 * math.pi / 5], dtype=torch.float64)
    again = (polar(rotated(x.unsqueeze(0), turn)[0]).view(50, 2, 11, 4) * kept).flatten(1) @ phi.mean(
        0
    ).flatten()
    torch.testing.assert_close(again, read)


def test_the_origin_is_no_exception():
    x = torch.zeros(1, 2, requires_grad=True)
    phi = AngularHarmonics(12, 4)(x)
    phi.sum().backward()
    assert torch.isfinite(phi).all() and torch.isfinite(x.grad).all()
    assert torch.isfinite(AngularHarmonics(12, 4)(torch.full((1, 2), 1e4))).all()


def test_side_by_side_sines_come_before_cosines():
    rings, polar, x = RingFourier(2, 3), AngularHarmonics(3, 2), points().float()
    both = PlaneEmbedding(rings, polar)
    phi = both(x)
    assert phi.shape == (50, both.features) == (50, 24)
    sin, cos = phi.chunk(2, -1)
    assert torch.equal(torch.cat((sin[:, :6], cos[:, :6]), 1), rings(x))
    assert torch.equal(torch.cat((sin[:, 6:], cos[:, 6:]), 1), polar(x))
