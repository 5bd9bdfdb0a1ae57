"""Classifiers of noised samples, p(label | x_t), whose gradient can guide a sampler."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import UserError
from diffusion_cli.model import options
from diffusion_cli.model.blocks2d import normalisation
from diffusion_cli.model.mlp import MLP, Trunk
from diffusion_cli.model.unet2d import UNet2d

PLACES = 4  # along each side, of an image before its head


class LabelClassifier(nn.Module):
    """The noise-aware classifier that takes the options of the dataset's own model: `Classifier` those of mlp,
    `ImageClassifier` those of unet2d. classifier(x, noise) -> logits (B, num_classes).

    UserError for a dataset without classes, and where neither takes the options.
    """

    def __init__(self, shape: Sequence[int], num_classes: int, **chosen: Any) -> None:
        super().__init__()
        if num_classes < 1:
            raise UserError("model", "classifier", "needs a dataset with classes")
        models = {MLP: Classifier, UNet2d: ImageClassifier}
        foreign = {m: [key for key in chosen if key not in inspect.signature(m).parameters] for m in models}
        model = min(foreign, key=lambda m: len(foreign[m]))
        for key in foreign[model]:
            reason = "is no option of a classifier; take model=mlp, or unet2d for images"
            raise UserError(f"model.{key}", chosen[key], reason)
        self.num_classes = num_classes
        self.body = models[model](shape, num_classes, **chosen)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.body(x, noise)


class Classifier(nn.Module):
    """Noise-aware classifier: classifier(x, noise) -> logits (B, num_classes) of p(label | x_t).

    logits = Linear(Trunk(x, noise)); the arguments, and what they mean, are those of MLP. x (B, *shape) float,
    noise = log(sigma / alpha), (B,) or (1,). The head starts at zero (zero_init): every label equally likely, a loss of
    log(num_classes). UserError: bad options, or a dataset without classes. Dhariwal & Nichol 2021, section 4.

    >>> import torch
    >>> Classifier((2,), num_classes=3)(torch.randn(5, 2), torch.zeros(1)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int,
        width: int = 128,
        depth: int = 3,
        activation: str = "silu",
        x_embedding: str | None = None,
        x_features: int | None = None,
        x_scale: float | None = None,
        time_embedding: str = "fourier",
        time_features: int | None = None,
        time_scale: float | None = None,
        fade: bool = True,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise UserError("model", "classifier", "needs a dataset with classes")
        self.trunk = Trunk(
            shape, 0, width, depth, activation,
            x_embedding, x_features, x_scale, time_embedding, time_features, time_scale, fade,
        )  # fmt: skip
        self.shape, self.num_classes = self.trunk.shape, num_classes
        self.head = nn.Linear(width, num_classes)
        if options.flag("zero_init", zero_init):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.head(self.trunk(x, noise))


class ImageClassifier(nn.Module):
    """Noise-aware classifier of images: the downward half of a U-Net (Dhariwal & Nichol 2021, section 4).

        logits = Linear(silu(norm(h)) averaged to 4 x 4 places), h = middle(encoder(stem(x)))

    The parts and their options are those of UNet2d(shape, **chosen); those of its upward half mean nothing here.
    x (B, C, H, W) float, noise = log(sigma / alpha), (B,) or (1,) -> logits (B, num_classes). The head starts at zero:
    every label equally likely.
    """

    def __init__(self, shape: Sequence[int], num_classes: int, **chosen: Any) -> None:
        super().__init__()
        net = UNet2d(shape, **chosen)
        self.shape, self.num_classes = net.shape, num_classes
        self.patch, self.channels_last = net.patch, net.channels_last
        self.embed_time, self.from_time = net.embed_time, net.from_time
        self.stem, self.encoder, self.middle = net.stem, net.encoder, net.middle
        with torch.no_grad():
            channels = self._down(torch.zeros(1, *self.shape), torch.zeros(1)).shape[1]
        self.norm = normalisation("layer" if self.channels_last else "group", channels)
        self.head = nn.Linear(channels * PLACES**2, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _down(self, x: Tensor, noise: Tensor) -> Tensor:
        context = F.silu(self.from_time(self.embed_time(noise)))
        h = F.pixel_unshuffle(x, self.patch)
        h = self.stem(h.contiguous(memory_format=torch.channels_last) if self.channels_last else h)
        for part in (*self.encoder, *self.middle):
            h = part(h, context)
        return h

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (B, {', '.join(map(str, self.shape))})")
        h = F.silu(self.norm(self._down(x, noise)))
        return self.head(F.adaptive_avg_pool2d(h, PLACES).flatten(1))
