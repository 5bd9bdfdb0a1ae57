"""Images in arrays: NumPy files, of one array or by the names of MedMNIST and Keras, and Kaggle's tables of pixels."""

from __future__ import annotations

import hashlib
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from diffusion_cli.dataset.array_file import read_array, read_entry
from diffusion_cli.dataset.images import ImageDataset, Split, black_and_white
from diffusion_cli.dataset.mapped import Decoded, shared
from diffusion_cli.dataset.places import user_file
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Finite, Inner, Whole, checked

MOST_BYTES = 2**32
MOST_CLASSES = 65_536
# Names of arrays: images and labels to train on, images and labels held out; of MedMNIST and of Keras.
KNOWN = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
Array = npt.NDArray[np.number]
Arrays = dict[str, Array | None]


@checked
class ImageArrays(ImageDataset):
    """Images in a file of numbers, grey or RGB: arrays (N, H, W), (N, H, W, C) or (N, C, H, W), or a table of pixels.

    path: a .npy file, a .npz file with one array, with those of MedMNIST (train_images, train_labels, test_images,
        test_labels) or of Keras (x_train, y_train, x_test, y_test), or a .csv file as Kaggle has them: a square image a
        row, with or without its label in front.
    range: the values that are black and white, [low,high]; null: 0 and 255 of bytes, 0 and 65535 of numbers of 16 bits;
        needed for others.
    test: images that are held out, a number (0: none), or below 1 a fraction of all; without effect where the file has them.
    labels: true: the labels of the file are the classes; false: no labels.

    Raises ArgumentError (path) for anything else. Proved by tests/test_image_arrays.py.
    """

    def __init__(
        self,
        path: str,
        range: tuple[Finite, Finite] | None = None,
        test: Whole | Inner = 0.1,
        labels: bool = True,
        flip: bool = False,
    ) -> None:
        file = user_file(path, (".npy", ".npz", ".csv"))
        found = shared([file], (test,), lambda: self._read(path, file, test))
        both = found.train, found.test
        low, high = black_and_white(found.train.images, range)
        train, held_out = (replace(part, low=low, high=high) for part in both)
        classes = [part.label for part in both if part.label is not None]
        count = int(torch.cat(classes).max()) + 1 if classes else 0
        self.about = found.about
        super().__init__(train, held_out, map(str, np.arange(count)), found.digest, labels, flip)

    def _read(self, path: str, file: Path, test: float) -> Decoded:
        try:
            arrays, others = read_pixel_table(file) if file.suffix.lower() == ".csv" else read_arrays(file)
            names = next(known for known in KNOWN if known[0] in arrays)
            parts = [_part(arrays[names[k]], arrays.get(names[k + 1])) for k in (0, 2) if names[k] in arrays]
        # NumPy and zipfile raise a dozen kinds for damaged files.
        except Exception as error:
            raise ArgumentError("path", path, f"cannot be read: {error}") from error
        if len({(part.images.shape[1:], part.images.dtype) for part in parts}) > 1:
            raise ArgumentError("path", path, "has other images to train on than to hold out")
        train, held_out = parts if len(parts) == 2 else _hold_out(parts[0], test)
        digest = hashlib.sha256()
        for part in (train, held_out):
            digest.update(part.images.numpy().tobytes())
            digest.update(b"" if part.label is None else part.label.numpy().tobytes())
        about = {
            "files": [str(file.resolve())],
            "read": len(train.images) + len(held_out.images),
            "left out": dict.fromkeys(others, 1),
            "numbers": str(train.images.dtype).removeprefix("torch."),
        }
        return Decoded(train, held_out, digest.hexdigest(), about)


def read_arrays(file: Path) -> tuple[Arrays, list[str]]:
    """The arrays of a NumPy file by their names, one of KNOWN; and the names of those that are not read."""
    if file.suffix.lower() == ".npz":
        with zipfile.ZipFile(file) as archive:
            names = sorted(name.removesuffix(".npy") for name in archive.namelist())
        for known in KNOWN:
            if known[0] in names:
                found = {name: read_entry(file, name, MOST_BYTES) for name in known if name in names}
                return {**found}, [name for name in names if name not in known]
        if len(names) > 1:
            raise ValueError(f"it holds {', '.join(names)}; known are {', '.join(KNOWN[0] + KNOWN[1])}")
    return {KNOWN[0][0]: read_array(file, MOST_BYTES)}, []


def read_pixel_table(file: Path) -> tuple[Arrays, list[str]]:
    """Images and labels of a table: label,pixel0,pixel1,..., a square image a row. NumPy reads it: a hundred times as
    quick as a reader of cells, and strict, too."""
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    with file.open(encoding="utf-8-sig") as lines:
        names = [name.strip().strip('"') for name in lines.readline(2**22).split(",")]
    header = not any(name.isdigit() for name in names)
    rows = np.loadtxt(file, np.float32, delimiter=",", skiprows=int(header), ndmin=2, encoding="utf-8-sig")
    width = len(names)
    if not rows.size:
        raise ValueError("it holds no rows of numbers")
    labelled = "label" in names if header else math.isqrt(width) ** 2 != width
    at = names.index("label") if header and labelled else 0
    label = rows[:, at] if labelled else None
    pixels = np.delete(rows, at, 1) if labelled else rows
    side = math.isqrt(pixels.shape[1])
    if side**2 != pixels.shape[1]:
        reason = f"it has {pixels.shape[1]} columns of pixels{'' if labelled else ', and none named label'}"
        raise ValueError(f"{reason}, which make no square grey image")
    if ((pixels >= 0) & (pixels <= 255) & (pixels == pixels.round())).all():
        pixels = pixels.astype(np.uint8)
    return {KNOWN[0][0]: pixels.reshape(-1, side, side), KNOWN[0][1]: label}, []


def _part(images: Array | None, label: Array | None) -> Split:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) and labels (N,) or (N, 1), as a part of the data."""
    assert images is not None
    shape = images.shape
    if images.dtype.kind == "c" or images.ndim not in (3, 4) or not images.size:
        raise ValueError(f"it holds {images.dtype} of shape {shape}, not images (N, H, W) or (N, H, W, C)")
    if images.ndim == 3:
        images = images[:, None]
    elif shape[3] in (1, 3) and shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif shape[1] not in (1, 3) or shape[3] in (1, 3):
        raise ValueError(
            f"it holds an array of shape {shape}, of which C = 1 or 3 must be the second or last, and one alone"
        )
    kept = images.dtype if images.dtype.type in (np.uint8, np.uint16) else np.dtype(np.float32)
    if not np.isfinite(images).all():
        raise ValueError("it holds numbers that are not finite")
    pixels = torch.from_numpy(np.ascontiguousarray(images, kept.newbyteorder("=")))
    return Split(pixels, None if label is None else _labels(label, len(images)))


def _labels(label: Array, n: int) -> torch.Tensor:
    flat = label.reshape(len(label), -1)
    if flat.shape != (n, 1):
        one_hot = flat.shape[0] == n and ((flat == 0) | (flat == 1)).all() and (flat.sum(1) == 1).all()
        hint = "; of one-hot labels take np.argmax(labels, 1)" if one_hot else ""
        raise ValueError(f"its labels have shape {label.shape}, not one number for each of {n} images{hint}")
    whole = np.isfinite(flat).all() and (flat == flat.round()).all()
    if not whole or flat.min() < 0 or flat.max() >= MOST_CLASSES:
        raise ValueError(
            f"its labels are {flat.min():g} to {flat.max():g}, not whole numbers in 0..{MOST_CLASSES - 1}"
        )
    return torch.from_numpy(flat[:, 0].astype(np.int64))


def _hold_out(part: Split, test: float) -> tuple[Split, Split]:
    """The part without some of its images, and these."""
    n = len(part.images)
    count = min(max(1, round(test * n)), n - 1) if 0 < test < 1 else int(test)
    if count >= n:
        raise ArgumentError("test", test, f"of {n} images at least one must be left to train on")
    order = torch.randperm(n, generator=generator(0, Stream.SPLIT))
    return part.rows(order[count:].sort().values), part.rows(order[:count].sort().values)
