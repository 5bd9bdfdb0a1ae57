"""Images in NumPy files: one array, or the arrays of MedMNIST and Keras."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from diffusion_cli.dataset.array_file import read_array, read_entry
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.places import user_file
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Inner, Whole, checked

MOST_BYTES = 2**32
# Names of arrays: images and labels to train on, images and labels held out; of MedMNIST and of Keras.
KNOWN = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
Array = npt.NDArray[np.number]


@checked
class ImageArrays(ImageDataset):
    """Images in a NumPy file, of bytes: (N, H, W) or (N, H, W, C), square, grey or RGB.

    path: a .npy file, or a .npz file with one array, with those of MedMNIST (train_images, train_labels, test_images,
        test_labels) or of Keras (x_train, y_train, x_test, y_test).
    test: images that are held out, a number (0: none), or below 1 a fraction of all; without effect where the file has them.
    labels: true: the labels of the file are the classes; false: no labels.

    Raises ArgumentError (path) for anything else. Proved by tests/test_image_arrays.py.
    """

    def __init__(self, path: str, test: Whole | Inner = 0.1, labels: bool = True, flip: bool = False) -> None:
        file = user_file(path, (".npy", ".npz"))
        try:
            arrays = _read(file)
            parts = [_part(arrays[k], arrays[k + 1]) for k in (0, 2) if arrays[k] is not None]
        # NumPy and zipfile raise a dozen kinds for damaged files.
        except Exception as error:
            raise ArgumentError("path", path, f"cannot be read: {error}") from error
        if len({part.images.shape[1:] for part in parts}) > 1:
            raise ArgumentError("path", path, "has images of different shapes to train on and to hold out")
        train, held_out = parts if len(parts) == 2 else _hold_out(parts[0], test)
        classes = [part.label for part in (train, held_out) if part.label is not None]
        count = int(torch.cat(classes).max()) + 1 if classes else 0
        digest = hashlib.sha256()
        for part in (train, held_out):
            digest.update(part.images.numpy().tobytes())
            digest.update(b"" if part.label is None else part.label.numpy().tobytes())
        names = tuple(map(str, range(count)))
        self.about = {
            "files": [str(file.resolve())],
            "read": len(train.images) + len(held_out.images),
            "left out": _others(file),
        }
        super().__init__(train, held_out, names, digest.hexdigest(), labels, flip)


def _read(file: Path) -> tuple[Array | None, ...]:
    """Images and labels to train on, images and labels held out, as far as there are any."""
    if file.suffix.lower() == ".npz":
        with zipfile.ZipFile(file) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
        for known in KNOWN:
            if known[0] in names:
                return tuple(read_entry(file, name, MOST_BYTES) if name in names else None for name in known)
        if len(names) > 1:
            raise ValueError(
                f"it holds {', '.join(sorted(names))}; known are {', '.join(KNOWN[0] + KNOWN[1])}"
            )
    return read_array(file, MOST_BYTES), None, None, None


def _others(file: Path) -> dict[str, int]:
    """Arrays of a file of known names that are not read, such as the images for validation."""
    if file.suffix.lower() != ".npz":
        return {}
    with zipfile.ZipFile(file) as archive:
        names = sorted(name.removesuffix(".npy") for name in archive.namelist())
    known = next((known for known in KNOWN if known[0] in names), tuple(names))
    return {name: 1 for name in names if name not in known}


def _part(images: Array | None, label: Array | None) -> Split:
    """Images (N, H, W[, C]) and labels (N,) or (N, 1), as a part of the data."""
    assert images is not None
    if images.dtype != np.uint8:
        raise ValueError(f"it holds {images.dtype}; images are bytes (uint8), 0 to 255")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise ValueError(
            f"it holds an array of shape {images.shape}, not (N, H, W) or (N, H, W, C) with C = 1 or 3"
        )
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"its images are {images.shape[1]} x {images.shape[2]}, not square")
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    if label is None:
        return Split(pixels, None)
    flat = label.reshape(len(label), -1)
    if (
        flat.shape != (len(images), 1)
        or label.dtype.kind not in "iu"
        or flat.min() < 0
        or flat.max() > 65_535
    ):
        raise ValueError(
            f"its labels have shape {label.shape}, not one whole number >= 0 for each of {len(images)} images"
        )
    return Split(pixels, torch.from_numpy(flat[:, 0].astype(np.int64)))


def _hold_out(part: Split, test: float) -> tuple[Split, Split]:
    """The part without some of its images, and these."""
    n = len(part.images)
    count = min(max(1, round(test * n)), n - 1) if 0 < test < 1 else int(test)
    if count >= n:
        raise ArgumentError("test", test, f"of {n} images at least one must be left to train on")
    order = torch.randperm(n, generator=generator(0, Stream.SPLIT))
    rows = order[count:].sort().values, order[:count].sort().values
    train, held_out = (Split(part.images[k], None if part.label is None else part.label[k]) for k in rows)
    return train, held_out
