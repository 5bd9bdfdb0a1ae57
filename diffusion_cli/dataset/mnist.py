"""MNIST and Fashion-MNIST: their four IDX files, or the digits that come with the package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from diffusion_cli.dataset.idx import read_idx
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.mapped import Decoded, shared
from diffusion_cli.dataset.places import Source
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import checked

BUNDLED = "mnist_bundled.npz"  # made by scripts/bundle_mnist
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
ENDINGS = ("", ".gz")


@checked
class IdxImages(ImageDataset):
    """A dataset of two pairs of IDX files, recognised by their checksums; 28 x 28 grey images.

    root: folder of the IDX files, or one that holds a folder of the dataset's name; null: $DIFFUSION_CLI_DATA, else the
        cache folder, into which what is missing is downloaded.

    Raises ArgumentError (root) when a file is missing and cannot be fetched, is damaged or another than it must be.
    Proved by tests/test_idx.py.
    """

    origin: ClassVar[Source]
    # Of the uncompressed files.
    checksums: ClassVar[dict[str, str]]
    names: ClassVar[tuple[str, ...]]

    def __init__(self, root: str | None = None, labels: bool = True, flip: bool = False) -> None:
        folder = self.origin.find(self.checksums, root, ENDINGS)
        if folder is None:
            advice = ", ".join(f"{name}[.gz]" for name in self.checksums)
            folder = self.origin.fetch([f"{name}.gz" for name in self.checksums], root, advice, self.check)
        files = {name: _file_of(folder, name) for name in self.checksums}
        found = shared([*files.values()], (), lambda: self._read(files))
        super().__init__(found.train, found.test, self.names, found.digest, labels, flip)

    @classmethod
    def check(cls, file: Path, name: str) -> npt.NDArray[np.uint8]:
        """The array in the file; ArgumentError where it is not the one of that name, NAME or NAME.gz."""
        name = name.removesuffix(".gz")
        array, sha256 = read_idx(file, dimensions=3 if name.endswith(IMAGES) else 1)
        if sha256 != cls.checksums[name]:
            raise ArgumentError("root", ..., f"{file}: wrong checksum: it is not {cls.origin.title}'s {name}")
        return array

    def _read(self, files: Mapping[str, Path]) -> Decoded:
        def split(part: str) -> Split:
            images, label = (
                self.check(files[f"{part}-{kind}"], f"{part}-{kind}") for kind in (IMAGES, LABELS)
            )
            return Split(torch.from_numpy(images[:, None]), torch.from_numpy(label).long())

        return Decoded(split("train"), split("t10k"), "".join(self.checksums.values()))


def _file_of(folder: Path, name: str) -> Path:
    return next(file for end in ENDINGS if (file := folder / f"{name}{end}").is_file())


@checked
class Mnist(IdxImages):
    """60,000 + 10,000 handwritten digits, 28 x 28, grey, with their labels.

    Source: LeCun, Bottou, Bengio and Haffner 1998.

    source: full for the IDX files, or bundled for 2,000 + 500 of the digits, as many of each, which come with the package.

    >>> Mnist(source="bundled").train.images.shape
    torch.Size([2000, 1, 28, 28])
    """

    origin = Source(
        "MNIST",
        ("mnist", "MNIST/raw"),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    )
    checksums: ClassVar = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    names = tuple("0123456789")

    def __init__(
        self,
        root: str | None = None,
        source: Literal["full", "bundled"] = "full",
        labels: bool = True,
        flip: bool = False,
    ) -> None:
        if source == "full":
            super().__init__(root, labels, flip)
        else:
            train, test = bundled_digits()
            digest = hashlib.sha256(train.images.numpy().tobytes()).hexdigest()
            ImageDataset.__init__(self, train, test, self.names, digest, labels, flip)


class FashionMnist(IdxImages):
    """60,000 + 10,000 pieces of clothing, 28 x 28, grey, of ten classes, in MNIST's format.

    Source: Xiao, Rasul and Vollgraf 2017.
    """

    origin = Source(
        "Fashion-MNIST",
        ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    )
    checksums: ClassVar = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
    names = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def bundled_digits() -> tuple[Split, Split]:
    """The digits in the package: a training part of 2,000 and a held-out one of 500."""
    with (
        files("diffusion_cli.dataset").joinpath("assets", BUNDLED).open("rb") as file,
        np.load(file) as arrays,
    ):
        images = [torch.from_numpy(arrays[f"{part}_images"])[:, None] for part in ("train", "test")]
        label = [torch.from_numpy(arrays[f"{part}_label"]).long() for part in ("train", "test")]
    return Split(images[0], label[0]), Split(images[1], label[1])
