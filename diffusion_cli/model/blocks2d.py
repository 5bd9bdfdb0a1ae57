"""The parts of a two-dimensional U-Net: normalisation, residual block, self-attention, resampling.

All take and give images h (B, C, H, W), in whatever memory format they come.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.model.linear import Linear
from diffusion_cli.model.network import zeroed

# of GroupNorm (Ho et al. 2020, appendix B); fewer where they do not divide the channels
MOST_GROUPS = 32


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel. In channels_last they lie side by side, and it costs a CPU half of
    what GroupNorm does."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def normalisation(kind: str, channels: int, affine: bool = True) -> nn.Module:
    """A normalisation by its name, layer or group. affine: with a scale and a shift for each channel."""
    if kind == "layer":
        return ChannelNorm(channels, elementwise_affine=affine)
    groups = next(g for g in range(min(MOST_GROUPS, channels), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, affine=affine)


class ResidualBlock(nn.Module):
    """skip(h) + conv2(dropout(silu(scale * norm2(conv1(silu(norm1(h)))) + shift))): (B, before, H, W) -> (B, after, H, W).

    scale - 1 and shift are linear in context (B or 1, features) (FiLM, Perez et al. 2018; Dhariwal & Nichol 2021,
    section 3), and norm2 has none of its own; skip is the identity, or a 1x1 convolution where before != after. conv2
    starts as zero.
    """

    def __init__(self, before: int, after: int, features: int, kind: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = normalisation(kind, before), nn.Conv2d(before, after, 3, padding=1)
        self.film = nn.Linear(features, 2 * after)
        self.norm2 = normalisation(kind, after, affine=False)
        self.conv2 = zeroed(nn.Conv2d(after, after, 3, padding=1))
        self.dropout = dropout
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.film(context)[:, :, None, None].chunk(2, dim=1)
        inner = self.conv1(F.silu(self.norm1(h)))
        inner = F.silu((self.norm2(inner) * (1 + scale)).add_(shift))
        return self.conv2(F.dropout(inner, self.dropout, self.training)).add_(self.skip(h))


class SelfAttention(nn.Module):
    """h + out(softmax(q k^T / sqrt(C / heads)) v) over all pixels, q, k, v linear in norm(h). out starts as zero."""

    def __init__(self, channels: int, heads: int, kind: str) -> None:
        super().__init__()
        self.heads, self.norm = heads, normalisation(kind, channels)
        self.qkv, self.out = Linear(channels, 3 * channels), zeroed(Linear(channels, channels))

    def forward(self, h: Tensor) -> Tensor:
        B, C, H, W = h.shape
        pixels = self.norm(h).permute(0, 2, 3, 1).reshape(B, H * W, C)
        q, k, v = self.qkv(pixels).view(B, H * W, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).reshape(B, H * W, C)
        return h + self.out(mixed).view(B, H, W, C).permute(0, 3, 1, 2)


class UNetBlock(nn.Module):
    """A residual block, followed by self-attention or not: (h, context) -> h, as the resampling layers are called."""

    def __init__(self, residual: ResidualBlock, attention: SelfAttention | None) -> None:
        super().__init__()
        self.residual, self.attention = residual, attention

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        h = self.residual(h, context)
        return h if self.attention is None else self.attention(h)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, each (B, heads, n, D). On a CPU written out: torch's fused kernel takes four times as
    long for a backward pass in bf16 (64 images of 7x7, 96 channels: 18 to 59 ms against 4 to 13)."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1).to(v.dtype) @ v


class Downsample(nn.Module):
    """Half the size. shuffle: one pixel from each 2x2, linear in all of their channels; conv: a 3x3 convolution of
    stride 2."""

    def __init__(self, before: int, after: int, kind: str) -> None:
        super().__init__()
        self.shuffle = kind == "shuffle"
        self.layer = Linear(4 * before, after) if self.shuffle else nn.Conv2d(before, after, 3, 2, 1)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        return self.layer(squares(h)).permute(0, 3, 1, 2) if self.shuffle else self.layer(h)


class Upsample(nn.Module):
    """Twice the size. shuffle: 2x2 pixels from each, linear in its channels; conv: each pixel becomes four like it, then
    a 3x3 convolution."""

    def __init__(self, before: int, after: int, kind: str) -> None:
        super().__init__()
        self.shuffle = kind == "shuffle"
        self.layer = Linear(before, 4 * after) if self.shuffle else nn.Conv2d(before, after, 3, padding=1)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        if self.shuffle:
            return from_squares(self.layer(h.permute(0, 2, 3, 1)))
        return self.layer(F.interpolate(h, scale_factor=2.0, mode="nearest"))


def squares(h: Tensor) -> Tensor:
    """The channels of each 2x2 pixels side by side: (B, C, H, W) -> (B, H/2, W/2, 4 C).

    In the order row, column, channel, in which channels_last is copied in pieces of 2 C numbers; F.pixel_unshuffle, with
    the channel first, moves single ones.
    """
    B, C, H, W = h.shape
    pixels = h.permute(0, 2, 3, 1).view(B, H // 2, 2, W // 2, 2, C)
    return pixels.transpose(2, 3).reshape(B, H // 2, W // 2, 4 * C)


def from_squares(pixels: Tensor) -> Tensor:
    """The other way around: (B, H, W, 4 C) -> (B, C, 2 H, 2 W)."""
    B, H, W, C = pixels.shape
    rows = pixels.view(B, H, W, 2, 2, C // 4).transpose(2, 3)
    return rows.reshape(B, 2 * H, 2 * W, C // 4).permute(0, 3, 1, 2)
