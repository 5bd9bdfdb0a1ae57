"""A one-dimensional U-Net for short signals: two pixels by default, any length from two on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import UserError
from diffusion_cli.model import options
from diffusion_cli.model.embedding import GaussianFourier, LabelEmbedding


class Level(nn.Module):
    """SiLU(GroupNorm(conv(h) + dense(context))): h (B, C, n), context (B or 1, features)."""

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d, features: int, groups: int) -> None:
        super().__init__()
        self.conv = conv
        self.dense = nn.Linear(features, conv.out_channels)
        self.norm = nn.GroupNorm(groups, conv.out_channels)

    def forward(self, h: Tensor, context: Tensor, length: int) -> Tensor:
        h = self.conv(h)[..., :length]
        return F.silu(self.norm(h + self.dense(context).unsqueeze(-1)))


class UNet1d(nn.Module):
    """U-Net over signals of length L: net(x, noise, label) -> like x, or (B, outputs, L) if outputs > 1.

    For two pixels and channels (c0, c1):
        context = SiLU(Linear(fourier(noise)) + table[label])                       (B, features)
        h0 = SiLU(GroupNorm4 (Conv1d(1 -> c0, k=2)(x)  + dense(context)))           (B, c0, 1)
        h1 = SiLU(GroupNorm32(Conv1d(c0 -> c1, k=1)(h0) + dense(context)))          (B, c1, 1)
        h  = SiLU(GroupNorm4 (ConvTranspose1d(c1 -> c0, k=1)(h1) + dense(context))) (B, c0, 1)
        out = ConvTranspose1d(2 c0 -> 1, k=2)([h, h0])                              (B, 1, 2)
    The last kernel is 2, the inverse of the first: with k=1 one pixel would be left. Each level halves the length
    (k = stride = 2; an odd length is padded by a zero) until one pixel is left, from where k=1. A table indexed by
    the label is a dense layer on its one-hot code.

    x (B, L) float, L >= 2; noise = log(sigma / alpha), (B,) or (1,); label int64 (B,) in 0..num_classes, where
    num_classes means "no label", as does None. ValueError: a wrong shape, or a label without classes.

    channels: per level, at least two; the first a multiple of 4 (4 groups), the others of 32 and at least 64 (32
    groups: with one channel each a single pixel would be normalised away). None: 128, then 256 until the whole signal
    is seen. features: of the context, even. time_scale: as of GaussianFourier. zero_init, outputs: as of MLP.
    UserError: bad options, or a dataset that is no signal.

    >>> UNet1d((2,))(torch.randn(5, 2), torch.zeros(1)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        channels: Sequence[int] | None = None,
        features: int = 128,
        time_scale: float = 0.25,
        zero_init: bool = True,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        if len(self.shape) != 1 or self.shape[0] < 2:
            raise UserError("model", "unet1d", f"needs signals of shape (L,), L >= 2, not {self.shape}")
        self.outputs = options.whole("outputs", outputs)
        options.multiple("features", features, 2)

        # lengths[i] and lengths[i + 1]: before and after level i
        lengths = [self.shape[0]]
        while lengths[-1] > 1:
            lengths.append((lengths[-1] + 1) // 2)
        widths = (128, *[256] * (len(lengths) - 1)) if channels is None else _checked(channels)
        lengths = (lengths + [1] * len(widths))[: len(widths) + 1]
        self.lengths = lengths
        self.kernels = [2 if length > 1 else 1 for length in lengths[:-1]]

        self.embed_time = GaussianFourier(features, options.positive("time_scale", time_scale))
        self.from_time = nn.Linear(features, features)
        self.from_label = LabelEmbedding(num_classes, features) if num_classes else None
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = 1
        for i, (width, kernel) in enumerate(zip(widths, self.kernels, strict=True)):
            conv = nn.Conv1d(before, width, kernel, kernel, bias=False)
            self.encoder.append(Level(conv, features, groups=32 if i else 4))
            before = width
        for i in reversed(range(1, len(widths))):
            kernel, width = self.kernels[i], widths[i - 1]
            conv = nn.ConvTranspose1d(before, width, kernel, kernel, bias=False)
            self.decoder.append(Level(conv, features, groups=32 if i > 1 else 4))
            before = 2 * width  # with the skip
        self.head = nn.ConvTranspose1d(before, outputs, self.kernels[0], self.kernels[0])
        if options.flag("zero_init", zero_init):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (B, {self.shape[0]})")
        context = self.from_time(self.embed_time(noise))
        if self.from_label is not None:
            context = context + self.from_label(label)
        elif label is not None:
            raise ValueError("a label was given to a network without classes (num_classes=0)")
        context = F.silu(context)

        h, skips = x.unsqueeze(1), []
        for level, kernel, length in zip(self.encoder, self.kernels, self.lengths[1:], strict=True):
            h = level(F.pad(h, (0, -h.shape[-1] % kernel)), context, length)
            skips.append(h)
        skips.pop()
        for level in self.decoder:
            skip = skips.pop()
            h = torch.cat([level(h, context, skip.shape[-1]), skip], dim=1)
        out = self.head(h)[..., : self.shape[0]]
        return out.squeeze(1) if self.outputs == 1 else out


def _checked(channels: Sequence[int]) -> tuple[int, ...]:
    if isinstance(channels, (str, int, float)) or len(channels) < 2:
        raise UserError("model.channels", channels, "must be a list of at least two whole numbers")
    first, *others = (options.whole("channels", width) for width in channels)
    options.multiple("channels", first, 4)
    for width in others:
        if options.multiple("channels", width, 32) < 64:
            raise UserError("model.channels", width, "must be at least 64 after the first level")
    return first, *others
