"""The base of all networks, and how a layer starts at zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

# One for each sample; numbers also one row for all.
Label = Tensor | None
Numbers = Tensor | None


class Network(nn.Module):
    """net(x, noise_level, label, numbers) -> like x, or (B, outputs, *shape) if outputs > 1.

    x: (B, *shape), float.
    noise_level: log(sigma / alpha), (B,), or (1,) for the whole batch.
    label: int64 (B,) in 0..num_classes, where num_classes means "no label", as does None.
    numbers: (B or 1, k), of a network with k = `numbers` > 0 further inputs; else it is not given.

    Training and sampling read these attributes; a network of your own sets those that differ.

    shape: of one sample.
    num_classes: number of labels, 0 for a network without labels.
    outputs: values for each coordinate; 2 adds the interpolation weight of a learned variance.
    numbers: further inputs beside the noise level: of a student, where it goes and the guidance weight.
    dropout: probability of dropping an activation in training. Training seeds torch's global generators for each step of
        a network where it is not 0.
    bf16_pays: whether large matrix products take most of the time, so that bfloat16 is faster.
    """

    dropout: float = 0.0
    bf16_pays: bool = False

    def __init__(
        self, shape: Sequence[int], num_classes: int = 0, outputs: int = 1, numbers: int = 0
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        self.outputs, self.numbers = outputs, numbers

    def check_shape(self, x: Tensor) -> None:
        """Raises ValueError where x is not (B, *shape)."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (B, {', '.join(map(str, self.shape))})")


def as_network(module: nn.Module, shape: Sequence[int], num_classes: int = 0, outputs: int = 1) -> Network:
    """A module that is called like a network, as a Network: itself where it is one, else a wrapper around it."""
    return module if isinstance(module, Network) else Wrapped(module, shape, num_classes, outputs)


class Wrapped(Network):
    """A plain module as a Network: module(x, noise_level, label)."""

    def __init__(self, module: nn.Module, shape: Sequence[int], num_classes: int, outputs: int) -> None:
        super().__init__(shape, num_classes, outputs)
        self.module = module

    def forward(self, x: Tensor, noise_level: Tensor, label: Tensor | None = None) -> Tensor:
        return self.module(x, noise_level, label)


def precise(x: Tensor) -> torch.autocast:
    """Within, layers compute in the precision of x, also under autocast: for the phases of waves of x, and for what the
    loss and the sampler see. In three digits the circle's samples end up eight times as far from it."""
    return torch.autocast(x.device.type, enabled=False)


def matrices(net: nn.Module) -> Iterator[Tensor]:
    """The weights of all linear layers and convolutions; not the tables of labels, which are look-ups."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d):
            yield module.weight


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose1d)


def zeroed(layer: Layer, zero_init: bool = True) -> Layer:
    """The layer; it starts as exactly zero if zero_init."""
    if zero_init:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer
