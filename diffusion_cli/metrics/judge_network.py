"""The network of the judge of images: a classifier, and statistics of texture beside its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.metrics.texture import Texture

FEATURES = 128  # of the classifier, beside those of texture
WIDTH = 32
SIDE = 16  # pixels along a side that the first convolution leaves at most


class Judge(nn.Module):
    """Classifier of clean images: judge(x) -> logits (B, outputs) = head(features(x)), x (B, C, H, W) in [-1, 1].

    Beside the classifier's features stand statistics of texture (`metrics.texture`), which it need not look at: to a
    classifier alone pure noise may look like an image of its kind.

    A strided convolution to at most 16 x 16 places and one more, both 32 wide, two 64 wide at half that side, all 3 x 3
    but the first and with batch normalization; max-pooling; a dense layer to 128 features, SiLU(Linear(dropout(h))),
    and a linear head. 150,000 weights for digits.

    shape: of an image, (C, H, W).
    outputs: number of labels, or of rotations.
    task: `labels`, or `rotations`: by which of 0, 90, 180, 270 degrees was the image turned? (Gidaris et al. 2018,
        Unsupervised Representation Learning by Predicting Image Rotations; images that are not square: 0 or 180).

    accuracy is that on the held-out part; digest, of all weights, names the judge beside every value that it gave.
    """

    name = "judge"

    def __init__(self, shape: tuple[int, ...], outputs: int, task: str = "labels") -> None:
        super().__init__()
        self.shape, self.outputs, self.task = tuple(shape), outputs, task
        self.accuracy: float | None = None
        self.digest = ""
        channels, *sides = self.shape
        stride = -(-min(sides) // SIDE)
        kernel = stride + 3 if stride > 1 else 3
        padding = (kernel - 1) // 2
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in sides]
        layers = [*_layer(channels, WIDTH, kernel, stride, padding), *_layer(WIDTH, WIDTH)]
        for deeper in ([*_layer(WIDTH, 2 * WIDTH), *_layer(2 * WIDTH, 2 * WIDTH)], []):
            if min(sides) > 3:
                layers.append(nn.MaxPool2d(2))
                sides = [side // 2 for side in sides]
            layers += deeper
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        self.dense = nn.Linear(2 * WIDTH * sides[0] * sides[1], FEATURES)
        self.last = nn.Linear(FEATURES, outputs)
        self.texture = Texture(self.shape)

    def seen(self, x: Tensor) -> Tensor:
        """What the last layer but one of the classifier sees, (B, 128)."""
        return F.silu(self.dense(self.body(x)))

    def features(self, x: Tensor) -> Tensor:
        """The same and statistics of texture, (B, 128 + K)."""
        return torch.cat((self.seen(x), self.texture(x)), 1)

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, outputs) of what `features` gave."""
        return self.last(features[:, :FEATURES])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.seen(x))


def _layer(before: int, after: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
