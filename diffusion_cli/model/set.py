"""Networks on sets of points, in the plane or in space: exactly permutation-equivariant, any number of points, cost linear in it.

All share one residual block. Points h (B, P, width) and a vector g (B, 2 width) of the whole set, which starts as an
embedding of the noise level and the label, update each other:

    c = LayerNorm(g)      bounds what follows: gates and scales multiply from block to block
    u = SiLU((1 + scale(c)) * (Linear(h) + mix(h, c, phi)) + shift(c))      FiLM (Perez et al. 2018)
    g = g + Linear(pool(u)),    h = h + Linear(u)

What differs is `mix`, the way in which a point depends on the others other than through g, and `pool`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.conditioning import Conditioning, NoiseLevels, embedded_level, modulated
from diffusion_cli.model.embedding import RingFourier, SphereFourier
from diffusion_cli.model.linear import Linear
from diffusion_cli.model.network import Label, Network, Numbers, precise, zeroed
from diffusion_cli.model.polar import AngularHarmonics, PlaneEmbedding
from diffusion_cli.ranges import Count, Depth, Even, Positive, Whole, Width, checked


class FourierMix(nn.Module):
    """Linear attention over waves phi of the positions: (B, P, width) -> (B, P, hidden).

    M = phi^T V(h) / (sqrt(n) P) per set, gated per frequency by c, read back as phi M, with phi (B, P, 2n) n sines
    and their n cosines. With plane waves, point i reads the mean over j of K(x_i - x_j) V(h_j) in O(P): a convolution
    whose kernel K(d) = sum_w gate_w cos(w . d) / sqrt(n) depends on c. With angular harmonics, it is one in the angle.
    """

    def __init__(self, width: int, hidden: int, context: int, features: int) -> None:
        super().__init__()
        self.value = Linear(width, hidden, bias=False)
        self.gate = Linear(context, features // 2)

    def forward(self, h: Tensor, c: Tensor, phi: Tensor) -> Tensor:
        # (B or 1, n)
        gate = (1 + self.gate(c)) / (self.gate.out_features**0.5 * phi.shape[1])
        gate = gate.repeat(1, 2).unsqueeze(-1)
        # V after the sum over points: 2n rows instead of P
        moments = self.value(phi.transpose(1, 2) @ h)
        return phi @ (gate * moments)


class InducingMix(nn.Module):
    """Attention through learned inducing points: (B, P, width) -> (B, P, hidden), O(P * points).

    The inducing points, shifted by c, attend to the set, and the set attends to them (Lee et al. 2019, eq. 9).
    """

    def __init__(self, width: int, hidden: int, context: int, points: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.points = nn.Parameter(torch.randn(points, width))
        self.shift = Linear(context, width)
        self.norm = nn.LayerNorm(width)
        self.gather_key_value = Linear(width, 2 * width)
        self.inner = nn.Sequential(
            nn.LayerNorm(width), Linear(width, hidden), nn.SiLU(), Linear(hidden, width)
        )
        self.query = Linear(width, width)
        self.key_value = nn.Sequential(nn.LayerNorm(width), Linear(width, 2 * width))
        self.out = Linear(width, hidden)

    def forward(self, h: Tensor, c: Tensor, phi: Tensor) -> Tensor:
        h = self.norm(h)
        points = self.points + self.shift(c).unsqueeze(1)
        points = points + self._attend(points.expand(len(h), -1, -1), self.gather_key_value(h))
        points = points + self.inner(points)
        return self.out(self._attend(self.query(h), self.key_value(points)))

    def _attend(self, query: Tensor, key_value: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (query, *key_value.chunk(2, dim=-1))
        )
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class AttentionPool(nn.Module):
    """Weighted mean over the points, (B, P, hidden) -> (B, hidden): a softmax of learned scores per head."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.score = Linear(hidden, heads)

    def forward(self, u: Tensor) -> Tensor:
        # (B, P, heads)
        weight = self.score(u).softmax(dim=1)
        return torch.einsum("bph,bphc->bhc", weight, u.unflatten(-1, (weight.shape[-1], -1))).flatten(1)


def mean_pool(u: Tensor) -> Tensor:
    """(B, P, hidden) -> (B, hidden): the mean over the points."""
    return u.mean(dim=1)


def max_pool(u: Tensor) -> Tensor:
    """(B, P, hidden) -> (B, hidden): the maximum over the points."""
    return u.amax(dim=1)


Pool = Callable[[Tensor], Tensor]


class SetBlock(nn.Module):
    """One residual block, as at the top of this file. Without `mix` (None) points depend on each other through g alone."""

    def __init__(
        self, width: int, hidden: int, context: int, mix: nn.Module | None, pool: Pool = mean_pool
    ) -> None:
        super().__init__()
        self.mix, self.pool = mix, pool
        self.norm = nn.LayerNorm(context)
        self.inner = Linear(width, hidden)
        self.film = Linear(context, 2 * hidden)
        self.to_context = Linear(hidden, context)
        self.outer = Linear(hidden, width)

    def forward(self, h: Tensor, g: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        c = self.norm(g)
        u = self.inner(h)
        if self.mix is not None:
            u = u + self.mix(h, c, phi)
        u = F.silu(modulated(u, self.film(c)))
        return h + self.outer(u), g + self.to_context(self.pool(u))


@checked
class SetNet(Network):
    """Network on sets of points, in the plane or in space: exactly permutation-equivariant, any number of points.

        h, g = Linear([x, phi(x)]), MLP(fourier(noise_level)) + table[label]
        h, g = block(h, g, phi(x)), `depth` times
        out  = Linear(SiLU(FiLM(h, g)))

    x is (B, P, d) with d = 2 or 3 and any P; the P of `shape` is not used.

    kind: how points depend on each other: fourier (FourierMix), inducing (InducingMix), or deepsets (through a pooled
        vector alone, Zaheer et al. 2017).
    width: features of a point; hidden layers and g have twice as many.
    depth: number of residual blocks.
    pooling: over the points: mean, max or attention.
    points: number of inducing points, of kind=inducing.
    heads: attention heads, of kind=inducing and of pooling=attention; must divide width.
    rings: circles, or spheres in space, on which the frequencies of the waves lie.
    directions: frequencies on each half circle or half sphere; null: 5 in the plane, 8 in space.
    orders: angular harmonics about the origin of the plane, 0..orders - 1; in space there are none.
    shells: radii at which the angular harmonics are seen.
    time_features: number of features that embed the noise level, even.
    time_scale: factor of the random frequencies that embed the noise level.
    zero_init: whether the network starts as exactly zero.

    Raises ArgumentError for bad options or a shape that is no set of points, ValueError for x of a wrong
    shape, or a label without classes.

    >>> SetNet((1024, 2))(torch.randn(4, 200, 2), torch.zeros(1)).shape
    torch.Size([4, 200, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Whole = 0,
        kind: Literal["fourier", "deepsets", "inducing"] = "fourier",
        width: Width = 64,
        depth: Depth = 4,
        pooling: Literal["mean", "max", "attention"] = "mean",
        points: Width = 16,
        heads: Count = 4,
        rings: Width = 8,
        directions: Width | None = None,
        orders: Width = 12,
        shells: Width = 4,
        time_features: Even = 64,
        time_scale: Positive = 0.25,
        zero_init: bool = True,
        outputs: Count = 1,
        numbers: Whole = 0,
    ) -> None:
        super().__init__(shape, num_classes, outputs, numbers)
        if len(self.shape) != 2 or self.shape[1] not in (2, 3):
            reason = f"SetNet needs sets of points of shape (P, 2) or (P, 3), not {self.shape}"
            raise ArgumentError("", ..., reason)
        if width % heads:
            raise ArgumentError("heads", heads, f"must divide the width, {width}")
        hidden = context = 2 * width

        coordinates = self.shape[1]
        self.embed_x: PlaneEmbedding | SphereFourier
        if coordinates == 2:
            waves = RingFourier(rings, directions or 5)
            self.embed_x = PlaneEmbedding(waves, AngularHarmonics(orders, shells))
        else:
            self.embed_x = SphereFourier(rings, directions or 8)
        self.from_x = Linear(coordinates + self.embed_x.features, width)
        from_noise_level = embedded_level(time_features, time_scale, context, Linear)
        self.context = Conditioning(from_noise_level, num_classes, context, numbers)

        def block() -> SetBlock:
            pools: dict[str, Pool] = {"mean": mean_pool, "max": max_pool}
            pool = pools[pooling] if pooling in pools else AttentionPool(hidden, heads)
            mix: nn.Module | None = None
            if kind == "fourier":
                mix = FourierMix(width, hidden, context, self.embed_x.features)
            elif kind == "inducing":
                mix = InducingMix(width, hidden, context, points, heads)
            return SetBlock(width, hidden, context, mix, pool)

        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.film = Linear(context, 2 * width)
        self.head = zeroed(Linear(width, coordinates * outputs), zero_init)

    def check_shape(self, x: Tensor) -> None:
        """Raises ValueError where x is not (B, P, d), with any P and the d of `shape`."""
        if x.ndim != 3 or x.shape[2] != self.shape[1]:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (B, P, {self.shape[1]})")

    def forward(self, x: Tensor, noise_level: Tensor, label: Label = None, numbers: Numbers = None) -> Tensor:
        self.check_shape(x)
        g = self.context(NoiseLevels(noise_level), label, numbers)
        phi = self.embed_x(x)
        h = self.from_x(torch.cat([x, phi], dim=-1))
        for block in self.blocks:
            h, g = block(h, g, phi)
        with precise(x):
            out = self.head(F.silu(modulated(h.to(x.dtype), self.film(g.to(x.dtype)))))
        return out if self.outputs == 1 else out.unflatten(-1, (self.outputs, self.shape[1])).transpose(1, 2)
