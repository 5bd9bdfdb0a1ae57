"""A classifier of noised samples, p(label | x_t), whose gradient can guide a sampler."""

from __future__ import annotations

from torch import Tensor, nn

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.blocks2d import normalisation
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.network import Network, zeroed
from diffusion_cli.model.unet2d import UNet2d

# places along each side of an image to which its features are averaged
PLACES = 4


class LabelClassifier(Network):
    """Noise-aware classifier on the features of a network (Dhariwal & Nichol 2021, section 4).

        h      = body.features(x, noise_level)
        logits = Linear(h), of an MLP
        logits = Linear(silu(norm(h)) averaged to 4 x 4 places), of the downward half of a UNet2d

    classifier(x, noise_level) -> logits (B, num_classes): x (B, *shape) float, noise_level (B,) or (1,). The last layer
    starts at zero: every label equally likely, a loss of log(num_classes).

    body: a new MLP or UNet2d without classes; it is taken over, and loses the layers that only its output needs.
    num_classes: number of labels.

    Raises ArgumentError for another body, or without classes.

    >>> import torch
    >>> LabelClassifier(MLP((2,)), num_classes=3)(torch.randn(5, 2), torch.zeros(1)).shape
    torch.Size([5, 3])
    """

    def __init__(self, body: Network, num_classes: int) -> None:
        super().__init__(body.shape, num_classes)
        if num_classes < 1:
            raise ArgumentError("", ..., "a classifier needs a dataset with classes")
        if not isinstance(body, MLP | UNet2d):
            found = type(body).__name__
            raise ArgumentError(
                "", ..., f"a classifier is built on an MLP, or for images a UNet2d, not a {found}"
            )
        body.drop_output()
        self.body, self.dropout = body, body.dropout
        if isinstance(body, MLP):
            self.pool, features = nn.Sequential(), body.width
        else:
            channels = body.widths[-1]
            norm = normalisation("layer" if body.channels_last else "group", channels)
            self.pool = nn.Sequential(norm, nn.SiLU(), nn.AdaptiveAvgPool2d(PLACES), nn.Flatten())
            features = channels * PLACES**2
        self.head = zeroed(nn.Linear(features, num_classes))

    def forward(self, x: Tensor, noise_level: Tensor) -> Tensor:
        return self.head(self.pool(self.body.features(x, noise_level)))
