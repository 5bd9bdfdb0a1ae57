"""CIFAR-10: the binary batches of its authors, unpacked or in their archive."""

from __future__ import annotations

import hashlib
import logging
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from diffusion_cli.dataset.cache import cache_dir, cached
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.mapped import Decoded, shared
from diffusion_cli.dataset.places import Source
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import checked

log = logging.getLogger(__name__)

TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
TEST = ("test_batch.bin",)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # a label, then red, green and blue, each row by row
USUAL = 10_000  # images in a batch
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
UNPACKED = "cifar-10-batches-bin"
# Of the Python version.
PICKLED = ("data_batch_1", "cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz")
SOURCE = Source(
    "CIFAR-10",
    ("cifar10", UNPACKED, f"cifar10/{UNPACKED}"),
    (
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    ),
)


@checked
class Cifar10(ImageDataset):
    """50,000 + 10,000 colour images, 32 x 32, of ten classes (Krizhevsky 2009).

    root: folder of the six *.bin files or of cifar-10-binary.tar.gz, or one that holds it as cifar10 or
        cifar-10-batches-bin; null: $DIFFUSION_CLI_DATA, else the cache folder, into which it is downloaded.

    Raises ArgumentError (root) when the files are missing, damaged, or those of the Python version: these are pickles,
    which can run any code when they are read. Proved by tests/test_cifar.py.
    """

    def __init__(self, root: str | None = None, labels: bool = True, flip: bool = True) -> None:
        folder = SOURCE.find((*TRAIN, *TEST), root) or unpacked(root)
        train, test = ([folder / name for name in names] for names in (TRAIN, TEST))
        for file in train + test:
            if (size := file.stat().st_size) != USUAL * RECORD:
                log.warning("%s: %d images, not the usual %d", file, size // RECORD, USUAL)

        def decode() -> Decoded:
            digest = hashlib.sha256()
            first, second = (read_batches(files, digest) for files in (train, test))
            return Decoded(first, second, digest.hexdigest())

        found = shared(train + test, (), decode)
        super().__init__(found.train, found.test, CLASSES, found.digest, labels, flip)


def read_batches(files: Sequence[Path], digest: hashlib._Hash) -> Split:
    """The images of some batches, in their order.

    digest: is updated with the bytes of the files.

    Raises ArgumentError (root) naming the file that is not made of whole records, or has a label above 9.
    """
    try:
        sizes = [file.stat().st_size for file in files]
        for file, size in zip(files, sizes, strict=True):
            if size == 0 or size % RECORD:
                raise ArgumentError(
                    "root", ..., f"{file}: {size} bytes are not whole records of {RECORD} each"
                )
        images = np.empty((sum(sizes) // RECORD, *SHAPE), np.uint8)
        label: list[npt.NDArray[np.int64]] = []
        for file in files:
            records = np.fromfile(file, np.uint8).reshape(-1, RECORD)
            digest.update(records.tobytes())
            if records[:, 0].max() >= len(CLASSES):
                row = int(records[:, 0].argmax())
                raise ArgumentError(
                    "root", ..., f"{file}: image {row} has the label {records[row, 0]}, not 0..9"
                )
            start = sum(map(len, label))
            images[start : start + len(records)] = records[:, 1:].reshape(-1, *SHAPE)
            label.append(records[:, 0].astype(np.int64))
    except ArgumentError:
        raise
    # ValueError: a file that shrinks while it is read.
    except (OSError, ValueError) as error:
        raise ArgumentError("root", ..., f"{files[0].parent}: cannot be read: {error}") from error
    return Split(torch.from_numpy(images), torch.from_numpy(np.concatenate(label)))


def unpacked(root: str | None) -> Path:
    """The folder in the cache with the batches of the archive, which lies in `root` or is downloaded."""
    folder = SOURCE.find([ARCHIVE], root)
    if folder is None:
        _refuse_pickles(root)
    else:
        check_archive(folder / ARCHIVE)

    def unpack(part: Path) -> None:
        archive = (folder or SOURCE.fetch([ARCHIVE], root, ARCHIVE, check_archive)) / ARCHIVE
        part.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for name in (*TRAIN, *TEST):
                    stream = tar.extractfile(f"{UNPACKED}/{name}")
                    if stream is None:
                        raise KeyError(f"{name} is no file")
                    (part / name).write_bytes(stream.read())
        except (tarfile.TarError, EOFError, KeyError, zlib.error) as error:
            raise ArgumentError("root", ..., f"{archive}: cannot be unpacked: {error}") from error
        # Our own download is not needed any more.
        if folder is None:
            archive.unlink()

    return cached(cache_dir() / SOURCE.folders[0] / UNPACKED, unpack)


def check_archive(file: Path, name: str = ARCHIVE) -> None:
    """Raises ArgumentError where the file is not the authors' archive."""
    try:
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ArgumentError("root", ..., f"{file}: cannot be read: {error}") from error
    if sha256 != ARCHIVE_SHA256:
        raise ArgumentError("root", ..., f"{file}: wrong checksum: it is not CIFAR-10's {name}")


def _refuse_pickles(root: str | None) -> None:
    reason = f"holds pickles, which can run any code when read; get the binary version, {SOURCE.mirrors[0]}{ARCHIVE}"
    for folder in SOURCE.looked_through(root):
        for name in PICKLED:
            if (folder / name).is_file():
                raise ArgumentError("root", ..., f"{folder / name}: {reason}")
