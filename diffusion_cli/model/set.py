"""Networks on sets of points in the plane: exactly permutation-equivariant, any number of points, cost linear in it.

All share one residual block. Points h (B, P, width) and a vector g (B, 2 width) of the whole set, which starts as an
embedding of the noise level and the label, inform each other:

    c = LayerNorm(g)      bounds what follows: gates and scales multiply from block to block
    u = SiLU((1 + scale(c)) * (Linear(h) + mix(h, c, phi)) + shift(c))      FiLM (Perez et al. 2018)
    g = g + Linear(pool(u)),    h = h + Linear(u)

What differs is `mix`, the way in which a point hears of the others beyond g, and `pool`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import UserError
from diffusion_cli.model import options
from diffusion_cli.model.embedding import GaussianFourier, LabelEmbedding, Rings
from diffusion_cli.model.linear import Linear
from diffusion_cli.model.polar import Polar, RingsAndHarmonics


class FourierMix(nn.Module):
    """Linear attention over waves phi of the positions: (B, P, width) -> (B, P, hidden).

    M = phi^T V(h) / (sqrt(n) P) per set, gated per frequency by c, read back as phi M, with phi (B, P, 2n) n sines
    and their n cosines. Of plane waves point i so reads the mean over j of K(x_i - x_j) V(h_j), a convolution whose
    kernel K(d) = sum_w gate_w cos(w . d) / sqrt(n) is shaped by c, in O(P); of angular harmonics, the like in the angle.
    """

    def __init__(self, width: int, hidden: int, context: int, features: int) -> None:
        super().__init__()
        self.value = Linear(width, hidden, bias=False)
        self.gate = Linear(context, features // 2)

    def forward(self, h: Tensor, c: Tensor, phi: Tensor) -> Tensor:
        gate = (1 + self.gate(c)) / (self.gate.out_features**0.5 * phi.shape[1])  # (B or 1, n)
        gate = gate.repeat(1, 2).unsqueeze(-1)
        moments = self.value(phi.transpose(1, 2) @ h)  # V after the sum over points: 2n rows instead of P
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
        weight = self.score(u).softmax(dim=1)  # (B, P, heads)
        return torch.einsum("bph,bphc->bhc", weight, u.unflatten(-1, (weight.shape[-1], -1))).flatten(1)


def mean_pool(u: Tensor) -> Tensor:
    """(B, P, hidden) -> (B, hidden): the mean over the points."""
    return u.mean(dim=1)


def max_pool(u: Tensor) -> Tensor:
    """(B, P, hidden) -> (B, hidden): the maximum over the points."""
    return u.amax(dim=1)


Pool = Callable[[Tensor], Tensor]


def modulated(u: Tensor, film: Tensor) -> Tensor:
    """(1 + scale) u + shift, the same for every point: u (B, P, c), film (B or 1, 2 c) = [scale, shift]."""
    scale, shift = film.unsqueeze(1).chunk(2, dim=-1)
    return torch.addcmul(shift, 1 + scale, u)


class Block(nn.Module):
    """One residual block, as at the top of this file; no `mix` (None) leaves g alone to carry the others' news."""

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


class SetNet(nn.Module):
    """Network on sets of points in the plane: net(x, noise, label) -> like x, or (B, outputs, P, 2) if outputs > 1.

    h = Linear([x, phi(x)]), g = MLP(fourier(noise)) + table[label], `depth` blocks, out = Linear(SiLU(FiLM(h, g))).

    x (B, P, 2) float, any P (the P of `shape` is not used); noise = log(sigma / alpha), (B,) or (1,); label int64
    (B,) in 0..num_classes, where num_classes means "no label", as does None. ValueError: a wrong shape, or a label
    without classes.

    kind: fourier (FourierMix), inducing (InducingMix with that many `points`) or deepsets (no mix: pooled g alone,
    Zaheer et al. 2017). pooling: mean | max | attention. heads: of the two attentions; must divide width.
    width, depth: of the points' features (hidden and g have twice as many), number of blocks. rings, directions: of
    embedding.Rings. orders, shells: of polar.Polar. time_features, time_scale: of GaussianFourier. zero_init, outputs:
    as of MLP. UserError: bad options, or a dataset that is no set of points in the plane.

    >>> SetNet((1024, 2))(torch.randn(4, 200, 2), torch.zeros(1)).shape
    torch.Size([4, 200, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        kind: str = "fourier",
        width: int = 64,
        depth: int = 4,
        pooling: str = "mean",
        points: int = 16,
        heads: int = 4,
        rings: int = 8,
        directions: int = 5,
        orders: int = 12,
        shells: int = 4,
        time_features: int = 64,
        time_scale: float = 0.25,
        zero_init: bool = True,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        if len(self.shape) != 2 or self.shape[1] != 2:
            raise UserError("model", "set", f"needs sets of points of shape (P, 2), not {self.shape}")
        options.one_of("kind", kind, ("fourier", "deepsets", "inducing"))
        options.one_of("pooling", pooling, ("mean", "max", "attention"))
        hidden = context = 2 * options.whole("width", width)
        options.whole("points", points)
        options.divisor("heads", heads, width)
        options.multiple("time_features", time_features, 2)
        self.outputs = options.whole("outputs", outputs)

        self.embed_x = RingsAndHarmonics(
            Rings(options.whole("rings", rings), options.whole("directions", directions)),
            Polar(options.whole("orders", orders), options.whole("shells", shells)),
        )
        self.from_x = Linear(2 + self.embed_x.features, width)
        self.from_time = nn.Sequential(
            GaussianFourier(time_features, options.positive("time_scale", time_scale)),
            Linear(time_features, context),
            nn.SiLU(),
            Linear(context, context),
        )
        self.from_label = LabelEmbedding(num_classes, context) if num_classes else None

        def block() -> Block:
            pools: dict[str, Pool] = {"mean": mean_pool, "max": max_pool}
            pool = pools[pooling] if pooling in pools else AttentionPool(hidden, heads)
            mix: nn.Module | None = None
            if kind == "fourier":
                mix = FourierMix(width, hidden, context, self.embed_x.features)
            elif kind == "inducing":
                mix = InducingMix(width, hidden, context, points, heads)
            return Block(width, hidden, context, mix, pool)

        self.blocks = nn.ModuleList(block() for _ in range(options.whole("depth", depth)))
        self.film = Linear(context, 2 * width)
        self.head = Linear(width, 2 * outputs)
        if options.flag("zero_init", zero_init):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if x.ndim != 3 or x.shape[2] != 2:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (B, P, 2)")
        g = self.from_time(noise)
        if self.from_label is not None:
            g = g + self.from_label(label)
        elif label is not None:
            raise ValueError("a label was given to a network without classes (num_classes=0)")
        phi = self.embed_x(x)
        h = self.from_x(torch.cat([x, phi], dim=-1))
        for block in self.blocks:
            h, g = block(h, g, phi)
        out = self.head(F.silu(modulated(h, self.film(g))))
        return out if self.outputs == 1 else out.unflatten(-1, (self.outputs, 2)).transpose(1, 2)
