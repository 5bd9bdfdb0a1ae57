"""Waves around the origin beside plane waves: how many arms a set of points has is one number in its moments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_cli.model.embedding import Rings

CORE = 0.05  # squared radius of the disc around the origin where the angle fades out, so that features are smooth
FIRST, LAST = 0.5, 2.3  # radii of the first and the last shell, for points of unit variance
OVERLAP = 0.7  # standard deviation of a shell, of the distance between two


class Polar(nn.Module):
    """Angular harmonics on shells: (..., 2) -> (..., 2 * orders * shells), all sines first, then all cosines.

    exp(-(|x| - c)^2 / (2 w^2)) (|x|^2 / (|x|^2 + 0.05))^(k/2) exp(i k angle(x)), k = 0..orders - 1, for `shells` radii c
    from 0.5 to 2.3 and w = 0.7 of their distance. Linear attention over them has the kernel sum_k g_k cos(k (a - a')):
    kept at the multiples of k alone it makes whatever it reads k-fold symmetric, which plane waves cannot far from the
    origin. The origin should be the middle of the data.
    """

    radius: Tensor

    def __init__(self, orders: int = 12, shells: int = 4) -> None:
        super().__init__()
        self.orders, self.features = orders, 2 * orders * shells
        self.width = OVERLAP * (LAST - FIRST) / max(shells - 1, 1)
        radius = torch.linspace(FIRST, LAST, shells) if shells > 1 else torch.tensor([(FIRST + LAST) / 2])
        self.register_buffer("radius", radius, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        squared = x.square().sum(-1, keepdim=True)
        cos, sin = (x * torch.rsqrt(squared + CORE)).unbind(-1)
        powers = [(torch.zeros_like(sin), torch.ones_like(cos))]  # imaginary and real part of each power
        for _ in range(self.orders - 1):
            im, re = powers[-1]
            powers.append((im * cos + re * sin, re * cos - im * sin))
        angular = torch.stack(
            [torch.stack(part, -1) for part in zip(*powers, strict=True)], -2
        )  # (..., 2, orders)
        # The square root of zero has no slope; 1e-12 is no radius.
        shell = torch.exp(-(((squared + 1e-12).sqrt() - self.radius) / self.width).square() / 2)
        return (angular.unsqueeze(-1) * shell[..., None, None, :]).flatten(-3)


class RingsAndHarmonics(nn.Module):
    """Rings and Polar side by side: (..., 2) -> (..., features), their sines first, then their cosines in like order."""

    def __init__(self, rings: Rings, polar: Polar) -> None:
        super().__init__()
        self.rings, self.polar = rings, polar
        self.features = rings.features + polar.features

    def forward(self, x: Tensor) -> Tensor:
        (ring_sin, ring_cos), (polar_sin, polar_cos) = (w(x).chunk(2, -1) for w in (self.rings, self.polar))
        return torch.cat((ring_sin, polar_sin, ring_cos, polar_cos), -1)
