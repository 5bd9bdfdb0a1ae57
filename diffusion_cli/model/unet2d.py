"""A two-dimensional U-Net for images, grey or of any number of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.blocks2d import (
    Downsample,
    ResidualBlock,
    SelfAttention,
    UNetBlock,
    Upsample,
    normalisation,
)
from diffusion_cli.model.conditioning import Conditioning, NoiseLevels, embedded_level
from diffusion_cli.model.network import Label, Network, Numbers, precise, zeroed
from diffusion_cli.ranges import (
    BelowOne,
    Count,
    Depth,
    DepthOrZero,
    Even,
    Pixels,
    Positive,
    Whole,
    Width,
    checked,
)


@checked
class UNet2d(Network):
    """U-Net over images (C, H, W).

        context = silu(Linear(silu(Linear(fourier(noise_level)))) + table[label])            (B or 1, features)
        h       = conv3x3(x), where patch x patch pixels have become the channels of one
        encoder: on each level `blocks` blocks (residual, with attention where chosen); downsampling between the levels
        middle:  `middle` blocks on the lowest level, attention in the first
        decoder: the levels backwards, with blocks on [h, a state that the encoder kept]; upsampling between the levels
        out     = conv3x3(silu(norm(h))), channels back to pixels

    Level i has width * levels[i] channels and maps of H / patch / 2^i by W / patch / 2^i pixels.

    width: channels of a level whose multiplier is 1.
    levels: multipliers of the channels, one for each level; each level but the first halves the size, so that H and W
        must be divisible by patch * 2^(number of levels - 1).
    blocks: residual blocks on each level of the encoder.
    middle: residual blocks in the middle, on the lowest level.
    attention: heights of the maps on which every block attends, as in [14, 7]; the middle attends, too. []: no attention
        anywhere. null: in the middle alone.
    heads: attention heads; they must divide the channels of each level that attends.
    dropout: probability of dropping an inner activation of a residual block in training.
    patch: pixels along the side of a patch that the network treats as one pixel; must divide H and W.
    norm: layer (over the channels of each pixel, in channels_last memory format; fastest on a CPU) or group (GroupNorm).
    skips: states of the encoder that the decoder reads: last (of each level but the lowest; the decoder has `blocks`
        blocks on each of these levels) or all (the decoder has `blocks` + 1 blocks on every level; Ho et al. 2020,
        appendix B).
    resample: shuffle (pixels to channels and back) or conv (3x3 convolutions), see Downsample.
    features: length of the context, even.
    time_scale: factor of the random frequencies that embed the noise level.
    zero_init: whether the network starts as exactly zero.

    Raises ArgumentError for bad options, or a shape that is no image or of a size that the levels do not allow;
    ValueError for x of a wrong shape, or a label without classes.

    >>> UNet2d((1, 28, 28), num_classes=10)(torch.randn(5, 1, 28, 28), torch.zeros(1)).shape
    torch.Size([5, 1, 28, 28])
    """

    bf16_pays = True

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Whole = 0,
        width: Width = 64,
        levels: Sequence[Depth] = (1, 2),
        blocks: Depth = 1,
        middle: DepthOrZero = 1,
        attention: Sequence[Pixels] | tuple[()] | None = None,
        heads: Count = 1,
        dropout: BelowOne = 0.0,
        patch: Pixels = 2,
        norm: Literal["layer", "group"] = "layer",
        skips: Literal["last", "all"] = "last",
        resample: Literal["shuffle", "conv"] = "shuffle",
        features: Even = 128,
        time_scale: Positive = 0.25,
        zero_init: bool = True,
        outputs: Count = 1,
        numbers: Whole = 0,
    ) -> None:
        super().__init__(shape, num_classes, outputs, numbers)
        self.dropout, self.patch, self.channels_last = dropout, patch, norm == "layer"
        self.widths = widths = [width * multiplier for multiplier in levels]
        attending = _attending(attention or (), _heights(self.shape, patch, levels))
        every, lowest = skips == "all", len(levels) - 1

        def block(before: int, after: int, attends: bool) -> UNetBlock:
            if attends and after % heads:
                raise ArgumentError("heads", heads, f"must divide the {after} channels of a level")
            attention = SelfAttention(after, heads, norm) if attends else None
            return UNetBlock(ResidualBlock(before, after, features, norm, dropout), attention)

        self.context = Conditioning(
            embedded_level(features, time_scale, features), num_classes, features, numbers
        )
        pixels = self.shape[0] * patch**2
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoder, self.middle, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()

        # channels of h, and of each state that is kept
        now, kept = widths[0], [widths[0]] if every else []
        # whether the encoder keeps the state of the stem, and of each of its parts
        self.keeps = [every]
        for level, after in enumerate(widths):
            parts: list[nn.Module] = [Downsample(now, after, resample)] if level else []
            parts += [block(after if level or i else now, after, level in attending) for i in range(blocks)]
            self.encoder.extend(parts)
            self.keeps += [every] * (len(parts) - 1) + [every or level < lowest]
            now = after
            kept += [now] * sum(self.keeps[-len(parts) :])
        for i in range(middle):
            self.middle.append(block(now, now, i == 0 and (attention is None or bool(attending))))
        # whether each part of the decoder takes a kept state
        self.joins: list[bool] = []
        for level in reversed(range(len(widths) if every else lowest)):
            if level < lowest:
                self.decoder.append(Upsample(now, widths[level], resample))
                self.joins.append(False)
                now = widths[level]
            for i in range(blocks + every):
                self.joins.append(every or i == 0)
                before = now + (kept.pop() if self.joins[-1] else 0)
                self.decoder.append(block(before, widths[level], level in attending))
                now = widths[level]
        self.norm = normalisation(norm, now)
        self.head = zeroed(nn.Conv2d(now, outputs * pixels, 3, padding=1), zero_init)
        if self.channels_last:
            # As the images lie in memory: a CPU need not rearrange the weights in every step.
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, noise_level: Tensor, label: Label = None, numbers: Numbers = None) -> Tensor:
        context = self._context(noise_level, label, numbers)
        h, kept = self._encode(x, context)
        for part, join in zip(self.decoder, self.joins, strict=True):
            h = part(torch.cat([h, kept.pop()], dim=1) if join else h, context)
        with precise(x):
            out = self.head(F.silu(self.norm(h.to(x.dtype))))
        out = F.pixel_shuffle(out, self.patch).contiguous()
        return out if self.outputs == 1 else out.view(len(x), self.outputs, *self.shape)

    def features(self, x: Tensor, noise_level: Tensor, label: Tensor | None = None) -> Tensor:
        """The state behind the middle, (B, widths[-1], height, width of the lowest maps)."""
        return self._encode(x, self._context(noise_level, label))[0]

    def drop_output(self) -> None:
        """Leaves features() alone, without parameters that it does not need."""
        del self.decoder, self.norm, self.head

    def _context(self, noise_level: Tensor, label: Tensor | None, numbers: Tensor | None = None) -> Tensor:
        return F.silu(self.context(NoiseLevels(noise_level), label, numbers))

    def _encode(self, x: Tensor, context: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The state behind the middle, and those kept for the decoder."""
        self.check_shape(x)
        h = F.pixel_unshuffle(x, self.patch)
        h = self.stem(h.contiguous(memory_format=torch.channels_last) if self.channels_last else h)
        kept = [h] if self.keeps[0] else []
        for part, keep in zip(self.encoder, self.keeps[1:], strict=True):
            h = part(h, context)
            if keep:
                kept.append(h)
        for part in self.middle:
            h = part(h, context)
        return h, kept


def _heights(shape: tuple[int, ...], patch: int, levels: Sequence[int]) -> list[int]:
    """Of the maps of each level; ArgumentError where the image cannot be halved so often."""
    if len(shape) != 3 or min(shape) < 1:
        raise ArgumentError("", ..., f"UNet2d needs images of shape (C, H, W), not {shape}")
    height, width = shape[1:]
    unit = patch * 2 ** (len(levels) - 1)
    near = [max(round(side / unit), 1) * unit for side in (height, width)]
    nearest = f"; with these levels the nearest size is {near[0]}x{near[1]}"
    if height % patch or width % patch:
        raise ArgumentError("patch", patch, f"must divide the image's {height}x{width} pixels{nearest}")
    sizes = [(height / patch / 2**i, width / patch / 2**i) for i in range(len(levels))]
    fit = sum(h.is_integer() and w.is_integer() for h, w in sizes)
    if fit < len(levels):
        reason = f"images of {height}x{width} in patches of {patch} allow {fit} levels at most{nearest}"
        raise ArgumentError("levels", list(levels), f"each but the first halves the size; {reason}")
    return [int(h) for h, _ in sizes]


def _attending(attention: Sequence[int], heights: list[int]) -> set[int]:
    """The levels whose maps have these heights; ArgumentError for a height that no map has."""
    for height in attention:
        if height not in heights:
            raise ArgumentError("attention", height, "no level has maps of this height", heights)
    return {heights.index(height) for height in attention}
