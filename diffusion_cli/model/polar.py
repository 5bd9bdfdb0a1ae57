"""Angular harmonics about the origin beside plane waves: the number of arms of a set of points is the order of a moment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_cli.model.embedding import RingFourier

# squared radius of the disc around the origin where the angle fades out, so that features are smooth
CORE = 0.05
# radii of the first and the last shell, for points of unit variance
FIRST, LAST = 0.5, 2.3
# standard deviation of a shell, as a fraction of the distance between two
OVERLAP = 0.7


class AngularHarmonics(nn.Module):
    """Harmonics of the angle on shells: (..., 2) -> (..., 2 * orders * shells), all sines first, then all cosines.

    exp(-(|x| - c)^2 / (2 w^2)) (|x|^2 / (|x|^2 + 0.05))^(k/2) exp(i k angle(x)), k = 0..orders - 1, for `shells` radii c
    from 0.5 to 2.3 and w = 0.7 of their distance. Linear attention over them has the kernel sum_k g_k cos(k (a - a')).
    If g_k is zero but at the multiples of m, what is read is m-fold symmetric, which plane waves cannot achieve far from
    the origin. The data should be centred at the origin.
    """

    radius: Tensor

    def __init__(self, orders: int, shells: int) -> None:
        super().__init__()
        self.orders, self.features = orders, 2 * orders * shells
        self.width = OVERLAP * (LAST - FIRST) / max(shells - 1, 1)
        radius = torch.linspace(FIRST, LAST, shells) if shells > 1 else torch.tensor([(FIRST + LAST) / 2])
        self.register_buffer("radius", radius, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        squared = x.square().sum(-1, keepdim=True)
        cos, sin = (x * torch.rsqrt(squared + CORE)).unbind(-1)
        # imaginary and real part of each power of cos + i sin
        powers = [(torch.zeros_like(sin), torch.ones_like(cos))]
        for _ in range(self.orders - 1):
            im, re = powers[-1]
            powers.append((im * cos + re * sin, re * cos - im * sin))
        # (..., 2, orders)
        angular = torch.stack([torch.stack(part, -1) for part in zip(*powers, strict=True)], -2)
        # The square root has no derivative at zero; 1e-12 is no radius.
        shell = torch.exp(-(((squared + 1e-12).sqrt() - self.radius) / self.width).square() / 2)
        return (angular.unsqueeze(-1) * shell[..., None, None, :]).flatten(-3)


class PlaneEmbedding(nn.Module):
    """Both embeddings side by side: (..., 2) -> (..., features), all sines first, then all cosines in the same order."""

    def __init__(self, rings: RingFourier, polar: AngularHarmonics) -> None:
        super().__init__()
        self.rings, self.polar = rings, polar
        self.features = rings.features + polar.features

    def forward(self, x: Tensor) -> Tensor:
        (ring_sin, ring_cos), (polar_sin, polar_cos) = (w(x).chunk(2, -1) for w in (self.rings, self.polar))
        return torch.cat((ring_sin, polar_sin, ring_cos, polar_cos), -1)
