"""A two-dimensional U-Net for images, grey or of any number of channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import UserError
from diffusion_cli.model import options
from diffusion_cli.model.blocks2d import (
    NORMS,
    RESAMPLINGS,
    Attention,
    Down,
    Residual,
    Stage,
    Up,
    normalisation,
    zeroed,
)
from diffusion_cli.model.embedding import GaussianFourier, LabelEmbedding


class UNet2d(nn.Module):
    """U-Net over images (C, H, W): net(x, noise, label) -> like x, or (B, outputs, C, H, W) if outputs > 1.

        context = silu(Linear(silu(Linear(fourier(noise)))) + table[label])            (B or 1, features)
        h       = conv3x3(x), where patch x patch pixels have become the channels of one
        encoder: on each level `blocks` stages (a Residual, and Attention where asked for); Down between the levels
        middle:  `middle` stages on the lowest level, attention in the first
        decoder: the levels backwards, with stages on [h, a state that the encoder kept]; Up between the levels
        out     = conv3x3(silu(norm(h))), channels back to pixels

    x (B, C, H, W) float; noise = log(sigma / alpha), (B,) or (1,); label int64 (B,) in 0..num_classes, where
    num_classes means "no label", as does None. ValueError: a wrong shape, or a label without classes.

    width, levels: level i has width * levels[i] channels and, H and W being divisible by patch * 2^(len(levels) - 1),
    maps of H / patch / 2^i pixels. blocks, middle: see above. attention: heights of the maps on which every stage
    attends, as the papers tell it (the middle does, too); []: none; None: in the middle alone. heads: of attention.
    dropout: share of a block's inner activations dropped in training. norm: layer (over the channels, in channels_last;
    best on a CPU) or group (GroupNorm). skips: last, the encoder keeps the last state of each level but the lowest and
    the decoder has `blocks` stages on each; or all, it keeps every state and the decoder has `blocks` + 1 stages on every
    level (Ho et al. 2020, appendix B). resample: shuffle or conv, see Down. features: of the context, even. time_scale:
    as of GaussianFourier. zero_init, outputs: as of MLP.
    UserError: bad options, or a dataset that is no image or of a size that the levels do not allow.

    `bf16_pays` says that most of the time goes into large products (see device.precision_of). Dropout draws from
    torch's global generators, which the trainer seeds for each step of a network whose `dropout` is not 0.

    >>> UNet2d((1, 28, 28), num_classes=10)(torch.randn(5, 1, 28, 28), torch.zeros(1)).shape
    torch.Size([5, 1, 28, 28])
    """

    bf16_pays = True

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        width: int = 64,
        levels: Sequence[int] = (1, 2),
        blocks: int = 1,
        middle: int = 1,
        attention: Sequence[int] | None = None,
        heads: int = 1,
        dropout: float = 0.0,
        patch: int = 2,
        norm: str = "layer",
        skips: str = "last",
        resample: str = "shuffle",
        features: int = 128,
        time_scale: float = 0.25,
        zero_init: bool = True,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        self.outputs, self.patch = options.whole("outputs", outputs), options.whole("patch", patch)
        options.whole("blocks", blocks)
        options.whole("middle", middle, 0)
        options.multiple("features", features, 2)
        self.dropout = options.share("dropout", dropout)
        self.channels_last = options.one_of("norm", norm, NORMS) == "layer"
        every = options.one_of("skips", skips, ("last", "all")) == "all"
        options.one_of("resample", resample, RESAMPLINGS)
        widths = [options.whole("width", width) * m for m in options.whole_list("levels", levels)]
        attending = self._attending(attention, self._heights(len(widths)))

        def stage(before: int, after: int, attends: bool) -> Stage:
            attention = Attention(after, options.divisor("heads", heads, after), norm) if attends else None
            return Stage(Residual(before, after, features, norm, self.dropout), attention)

        self.embed_time = GaussianFourier(features, options.positive("time_scale", time_scale))
        self.from_time = nn.Sequential(
            nn.Linear(features, features), nn.SiLU(), nn.Linear(features, features)
        )
        self.from_label = LabelEmbedding(num_classes, features) if num_classes else None
        pixels = self.shape[0] * patch**2
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoder, self.middle, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()

        now, kept = widths[0], [widths[0]] if every else []  # channels of h, and of the states kept
        self.keeps = [every]  # whether the encoder keeps the state of the stem, of each of its parts
        lowest = len(widths) - 1
        for level, after in enumerate(widths):
            parts = [Down(now, after, resample)] if level else []
            parts += [stage(after if level or i else now, after, level in attending) for i in range(blocks)]
            self.encoder.extend(parts)
            self.keeps += [every] * (len(parts) - 1) + [every or level < lowest]
            now = after
            kept += [now] * sum(self.keeps[-len(parts) :])
        for i in range(middle):
            self.middle.append(stage(now, now, i == 0 and (attention is None or bool(attending))))
        self.joins = []  # whether each part of the decoder takes a kept state
        for level in reversed(range(len(widths) if every else lowest)):
            if level < lowest:
                self.decoder.append(Up(now, widths[level], resample))
                self.joins.append(False)
                now = widths[level]
            for i in range(blocks + every):
                self.joins.append(every or i == 0)
                before = now + (kept.pop() if self.joins[-1] else 0)
                self.decoder.append(stage(before, widths[level], level in attending))
                now = widths[level]
        self.norm = normalisation(norm, now)
        self.head = nn.Conv2d(now, outputs * pixels, 3, padding=1)
        if options.flag("zero_init", zero_init):
            zeroed(self.head)
        if self.channels_last:  # as the images lie: a CPU need not turn the weights in every step
            self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (B, {', '.join(map(str, self.shape))})")
        context = self.from_time(self.embed_time(noise))
        if self.from_label is not None:
            context = context + self.from_label(label)
        elif label is not None:
            raise ValueError("a label was given to a network without classes (num_classes=0)")
        context = F.silu(context)

        h = F.pixel_unshuffle(x, self.patch)
        h = self.stem(h.contiguous(memory_format=torch.channels_last) if self.channels_last else h)
        kept = [h] if self.keeps[0] else []
        for part, keep in zip(self.encoder, self.keeps[1:], strict=True):
            h = part(h, context)
            if keep:
                kept.append(h)
        for part in self.middle:
            h = part(h, context)
        for part, join in zip(self.decoder, self.joins, strict=True):
            h = part(torch.cat([h, kept.pop()], dim=1) if join else h, context)
        # What the loss and the sampler see is made in the precision of x, also under autocast.
        with torch.autocast(x.device.type, enabled=False):
            out = self.head(F.silu(self.norm(h.to(x.dtype))))
        out = F.pixel_shuffle(out, self.patch).contiguous()
        return out if self.outputs == 1 else out.view(len(x), self.outputs, *self.shape)

    def _heights(self, levels: int) -> list[int]:
        """Of each level's maps; UserError where the image cannot be halved so often."""
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise UserError("model", "unet2d", f"needs images of shape (C, H, W), not {self.shape}")
        height, width = self.shape[1:]
        if height % self.patch or width % self.patch:
            raise UserError("model.patch", self.patch, f"must divide the image's {height}x{width} pixels")
        heights, widths = ([n // self.patch / 2**i for i in range(levels)] for n in (height, width))
        fit = sum(a.is_integer() and b.is_integer() for a, b in zip(heights, widths, strict=True))
        if fit < levels:
            reason = f"images of {height}x{width} in patches of {self.patch} allow {fit} at most"
            raise UserError("model.levels", f"{levels} of them", f"each halves the size; {reason}")
        return [int(n) for n in heights]

    def _attending(self, attention: Sequence[int] | None, heights: list[int]) -> set[int]:
        """The levels whose maps have these heights; UserError for a height that none has."""
        asked = options.whole_list("attention", attention or [], at_least=0)
        for height in asked:
            if height not in heights:
                raise UserError(
                    "model.attention", height, "no level has maps of this height", map(str, heights)
                )
        return {heights.index(height) for height in asked}
