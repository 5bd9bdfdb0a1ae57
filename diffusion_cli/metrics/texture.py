"""Statistics of images at several scales, with no weights: what a classifier of clean images need not look at.

A classifier says nothing of what it never met: pure noise falls among its images. The energy of an image in each band of
scales, how that energy is spread over places, and how heavy its tails are tell noise and blur from images of any kind.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 3  # bands, each of half the resolution of the one before
FLOOR = 0.04  # of a root mean square, in units of x0: five steps of a byte, which nobody sees
CELLS = 4  # places along a side between which the energy of a band is compared


def texture(x: Tensor) -> Tensor:
    """(B, K) of x (B, C, H, W) in [-1, 1]: mean and deviation of each channel, and of each band of the Laplacian pyramid
    (Burt & Adelson 1983), the image less its blurred self, three numbers for each channel.

    log energy: log of the root mean square; tails: log of the ratio of root mean square and mean absolute value, 0.23 for a
    Gaussian; spread: standard deviation of the log energy of 4 x 4 places.
    """
    found = [x.mean((2, 3)), x.std((2, 3), correction=0)]
    for _ in range(LEVELS):
        if min(x.shape[2:]) < 2:
            break
        small = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        band = x - F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=False)
        energy = band.square().mean((2, 3)).sqrt() + FLOOR
        found += [energy.log(), (energy / (band.abs().mean((2, 3)) + FLOOR)).log()]
        places = F.adaptive_avg_pool2d(band.square(), min(CELLS, *band.shape[2:])).sqrt() + FLOOR
        found.append(places.log().flatten(2).std(2, correction=0))
        x = small
    return torch.cat(found, 1)


class Texture(nn.Module):
    """The statistics of `texture`, each centred and scaled by its deviation over real images.

    shape: of an image, (C, H, W).

    A statistic z deviations from the centre counts as asinh(z): one that is far off must not drown all others.
    mean, deviation: (K,), and scale, which `fit` sets.
    """

    mean: Tensor
    deviation: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        count = texture(torch.zeros(1, *shape)).shape[1]
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, real: Tensor, variance: float) -> None:
        """Takes centre and scale from real images (B, C, H, W), so that the statistics have this variance in all."""
        found = texture(real)
        self.mean.copy_(found.mean(0))
        # Images may be all alike in one of them.
        self.deviation.copy_(found.std(0).clamp(min=FLOOR))
        self.scale.fill_((variance / found.shape[1]) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return ((texture(x) - self.mean) / self.deviation).asinh() * self.scale
