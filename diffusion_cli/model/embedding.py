"""Embeddings of numbers (coordinates, the noise level), of positions in the plane and of labels as vectors.

Every wave embedding is the same formula, sin(frequency * x + phase), with phase pi/2 for the cosines: one fused
multiply-add and one sine, whatever the frequencies. They differ in the choice of frequencies alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffusion_cli.errors import UserError
from diffusion_cli.model import options


class Waves(nn.Module):
    """sin and cos of x at fixed frequencies: (...) -> (..., features), features = 2 * len(frequencies).

    `frequencies` (n,): radians per unit of x. With `saved` they are part of the state (random ones must be);
    otherwise they follow from the options and the state holds nothing.
    """

    frequency: Tensor
    phase: Tensor

    def __init__(self, frequencies: Tensor, saved: bool = False) -> None:
        super().__init__()
        self.features = 2 * len(frequencies)
        dtype = torch.get_default_dtype()
        phase = torch.tensor([0.0, math.pi / 2], dtype=torch.float64).repeat_interleave(len(frequencies))
        self.register_buffer("frequency", frequencies.repeat(2).to(dtype), persistent=saved)
        self.register_buffer("phase", phase.to(dtype), persistent=False)

    def size(self, coordinates: int) -> int:
        """Features of a whole point."""
        return coordinates * self.features

    def squares(self) -> Tensor:
        """|w|^2 of each feature, (features,)."""
        return self.frequency.square()

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.phase, x.unsqueeze(-1), self.frequency).sin_()


class Sinusoidal(Waves):
    """Geometric frequencies from `scale` down to `scale` / 10000 (Vaswani et al. 2017, as in Ho et al. 2020).

    frequency_k = scale * 10000^(-k / (n - 1)), k = 0..n-1, n = features / 2. The default scale 25 is that of
    tiny-diffusion for coordinates of order one.
    """

    def __init__(self, features: int = 128, scale: float = 25.0) -> None:
        exponent = torch.linspace(0, 1, _pairs(features), dtype=torch.float64)
        super().__init__(scale * 10000**-exponent)


class GaussianFourier(Waves):
    """Random frequencies 2 pi scale N(0, 1), drawn once and saved (Tancik et al. 2020; Song et al. 2021).

    They are drawn as every initial weight is, from torch's seed (`torch.manual_seed`), and are never trained.
    The default scale 1/4 is EDM's c_noise = ln(sigma) / 4 (Karras et al. 2022, table 1).
    """

    def __init__(self, features: int = 64, scale: float = 0.25) -> None:
        super().__init__(2 * math.pi * scale * torch.randn(_pairs(features)), saved=True)


class Harmonics(Waves):
    """Octaves scale * (pi/8) * (1, 2, 4, ...), features / 2 of them: unique within |x| < 8 / scale.

    Noise of unit variance must not reach the period: with one octave less, one chain in thousands began where x is
    mistaken for x - 8, and a deterministic sampler never brought it back.
    """

    def __init__(self, features: int = 10, scale: float = 1.0) -> None:
        octave = torch.arange(_pairs(features), dtype=torch.float64)
        super().__init__(scale * math.pi / 8 * 2**octave)


class Identity(nn.Module):
    """The number itself as one feature: (...) -> (..., 1)."""

    features = 1

    def size(self, coordinates: int) -> int:
        return coordinates

    def squares(self) -> Tensor:
        return torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1)


OF_X = ("rings", "harmonics", "sinusoidal", "fourier", "none")
OF_TIME = ("fourier", "sinusoidal", "none")


def embedding(
    axis: str, name: str, features: int | None = None, scale: float | None = None
) -> Waves | Rings | Identity:
    """The embedding a user asks for: `axis` "x" or "time", `name` among OF_X or OF_TIME.

    `features` (even) and `scale` (> 0) of None take the class's own default. UserError names model.AXIS_embedding,
    model.AXIS_features or model.AXIS_scale.
    """
    options.one_of(f"{axis}_embedding", name, OF_X if axis == "x" else OF_TIME)
    chosen: dict[str, float] = {}
    if features is not None:
        chosen["features"] = options.multiple(f"{axis}_features", features, 16 if name == "rings" else 2)
    if scale is not None:
        chosen["scale"] = options.positive(f"{axis}_scale", scale)
    if name == "none":
        for option, value in chosen.items():
            raise UserError(
                f"model.{axis}_{option}", value, f"has no meaning with model.{axis}_embedding=none"
            )
        return Identity()
    waves: dict[str, type[Waves] | type[Rings]] = {
        "rings": PlaneWaves,
        "harmonics": Harmonics,
        "sinusoidal": Sinusoidal,
        "fourier": GaussianFourier,
    }
    return waves[name](**chosen)


class Rings(nn.Module):
    """sin and cos of w . x at fixed frequencies w of the plane: (..., 2) -> (..., 2 * rings * directions).

    The frequencies lie on `rings` circles of radius `smallest` to `largest` (geometric), `directions` to a half circle
    (-w gives the same waves as w), every ring turned by a golden fraction of the step against the one before.
    """

    frequency: Tensor
    phase: Tensor

    def __init__(
        self, rings: int = 8, directions: int = 8, smallest: float = 0.6, largest: float = 9.0
    ) -> None:
        super().__init__()
        self.features = 2 * rings * directions
        ring = torch.arange(rings, dtype=torch.float64).unsqueeze(1)
        radius = smallest * (largest / smallest) ** (ring / max(rings - 1, 1))
        turn = (1 + math.sqrt(5)) / 2
        angle = math.pi / directions * (torch.arange(directions, dtype=torch.float64) + turn * ring)
        frequency = torch.stack([radius * angle.cos(), radius * angle.sin()])  # (2, rings, directions)
        frequency = frequency.flatten(1).repeat(1, 2)  # (2, features)
        phase = torch.tensor([0.0, math.pi / 2], dtype=torch.float64).repeat_interleave(rings * directions)
        self.register_buffer("frequency", frequency.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("phase", phase.to(torch.get_default_dtype()), persistent=False)

    def size(self, coordinates: int) -> int:
        if coordinates != 2:
            raise UserError("model.x_embedding", "rings", "is for points of the plane", ("harmonics", "none"))
        return self.features

    def squares(self) -> Tensor:
        """|w|^2 of each feature, (features,)."""
        return self.frequency.square().sum(0)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.frequency).add_(self.phase).sin_()


class PlaneWaves(Rings):
    """Rings of 8 directions from 0.8 radians per unit, the circle as a whole, up to `scale`, details of 2 pi / scale."""

    def __init__(self, features: int = 160, scale: float = 40.0) -> None:
        super().__init__(features // 16, 8, min(0.8, scale), scale)


class LabelEmbedding(nn.Embedding):
    """A learned vector per label: (B,) int64 in 0..num_classes, or None -> (B or 1, features).

    Row `num_classes` stands for "no label", and None means that row for the whole batch.
    """

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__(num_classes + 1, features)

    def forward(self, label: Tensor | None) -> Tensor:
        return self.weight[-1:] if label is None else super().forward(label)


def _pairs(features: int) -> int:
    if features < 2 or features % 2:
        raise ValueError(f"features={features}: sines and cosines come in pairs")
    return features // 2


def fading(squares: Tensor, noise: Tensor) -> Tensor:
    """exp(-|w|^2 sigma^2 / 2), the share of a wave of x_t that noise of this level leaves in the mean: (B, features).

    What is finer than the noise tells a network nothing: unless it fades, the network fits the draws of its batch
    there, and predictions at high noise are three times as far from the exact ones. As the integrated encoding of
    mip-NeRF (Barron et al. 2021, eq. 14) with the noise as the blur. squares = |w|^2 (features,); noise (B,) =
    log(sigma / alpha).
    """
    exponent = torch.sigmoid(2 * noise)[:, None] * squares.mul(-0.5).to(noise)
    return exponent.clamp_(min=-30).exp_()  # below lie denormal numbers, on which a CPU is many times slower


class Levels:
    """The noise levels of a batch, each once: what depends on the noise alone is computed for `values` (L,), then spread.

    Training draws its times from 1..T, mostly, so that a large batch has few. Where they are not, or the batch is small,
    looking for them costs more than it saves, and the values are the batch's own; so they are on a GPU, where the host
    would wait for their number. noise (B,), or (1,) for a whole batch.
    """

    WORTH = 128  # samples, at least two to a level

    def __init__(self, noise: Tensor) -> None:
        self.values, self.row = noise, None
        if len(noise) >= self.WORTH and noise.device.type == "cpu":
            values, row = noise.unique(return_inverse=True)
            if 2 * len(values) <= len(noise):
                self.values, self.row = values, row

    def spread(self, rows: Tensor) -> Tensor:
        """(L, features) -> that of each sample, (B, features)."""
        return rows if self.row is None else rows.index_select(0, self.row)
