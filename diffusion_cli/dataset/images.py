"""Images as data: a training part and a held-out one, in memory or mapped from a file, batches in [-1, 1]."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.held_out import distinct_rows
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import checked

# Bytes; larger training parts stay where they are, and their batches travel.
MOST_ON_GPU = 8 * 2**30
# Images that are looked at together.
LOT = 2000


@dataclass(frozen=True, eq=False)
class Split:
    """A part of the images; the `HeldOut` of dataset.protocol.

    images: (N, C, H, W) uint8, uint16 or float32, in memory or memory-mapped.
    label: (N,) int64, or None.
    low, high: the values that are black and white; what lies beyond them is taken for them.
    """

    images: Tensor
    label: Tensor | None = None
    low: float = 0.0
    high: float = 255.0

    @property
    def count(self) -> int:
        return len(self.images)

    def batch(self, rows: Tensor | list[int] | slice) -> Batch:
        """The images of these rows as float32 x0 = 2 (value - low) / (high - low) - 1 in [-1, 1]."""
        x0 = self.images[rows].float()
        if self.low:
            x0 = x0.sub(self.low)
        x0 = x0.div_((self.high - self.low) / 2).sub_(1)
        if (self.low, self.high) != (0.0, 255.0):
            x0.clamp_(-1, 1)
        return Batch(x0, None if self.label is None else self.label[rows])

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(self.images), (n,), generator=generator, device=generator.device)
        return self.batch(rows.to(self.images.device)).to(generator.device)

    def distinct(self, n: int, seed: int) -> Batch:
        return self.batch(distinct_rows(len(self.images), n, seed))

    def to(self, device: torch.device) -> Split:
        # No GPU indexes numbers of 16 bits without a sign.
        images = self.images.int() if self.images.dtype == torch.uint16 else self.images
        return replace(
            self, images=images.to(device), label=None if self.label is None else self.label.to(device)
        )

    def rows(self, rows: Tensor | list[int] | slice) -> Split:
        """A part of these images."""
        return replace(self, images=self.images[rows], label=None if self.label is None else self.label[rows])


# Of numbers that are no bytes: ranges that people use, the narrowest first.
USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))


def black_and_white(images: Tensor, given: Sequence[float] | None) -> tuple[float, float]:
    """The values that are black and white: the given ones, or of integers without a sign the range of their bits.

    Raises ArgumentError (range) for other numbers without a given range, for an empty one, and one in which no value lies.
    """
    depth = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(images.dtype)
    if given is None and depth is not None:
        return 0.0, depth
    some = images[:: max(1, len(images) // 1000)].double()
    least, most = some.min().item(), some.max().item()
    if given is None:
        low, high = next((pair for pair in USUAL if pair[0] <= least and most <= pair[1]), (least, most))
        reason = f"the images hold numbers from {least:g} to {most:g}; say which are black and white"
        raise ArgumentError("range", None, f"{reason}: dataset.range=[{low:g},{high:g}]")
    low, high = map(float, given)
    if not low < high or high <= least or most <= low:
        reason = f"must be [black,white], black below white; the images hold {least:g} to {most:g}"
        raise ArgumentError("range", list(given), reason)
    return low, high


@checked
class ImageDataset(Dataset):
    """Batches of images for training, and images held out.

    train: the images to train on.
    test: the images that are held out.
    class_names: those of labels 0, 1, ...; none for unlabelled data.
    digest: of the content of the images, part of the fingerprint.
    labels: true: the classes of the data are the labels; false: no labels.
    flip: mirror every training image left to right with probability 1/2.

    shape is (C, H, W); num_classes is 0 without labels. Proved by tests/test_images.py.

    >>> part = Split(torch.zeros(8, 1, 4, 4, dtype=torch.uint8))
    >>> ImageDataset(part, part).draw(2, torch.Generator()).x0.unique()
    tensor([-1.])
    """

    kind = "images"
    fingerprint: str

    def __init__(
        self,
        train: Split,
        test: Split,
        class_names: Iterable[str] = (),
        digest: str = "",
        labels: bool = True,
        flip: bool = False,
    ) -> None:
        if not labels:
            train, test, class_names = replace(train, label=None), replace(test, label=None), ()
        self.train, self.test, self.flip = train, test, flip
        # Where nothing is held out, the loss by which checkpoints are compared is that of training.
        self.held_out = test if len(test.images) else train
        self.shape = tuple(train.images.shape[1:])
        self.class_names = tuple(class_names)
        self.num_classes = len(self.class_names)
        self.count = len(train.images)
        self.label_counts = None if train.label is None else train.label.bincount(minlength=self.num_classes)
        content = (
            digest,
            self.shape,
            len(train.images),
            len(test.images),
            self.class_names,
            flip,
            train.low,
            train.high,
        )
        self.fingerprint = hashlib.sha256(repr(content).encode()).hexdigest()
        self._copies: dict[torch.device, Split] = {}

    def part(self, name: Literal["train", "test"]) -> Split:
        """The images to train on, or those that are held out."""
        return self.train if name == "train" else self.test

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """n random training images, with replacement, on `generator.device`."""
        x0, label, _ = self._near(generator.device).draw(n, generator)
        if self.flip:
            mirrored = torch.rand(n, 1, 1, 1, generator=generator, device=x0.device) < 0.5
            x0 = torch.where(mirrored, x0.flip(-1), x0)
        return Batch(x0, label)

    def examples(self) -> Iterator[Tensor]:
        rows = range(0, len(self.train.images), LOT)
        return (self.train.batch(slice(start, start + LOT)).x0 for start in rows)

    def _near(self, device: torch.device) -> Split:
        """The training part on the device, if it fits; `train` itself stays where it is."""
        if device.type == "cpu" or self.train.images.nbytes > MOST_ON_GPU:
            return self.train
        if device not in self._copies:
            self._copies[device] = self.train.to(device)
        return self._copies[device]
