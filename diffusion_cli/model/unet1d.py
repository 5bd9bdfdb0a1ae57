"""A one-dimensional U-Net for short signals: two pixels by default, any length from two on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.conditioning import Conditioning, NoiseLevels
from diffusion_cli.model.embedding import GaussianFourier
from diffusion_cli.model.network import Label, Network, Numbers, precise, zeroed
from diffusion_cli.ranges import Count, Even, Positive, Whole, Width, checked


class ConvBlock(nn.Module):
    """SiLU(GroupNorm(conv(h) + dense(context))): h (B, C, n), context (B or 1, features) -> (B, C', length)."""

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d, features: int, groups: int) -> None:
        super().__init__()
        self.conv = conv
        self.dense = nn.Linear(features, conv.out_channels)
        self.norm = nn.GroupNorm(groups, conv.out_channels)

    def forward(self, h: Tensor, context: Tensor, length: int) -> Tensor:
        h = self.conv(h)[..., :length]
        return F.silu(self.norm(h + self.dense(context).unsqueeze(-1)))


@checked
class UNet1d(Network):
    """U-Net over signals (L,), L >= 2.

    For two pixels and channels (c0, c1):
        context = SiLU(Linear(fourier(noise_level)) + table[label])                 (B or 1, features)
        h0 = SiLU(GroupNorm4 (Conv1d(1 -> c0, k=2)(x)  + dense(context)))           (B, c0, 1)
        h1 = SiLU(GroupNorm32(Conv1d(c0 -> c1, k=1)(h0) + dense(context)))          (B, c1, 1)
        h  = SiLU(GroupNorm4 (ConvTranspose1d(c1 -> c0, k=1)(h1) + dense(context))) (B, c0, 1)
        out = ConvTranspose1d(2 c0 -> 1, k=2)([h, h0])                              (B, 1, 2)
    The last kernel is 2, the inverse of the first: with k=1 one pixel would be left. Each level halves the length
    (k = stride = 2; an odd length is padded by a zero) until one pixel is left, from where k=1. A table indexed by
    the label is a dense layer on its one-hot code.

    channels: of each level, at least two of them; the first a multiple of 4 (4 groups), the others of 32 and at least 64
        (32 groups: with one channel each a single pixel would be normalised away). null: 128, then 256 until the whole
        signal is seen.
    features: length of the context, even.
    time_scale: factor of the random frequencies that embed the noise level.
    zero_init: whether the network starts as exactly zero.

    Raises ArgumentError for bad options or a shape that is no signal, ValueError for x of a wrong shape, or a label
    without classes.

    >>> UNet1d((2,))(torch.randn(5, 2), torch.zeros(1)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Whole = 0,
        channels: Sequence[Width] | None = None,
        features: Even = 128,
        time_scale: Positive = 0.25,
        zero_init: bool = True,
        outputs: Count = 1,
        numbers: Whole = 0,
    ) -> None:
        super().__init__(shape, num_classes, outputs, numbers)
        if len(self.shape) != 1 or self.shape[0] < 2:
            raise ArgumentError("", ..., f"UNet1d needs signals of shape (L,), L >= 2, not {self.shape}")

        # lengths[i] and lengths[i + 1]: before and after level i
        lengths = [self.shape[0]]
        while lengths[-1] > 1:
            lengths.append((lengths[-1] + 1) // 2)
        if channels is None:
            channels = (128, *[256] * (len(lengths) - 1))
        _check_groups(channels)
        self.lengths = (lengths + [1] * len(channels))[: len(channels) + 1]
        self.kernels = [2 if length > 1 else 1 for length in self.lengths[:-1]]

        from_noise_level = nn.Sequential(GaussianFourier(features, time_scale), nn.Linear(features, features))
        self.context = Conditioning(from_noise_level, num_classes, features, numbers)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = 1
        for i, (width, kernel) in enumerate(zip(channels, self.kernels, strict=True)):
            conv = nn.Conv1d(before, width, kernel, kernel, bias=False)
            self.encoder.append(ConvBlock(conv, features, groups=32 if i else 4))
            before = width
        for i in reversed(range(1, len(channels))):
            kernel, width = self.kernels[i], channels[i - 1]
            up = nn.ConvTranspose1d(before, width, kernel, kernel, bias=False)
            self.decoder.append(ConvBlock(up, features, groups=32 if i > 1 else 4))
            # with the skip
            before = 2 * width
        head = nn.ConvTranspose1d(before, outputs, self.kernels[0], self.kernels[0])
        self.head = zeroed(head, zero_init)

    def forward(self, x: Tensor, noise_level: Tensor, label: Label = None, numbers: Numbers = None) -> Tensor:
        self.check_shape(x)
        context = F.silu(self.context(NoiseLevels(noise_level), label, numbers))
        h, skips = x.unsqueeze(1), []
        for block, kernel, length in zip(self.encoder, self.kernels, self.lengths[1:], strict=True):
            h = block(F.pad(h, (0, -h.shape[-1] % kernel)), context, length)
            skips.append(h)
        skips.pop()
        for block in self.decoder:
            skip = skips.pop()
            h = torch.cat([block(h, context, skip.shape[-1]), skip], dim=1)
        with precise(x):
            out = self.head(h.to(x.dtype))[..., : self.shape[0]]
        return out.squeeze(1) if self.outputs == 1 else out


def _check_groups(channels: Sequence[int]) -> None:
    """ArgumentError where GroupNorm of 4 groups, then of 32, has no place."""
    first, *others = channels
    if not others:
        raise ArgumentError("channels", channels, "there must be at least two")
    if first % 4:
        raise ArgumentError("channels", channels, "the first must be a multiple of 4")
    if any(width % 32 or width < 64 for width in others):
        raise ArgumentError(
            "channels", channels, "after the first, each must be a multiple of 32, at least 64"
        )
