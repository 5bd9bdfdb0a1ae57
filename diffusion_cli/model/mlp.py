"""The residual MLP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.conditioning import Conditioning, NoiseLevels
from diffusion_cli.model.embedding import embedding, fading
from diffusion_cli.model.linear import Linear
from diffusion_cli.model.network import Label, Network, Numbers, precise, zeroed
from diffusion_cli.ranges import Count, Depth, Even, Positive, Whole, Width, checked


def _relu(h: Tensor) -> Tensor:
    return F.threshold(h, 0.0, 0.0)


# Each saves its input for the backward pass, not its output as F.relu does, so that the residual may be added in
# place: at large batches a fresh tensor costs more than the addition itself.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": _relu}


@checked
class MLP(Network):
    """Residual MLP on flattened samples, with embeddings of each coordinate (or of the plane) and of the noise level.

        h   = act(W [embed(x), embed(noise_level), onehot(label)] + b)        (B, width)
        h   = h + act(Linear(h)), `depth` times
        out = Linear(h)

    W is kept as its three blocks of columns, so that a noise level is embedded and multiplied once, however many samples
    have it, and a label costs the look-up of a row.

    width: features of the hidden layers.
    depth: number of residual blocks.
    activation: of all layers: silu, gelu or relu.
    x_embedding: of the coordinates: rings (for points of the plane, all features together), harmonics, sinusoidal or fourier
        (features for each coordinate), or none. null: rings in the plane, harmonics elsewhere.
    x_features: number of features of x_embedding, even; of rings (the waves beside x itself) a multiple of 16. null: the
        embedding's own default.
    x_scale: factor of the frequencies of x_embedding; for rings the largest one. null: the embedding's own default.
    time_embedding: of the noise level: fourier, sinusoidal or none.
    time_features: number of features of time_embedding, even. null: the embedding's own default.
    time_scale: factor of the frequencies of time_embedding. null: the embedding's own default.
    fade: whether waves of x that are finer than the noise fade out (embedding.fading).
    zero_init: whether the network starts as exactly zero, so that no steps are spent on unlearning random outputs.

    Raises ArgumentError for bad options, ValueError for x of a wrong shape, or a label without classes.

    tiny-diffusion's network (99,074 parameters; same function, test_model_mlp.py) is
    MLP((2,), activation="gelu", x_embedding="sinusoidal", time_embedding="sinusoidal", fade=False, zero_init=False).

    >>> import torch
    >>> MLP((2,))(torch.randn(5, 2), torch.zeros(1)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Whole = 0,
        width: Width = 128,
        depth: Depth = 3,
        activation: Literal["silu", "gelu", "relu"] = "silu",
        x_embedding: Literal["rings", "harmonics", "sinusoidal", "fourier", "none"] | None = None,
        x_features: Even | None = None,
        x_scale: Positive | None = None,
        time_embedding: Literal["fourier", "sinusoidal", "none"] = "fourier",
        time_features: Even | None = None,
        time_scale: Positive | None = None,
        fade: bool = True,
        zero_init: bool = True,
        outputs: Count = 1,
        numbers: Whole = 0,
    ) -> None:
        super().__init__(shape, num_classes, outputs, numbers)
        self.width, self.fade, self.activation = width, fade, ACTIVATIONS[activation]
        coordinates = math.prod(self.shape)
        chosen = x_embedding or ("rings" if coordinates == 2 else "harmonics")
        if chosen == "rings" and coordinates != 2:
            raise ArgumentError("x_embedding", chosen, "is for points of the plane", ("harmonics", "none"))
        self.embed_x = embedding("x", chosen, x_features, x_scale)
        embed_noise_level = embedding("time", time_embedding, time_features, time_scale)
        self.from_x = Linear(self.embed_x.size(coordinates), width)
        from_noise_level = nn.Linear(embed_noise_level.features, width, bias=False)
        # Unit variance in h from the coordinates (a wave's mean square is 1/2), however few features they have. With
        # nn.Linear's initialisation of the undivided W the noise level drowns them, and samples end 2 to 3 times as far
        # from a curve.
        nn.init.kaiming_uniform_(self.from_x.weight, nonlinearity="relu")
        # b is added where there are fewer rows.
        from_noise_level.bias = self.from_x.bias
        self.from_x.register_parameter("bias", None)
        self.context = Conditioning(
            nn.Sequential(embed_noise_level, from_noise_level), num_classes, width, numbers
        )
        self.blocks = nn.ModuleList(Linear(width, width) for _ in range(depth))
        self.head = zeroed(nn.Linear(width, outputs * coordinates), zero_init)

    def features(
        self, x: Tensor, noise_level: Tensor, label: Label = None, numbers: Numbers = None
    ) -> Tensor:
        """The hidden features in front of the head, (B, width)."""
        levels = NoiseLevels(noise_level)
        context = self.context(levels, label, numbers)
        h = self.activation(self.from_x(self.waves(x, levels)).add_(context))
        for block in self.blocks:
            h = self.activation(block(h)).add_(h)
        return h

    def waves(self, x: Tensor, levels: NoiseLevels) -> Tensor:
        """The embedded coordinates, (B, features)."""
        self.check_shape(x)
        waves = self.embed_x(x.flatten(1))
        if self.fade:
            left = levels.spread(fading(self.embed_x.squares(), levels.values))
            waves = waves * left.view(len(left), *(1,) * (waves.dim() - 2), -1)
        return waves.flatten(1)

    def drop_output(self) -> None:
        """Leaves features() alone, without parameters that it does not need."""
        del self.head

    def forward(self, x: Tensor, noise_level: Tensor, label: Label = None, numbers: Numbers = None) -> Tensor:
        h = self.features(x, noise_level, label, numbers)
        with precise(x):
            out = self.head(h.to(x.dtype))
        return out.view(x.shape) if self.outputs == 1 else out.view(len(x), self.outputs, *self.shape)
