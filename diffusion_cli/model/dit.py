"""A diffusion transformer for images: nearly all of its work is matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.blocks2d import attend
from diffusion_cli.model.conditioning import Conditioning, NoiseLevels, embedded_level, modulated
from diffusion_cli.model.network import Label, Network, Numbers, precise, zeroed
from diffusion_cli.ranges import BelowOne, Count, Depth, Even, Pixels, Positive, Whole, Width, checked

# of the longest wave of a position's embedding to the shortest (Vaswani et al. 2017)
LONGEST = 10_000


@checked
class DiT(Network):
    """DiT over images (C, H, W) (Peebles & Xie 2023): attention among patches, steered by adaLN-Zero.

        context = silu(Linear(silu(Linear(fourier(noise_level)))) + table[label])            (B or 1, width)
        h       = Linear(patches of x) + positions                                           (B, tokens, width)
        h       = h + gate * attention(scale * norm(h) + shift)
        h       = h + gate * mlp(scale * norm(h) + shift), both `depth` times
        out     = Linear(scale * norm(h) + shift), patches back to pixels

    Each block reads its scale - 1, shift and gate off the context by a linear layer.

    width: features of a token; a multiple of 4 and of heads.
    depth: number of blocks.
    heads: of the attention.
    patch: pixels along the side of a patch; must divide H and W.
    expansion: hidden features of a block's MLP, in widths.
    dropout: probability of dropping a hidden feature of a block's MLP in training.
    features: number of random waves of the noise level, even.
    time_scale: factor of their frequencies.
    zero_init: whether the network starts as exactly zero, and each of its blocks as the identity.

    Raises ArgumentError for bad options, or a shape that is no image or that the patch does not divide; ValueError for x
    of a wrong shape, or a label without classes.

    >>> DiT((1, 28, 28), num_classes=10)(torch.randn(5, 1, 28, 28), torch.zeros(1)).shape
    torch.Size([5, 1, 28, 28])
    """

    bf16_pays = True
    position: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Whole = 0,
        width: Width = 128,
        depth: Depth = 6,
        heads: Count = 4,
        patch: Pixels = 4,
        expansion: Count = 4,
        dropout: BelowOne = 0.0,
        features: Even = 128,
        time_scale: Positive = 0.25,
        zero_init: bool = True,
        outputs: Count = 1,
        numbers: Whole = 0,
    ) -> None:
        super().__init__(shape, num_classes, outputs, numbers)
        self.patch, self.dropout = patch, dropout
        height, across = _patches(self.shape, patch)
        if width % heads or width % 4:
            raise ArgumentError("width", width, f"must be a multiple of 4 and of the {heads} heads")
        self.context = Conditioning(embedded_level(features, time_scale, width), num_classes, width, numbers)
        pixels = self.shape[0] * patch**2
        self.stem = nn.Linear(pixels, width)
        self.register_buffer("position", positions(height, across, width), persistent=False)
        self.blocks = nn.ModuleList(
            DiTBlock(width, heads, expansion, dropout, zero_init) for _ in range(depth)
        )
        self.modulation = zeroed(nn.Linear(width, 2 * width), zero_init)
        self.head = zeroed(nn.Linear(width, outputs * pixels), zero_init)

    def forward(self, x: Tensor, noise_level: Tensor, label: Label = None, numbers: Numbers = None) -> Tensor:
        self.check_shape(x)
        context = F.silu(self.context(NoiseLevels(noise_level), label, numbers))
        h = self.stem(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)) + self.position.to(x.dtype)
        for block in self.blocks:
            h = block(h, context)
        with precise(x):
            out = self.head(modulated(normed(h.to(x.dtype)), self.modulation(context.to(x.dtype))))
        image = F.fold(out.transpose(1, 2), self.shape[1:], self.patch, stride=self.patch)
        return image if self.outputs == 1 else image.view(len(x), self.outputs, *self.shape)


class DiTBlock(nn.Module):
    """Attention and an MLP with adaLN-Zero: (h (B, tokens, width), context (B or 1, width)) -> h."""

    def __init__(
        self, width: int, heads: int, expansion: int, dropout: float, zero_init: bool = True
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.modulation = zeroed(nn.Linear(width, 6 * width), zero_init)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        width = h.shape[-1]
        of_mixing, gate, of_mlp, gate_mlp = self.modulation(context).split(
            [2 * width, width, 2 * width, width], dim=-1
        )
        h = h + gate.unsqueeze(1) * self._attention(modulated(normed(h), of_mixing))
        inner = F.silu(self.up(modulated(normed(h), of_mlp)))
        return h + gate_mlp.unsqueeze(1) * self.down(F.dropout(inner, self.dropout, self.training))

    def _attention(self, h: Tensor) -> Tensor:
        B, n, width = h.shape
        q, k, v = self.qkv(h).view(B, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v).transpose(1, 2).reshape(B, n, width))


def normed(h: Tensor) -> Tensor:
    """Each token normalised over its features."""
    return F.layer_norm(h, h.shape[-1:])


def positions(height: int, across: int, width: int) -> Tensor:
    """Fixed embeddings of the places of a grid, (height * across, width): waves of the row, then of the column."""
    frequency = LONGEST ** -torch.linspace(0, 1, width // 4)
    row, column = torch.meshgrid(torch.arange(height), torch.arange(across), indexing="ij")
    angles = torch.stack([row, column], dim=-1).flatten(0, 1).unsqueeze(-1) * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _patches(shape: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Rows and columns of patches; ArgumentError where there are no whole ones."""
    if len(shape) != 3 or min(shape) < 1:
        raise ArgumentError("", ..., f"DiT needs images of shape (C, H, W), not {shape}")
    height, width = shape[1:]
    if height % patch or width % patch:
        raise ArgumentError("patch", patch, f"must divide the image's {height}x{width} pixels")
    return height // patch, width // patch
