"""The residual MLP: trunk (embeddings and residual blocks) and head."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.model import options
from diffusion_cli.model.embedding import LabelEmbedding, Levels, embedding, fading
from diffusion_cli.model.linear import Linear, linear


def _relu(h: Tensor) -> Tensor:
    return F.threshold(h, 0.0, 0.0)


# Each saves its input for the backward pass, not its output as F.relu does, so that the residual may be added in
# place: at large batches a fresh tensor costs more than the addition itself.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": _relu}


class Trunk(nn.Module):
    """Hidden features of a noised point: trunk(x, noise, label) -> (B, width).

    h = act(W [embed(x_1), ..., embed(x_d), embed(noise), onehot(label)] + b), then `depth` times h + act(Linear(h)).
    W is kept as its three blocks of columns, so that a noise level is embedded and multiplied once, however many samples
    have it, and a label costs the look-up of a row. All other arguments are those of MLP.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
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
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        self.fade = options.flag("fade", fade)
        self.width = options.whole("width", width)
        self.activation = ACTIVATIONS[options.one_of("activation", activation, ACTIVATIONS)]
        chosen = x_embedding or ("rings" if math.prod(self.shape) == 2 else "harmonics")
        self.embed_x = embedding("x", chosen, x_features, x_scale)
        self.embed_time = embedding("time", time_embedding, time_features, time_scale)
        self.from_x = Linear(self.embed_x.size(math.prod(self.shape)), width)
        self.from_time = nn.Linear(self.embed_time.features, width, bias=False)
        # Unit variance in h from the coordinates (a wave's mean square is 1/2), however few features they have: under
        # nn.Linear's law for the undivided W the time drowns them, and samples end 2 to 3 times as far from a curve.
        nn.init.kaiming_uniform_(self.from_x.weight, nonlinearity="relu")
        self.from_label = LabelEmbedding(num_classes, width) if num_classes else None
        self.blocks = nn.ModuleList(Linear(width, width) for _ in range(options.whole("depth", depth)))

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (B, {', '.join(map(str, self.shape))})")
        levels = Levels(noise)
        h = levels.spread(F.linear(self.embed_time(levels.values), self.from_time.weight, self.from_x.bias))
        if self.from_label is not None:
            h = h + self.from_label(label)
        elif label is not None:
            raise ValueError("a label was given to a network without classes (num_classes=0)")
        waves = self.embed_x(x.flatten(1))
        if self.fade:
            left = levels.spread(fading(self.embed_x.squares(), levels.values))
            waves = waves * left.view(len(left), *(1,) * (waves.dim() - 2), -1)
        h = self.activation(linear(waves.flatten(1), self.from_x.weight).add_(h))
        for block in self.blocks:
            h = self.activation(block(h)).add_(h)
        return h


class MLP(nn.Module):
    """Residual MLP on flattened samples: net(x, noise, label) -> like x, or (B, outputs, *shape) if outputs > 1.

    out = Linear(h), h = Trunk(x, noise, label): embeddings, Linear, act, `depth` blocks h + act(Linear(h)).

    x (B, *shape) float; noise = log(sigma / alpha), (B,) or (1,) for the whole batch; label int64 (B,) in
    0..num_classes, where num_classes means "no label", as does None. ValueError: a wrong shape, or a label given to
    a network without classes.

    activation: silu | gelu | relu. x_embedding: rings (of the plane, x_features in all), harmonics | sinusoidal
    | fourier (x_features per coordinate) or none, None for rings in the plane and harmonics elsewhere, at x_scale;
    time_embedding: fourier | sinusoidal | none, likewise. None takes the embedding's own default. fade: waves of x
    finer than the noise fade (embedding.fading). zero_init: the network starts as exactly zero, so that the first
    steps are not spent on unlearning noise.
    outputs: 2 adds a second output per coordinate (the interpolation of a learned variance). UserError: bad options.

    tiny-diffusion's network (99,074 parameters; same function, test_model_mlp.py) is
    MLP((2,), activation="gelu", x_embedding="sinusoidal", time_embedding="sinusoidal", fade=False, zero_init=False).

    >>> MLP((2,))(torch.randn(5, 2), torch.zeros(1)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
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
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(
            shape, num_classes, width, depth, activation,
            x_embedding, x_features, x_scale, time_embedding, time_features, time_scale, fade,
        )  # fmt: skip
        self.shape, self.num_classes = self.trunk.shape, num_classes
        self.outputs = options.whole("outputs", outputs)
        self.head = nn.Linear(width, outputs * math.prod(self.shape))
        if options.flag("zero_init", zero_init):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        out = self.head(self.trunk(x, noise, label))
        return out.view(x.shape) if self.outputs == 1 else out.view(len(x), self.outputs, *self.shape)
