"""A classifier of noised samples, p(label | x_t), whose gradient can guide a sampler."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from diffusion_cli.errors import UserError
from diffusion_cli.model import options
from diffusion_cli.model.mlp import Trunk


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
