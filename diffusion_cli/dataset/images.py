"""Images as data: a training part and a held-out one, bytes in memory or mapped from a file, batches in [-1, 1]."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.errors import UserError

MOST_ON_GPU = 8 * 2**30  # bytes; larger training parts stay where they are, and their batches travel


class Split(NamedTuple):
    """Images (N, C, H, W) uint8, in memory or memory-mapped, and their label (N,) int64, or None."""

    images: Tensor
    label: Tensor | None

    def batch(self, rows: Any) -> Batch:
        """The images of these rows (a tensor, a list or a slice) as float32 x0 = byte / 127.5 - 1 in [-1, 1]."""
        x0 = self.images[rows].float().div_(127.5).sub_(1)
        return Batch(x0, None if self.label is None else self.label[rows])

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), None if self.label is None else self.label.to(device))


class ImageDataset:
    """Batches of images for training, and images held out.

    train, test: the two parts. class_names: those of labels 0, 1, ...; none for unlabelled data. digest: hex digest of
    what the images are, by which `fingerprint` tells this dataset from others. flip: mirror every training image
    left to right with probability 1/2. labels: false leaves the labels of the data out.

    shape is (C, H, W); num_classes is 0 without labels; no density is known. Raises UserError (dataset.flip,
    dataset.labels). Proved by tests/test_images.py.

    >>> part = Split(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), None)
    >>> ImageDataset(part, part).draw(2, torch.Generator()).x0.unique()
    tensor([-1.])
    """

    density = None

    def __init__(
        self,
        train: Split,
        test: Split,
        class_names: Sequence[str] = (),
        digest: str = "",
        flip: bool = False,
        labels: bool = True,
    ) -> None:
        for option, value in (("flip", flip), ("labels", labels)):
            if not isinstance(value, bool):
                raise UserError(f"dataset.{option}", value, "must be true or false")
        if not labels:
            train, test, class_names = train._replace(label=None), test._replace(label=None), ()
        self.train, self.test, self.flip = train, test, flip
        self.shape = tuple(train.images.shape[1:])
        self.class_names = tuple(class_names)
        self.num_classes = len(self.class_names)
        told = repr((digest, self.shape, len(train.images), len(test.images), self.class_names, flip))
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()
        self._copies: dict[torch.device, Split] = {}

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """n random training images, with replacement, on `generator.device`."""
        device = generator.device
        train = self._near(device)
        rows = torch.randint(len(train.images), (n,), generator=generator, device=device)
        x0, label = train.batch(rows.to(train.images.device))
        x0 = x0.to(device)
        if self.flip:
            mirrored = torch.rand(n, 1, 1, 1, generator=generator, device=device) < 0.5
            x0 = torch.where(mirrored, x0.flip(-1), x0)
        return Batch(x0, None if label is None else label.to(device))

    def _near(self, device: torch.device) -> Split:
        """The training part on the device, if it fits; `train` itself stays where it is."""
        if device.type == "cpu" or self.train.images.numel() > MOST_ON_GPU:
            return self.train
        if device not in self._copies:
            self._copies[device] = self.train.to(device)
        return self._copies[device]
