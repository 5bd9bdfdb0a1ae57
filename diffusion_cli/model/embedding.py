"""Embeddings of numbers (coordinates, the noise level) and of positions in the plane as vectors.

All but one are Fourier features, sin(frequency * x + phase) with phase pi/2 for the cosines: one fused multiply-add and
one sine. They differ in the choice of frequencies alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.network import precise


class FourierFeatures(nn.Module):
    """sin and cos of x at fixed frequencies: (...) -> (..., features), features = 2 * len(frequencies).

    frequencies: (n,), radians per unit of x.
    saved: whether they are part of the state, as random ones must be; otherwise they follow from the options.
    """

    frequency: Tensor
    phase: Tensor

    def __init__(self, frequencies: Tensor, saved: bool = False) -> None:
        super().__init__()
        self.features = 2 * len(frequencies)
        self.register_buffer(
            "frequency", frequencies.repeat(2).to(torch.get_default_dtype()), persistent=saved
        )
        self.register_buffer("phase", _phase(len(frequencies)), persistent=False)

    def size(self, coordinates: int) -> int:
        """Number of features of a point with so many coordinates."""
        return coordinates * self.features

    def squares(self) -> Tensor:
        """The squared frequency of each feature, (features,)."""
        return self.frequency.square()

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.phase, x.unsqueeze(-1), self.frequency).sin_()


class Sinusoidal(FourierFeatures):
    """Geometric frequencies from `scale` down to `scale` / 10000 (Vaswani et al. 2017, as in Ho et al. 2020).

    frequency_k = scale * 10000^(-k / (n - 1)), k = 0..n-1, n = features / 2. The default scale 25 is that of
    tiny-diffusion for coordinates of order one.
    """

    def __init__(self, features: int = 128, scale: float = 25.0) -> None:
        exponent = torch.linspace(0, 1, _pairs(features), dtype=torch.float64)
        super().__init__(scale * 10000**-exponent)


class GaussianFourier(FourierFeatures):
    """Random frequencies 2 pi scale N(0, 1), drawn once and saved (Tancik et al. 2020; Song et al. 2021).

    They are drawn as every initial weight is, from torch's seed (`torch.manual_seed`), and are never trained.
    The default scale 1/4 is EDM's c_noise = ln(sigma) / 4 (Karras et al. 2022, table 1).
    """

    def __init__(self, features: int = 64, scale: float = 0.25) -> None:
        super().__init__(2 * math.pi * scale * torch.randn(_pairs(features)), saved=True)


class Harmonics(FourierFeatures):
    """Octaves scale * (pi/8) * (1, 2, 4, ...), features / 2 of them: unique within |x| < 8 / scale.

    Noise of unit variance must not reach the period: with one octave less, one chain in thousands began where x is
    mistaken for x - 8, and a deterministic sampler never brought it back.
    """

    def __init__(self, features: int = 10, scale: float = 1.0) -> None:
        octave = torch.arange(_pairs(features), dtype=torch.float64)
        super().__init__(scale * math.pi / 8 * 2**octave)


class Waves(nn.Module):
    """sin and cos of w . x at fixed frequencies w: (..., d) -> (..., features), all sines first.

    frequency: (d, n), radians per unit of x.
    """

    frequency: Tensor
    phase: Tensor

    def __init__(self, frequency: Tensor) -> None:
        super().__init__()
        pairs = frequency.shape[1]
        self.features = 2 * pairs
        frequency = frequency.repeat(1, 2).to(torch.get_default_dtype())
        self.register_buffer("frequency", frequency, persistent=False)
        self.register_buffer("phase", _phase(pairs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with precise(x):
            return (x @ self.frequency).add_(self.phase).sin_()


class RingFourier(Waves):
    """Waves of the plane: (..., 2) -> (..., 2 * rings * directions).

    The frequencies lie on `rings` circles of radius `smallest` to `largest` (geometric), `directions` to a half circle
    (-w gives the same waves as w). Each ring is turned by a golden fraction of the step against the one before.
    """

    def __init__(self, rings: int, directions: int, smallest: float = 0.6, largest: float = 9.0) -> None:
        ring = torch.arange(rings, dtype=torch.float64).unsqueeze(1)
        radius = smallest * (largest / smallest) ** (ring / max(rings - 1, 1))
        turn = (1 + math.sqrt(5)) / 2
        angle = math.pi / directions * (torch.arange(directions, dtype=torch.float64) + turn * ring)
        # (2, rings, directions)
        super().__init__(torch.stack([radius * angle.cos(), radius * angle.sin()]).flatten(1))


class SphereFourier(Waves):
    """Waves of space: (..., 3) -> (..., 2 * rings * directions).

    The frequencies lie on `rings` spheres of radius `smallest` to `largest` (geometric), `directions` to a half sphere
    (-w gives the same waves as w): a Fibonacci spiral, which goes on turning from sphere to sphere.
    """

    def __init__(self, rings: int, directions: int, smallest: float = 0.6, largest: float = 12.0) -> None:
        ring = torch.arange(rings, dtype=torch.float64).unsqueeze(1)
        place = torch.arange(directions, dtype=torch.float64)
        radius = smallest * (largest / smallest) ** (ring / max(rings - 1, 1))
        height = (place + 0.5) / directions
        angle = math.pi * (3 - math.sqrt(5)) * (place + directions * ring)
        across = (1 - height.square()).sqrt()
        directed = torch.stack([across * angle.cos(), across * angle.sin(), height.expand_as(angle)])
        super().__init__((radius * directed).flatten(1))


class PlaneFourier(RingFourier):
    """The waves of the plane and, beside them, x / sqrt(2), which has a wave's mean square: (..., 2) -> (..., waves + 2).

    Far out, where training hardly ever looks, waves alone fold the plane back upon itself: of ten thousand deterministic
    chains one, begun beyond |x_T| = 4, ended 5 away.
    """

    @classmethod
    def of_size(cls, features: int = 160, scale: float = 40.0) -> PlaneFourier:
        """Waves in 8 directions from 0.5 radians per unit, the circle as a whole, to `scale`, details of 2 pi / scale."""
        return cls(features // 16, 8, min(0.5, scale), scale)

    def size(self, coordinates: int) -> int:
        """Number of features of a point of the plane."""
        return self.features + coordinates

    def squares(self) -> Tensor:
        """|w|^2 of each feature, (features,); x itself does not oscillate."""
        return torch.cat([self.frequency.square().sum(0), self.frequency.new_zeros(2)])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), x / math.sqrt(2)], dim=-1)


class IdentityEmbedding(nn.Module):
    """The number itself as one feature: (...) -> (..., 1)."""

    features = 1

    def size(self, coordinates: int) -> int:
        """Number of features of a point with so many coordinates."""
        return coordinates

    def squares(self) -> Tensor:
        """Zero: nothing oscillates."""
        return torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1)


Embedding = FourierFeatures | PlaneFourier | IdentityEmbedding

EMBEDDINGS: dict[str, Callable[..., Embedding]] = {
    "rings": PlaneFourier.of_size,
    "harmonics": Harmonics,
    "sinusoidal": Sinusoidal,
    "fourier": GaussianFourier,
    "none": IdentityEmbedding,
}


def embedding(axis: str, name: str, features: int | None = None, scale: float | None = None) -> Embedding:
    """The embedding that a network's options describe.

    axis: "x" or "time", for messages: ArgumentError names AXIS_features or AXIS_scale.
    name: one of EMBEDDINGS.
    features: even, for rings a multiple of 16; None for the embedding's own default.
    scale: > 0; None for the embedding's own default.
    """
    given = {"features": features, "scale": scale}
    options = {option: value for option, value in given.items() if value is not None}
    if name == "none":
        for option, value in options.items():
            raise ArgumentError(f"{axis}_{option}", value, f"has no meaning with {axis}_embedding=none")
    if name == "rings" and features is not None and features % 16:
        raise ArgumentError(f"{axis}_features", features, "must be a multiple of 16, for 8 directions")
    return EMBEDDINGS[name](**options)


def fading(squares: Tensor, noise_level: Tensor) -> Tensor:
    """exp(-|w|^2 sigma^2 / 2), the factor of a wave of x_t that noise of this level leaves in the mean: (B, features).

    What is finer than the noise carries no information: unless it fades, the network fits the draws of its batch there,
    and predictions at high noise are three times as far from the exact ones. As the integrated encoding of mip-NeRF
    (Barron et al. 2021, eq. 14) with the noise as the blur.

    squares: |w|^2, (features,).
    noise_level: log(sigma / alpha), (B,).
    """
    exponent = torch.sigmoid(2 * noise_level)[:, None] * squares.mul(-0.5).to(noise_level)
    # Below -30 lie denormal numbers, on which a CPU is many times slower.
    return exponent.clamp_(min=-30).exp_()


def _pairs(features: int) -> int:
    if features < 2 or features % 2:
        raise ArgumentError("features", features, "must be even: sines and cosines come in pairs")
    return features // 2


def _phase(pairs: int) -> Tensor:
    """0 for the sines, pi/2 for the cosines, (2 * pairs,)."""
    phase = torch.tensor([0.0, math.pi / 2], dtype=torch.float64).repeat_interleave(pairs)
    return phase.to(torch.get_default_dtype())
