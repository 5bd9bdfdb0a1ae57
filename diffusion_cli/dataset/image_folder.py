"""A user's own folder of images, decoded once into a cache that is mapped into memory from then on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_cli.dataset.cache import cache_dir, cached
from diffusion_cli.dataset.decode import decode_all
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.tree import identity, read_tree
from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Count, Inner, Pixels, checked

# Of what `decode` makes of a file; caches of another one are not used.
VERSION = 1
PIXELS, DIGEST = "images.npy", "sha256"  # the files of a cache


@checked
class ImageFolder(ImageDataset):
    """A folder of PNG, JPEG and WebP files of any sizes, made squares of `image_size`.

    root: the folder, with folders train and test (or val) in it, or all in one, of which `test` are held out.
    image_size: pixels of either side, to which the largest square in the middle of an image is resized.
    channels: of the images: 3 for RGB, 1 for grey.
    test: images that are held out, a number, or below 1 a fraction of all; without effect where there is a folder of
        them.
    labels: true: the folders in the root are the classes, if there are two or more; false: no labels.

    See dataset.tree for what is read in the folder, and dataset.decode for how an image is converted.

    All images lie as bytes in one file in the cache folder: N x channels x image_size^2 bytes. It is made anew when
    a file, its place, or an option that matters has changed. Proved by tests/test_image_folder.py.
    """

    def __init__(
        self,
        root: str,
        image_size: Pixels = 32,
        channels: Literal[3, 1] = 3,
        test: Count | Inner = 0.1,
        labels: bool = True,
        flip: bool = True,
    ) -> None:
        tree = read_tree(root, test, labels)
        entries = tree.train.images + tree.test.images
        key = identity(entries, VERSION, image_size, channels)
        shape = (len(entries), channels, image_size, image_size)
        folder = cache_dir() / "image_folder" / key[:32]
        cached(folder, lambda part: write_pixels(part, [entry.path for entry in entries], shape))
        images, digest = read_pixels(folder, shape)
        label = torch.tensor(tree.train.label + tree.test.label)
        n = len(tree.train.images)
        train, held_out = (
            Split(images[rows], label[rows] if tree.class_names else None)
            for rows in (slice(None, n), slice(n, None))
        )
        content = hashlib.sha256(digest.encode() + label.numpy().tobytes()).hexdigest()
        super().__init__(train, held_out, tree.class_names, content, labels, flip)


def write_pixels(folder: Path, files: Sequence[Path], shape: tuple[int, int, int, int]) -> None:
    """Decode the files, in their order, into a new folder: an array of bytes of that shape, and its SHA-256.

    Written as a stream and not through a map, in which a full disk would end the process by a signal.
    """
    folder.mkdir()
    digest = hashlib.sha256()
    with (folder / PIXELS).open("wb") as out:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        with tqdm(total=len(files), desc="images", unit="image", disable=None, leave=False) as bar:
            for pixels in decode_all(files, shape[-1], shape[1]):
                out.write(pixels.data)
                digest.update(pixels.data)
                bar.update(len(pixels))
    (folder / DIGEST).write_text(digest.hexdigest(), encoding="ascii")


def read_pixels(folder: Path, shape: tuple[int, int, int, int]) -> tuple[Tensor, str]:
    """The array of a cache, mapped into memory, and its SHA-256 as it was written. UserError where it is damaged."""
    try:
        # Mode "c": writes stay in memory; torch warns of arrays that forbid them.
        array = np.load(folder / PIXELS, mmap_mode="c")
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"it holds {array.dtype} of shape {array.shape}, not bytes of {shape}")
        return torch.from_numpy(array), (folder / DIGEST).read_text(encoding="ascii")
    except (OSError, EOFError, ValueError) as error:
        raise UserError("", ..., f"cache {folder}: damaged ({error}); delete it") from error
