"""A user's own folder of images, decoded once into a cache that is mapped into memory from then on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diffusion_cli.dataset.cache import cache_dir, cached
from diffusion_cli.dataset.decode import decode_all
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.tree import identity, read_tree
from diffusion_cli.errors import UserError

VERSION = 1  # of what `decode` makes of a file; caches of another one are not used
PIXELS, DIGEST = "images.npy", "sha256"  # the files of a cache


class ImageFolder(ImageDataset):
    """Images of any sizes in a tree of folders, made squares of `image_size`; the folders in `root` are the classes.

    root: the folder; see dataset.tree for what is read in it, what are the classes, and what `test` holds out.
    image_size: of either side, in pixels. channels: 3 for RGB or 1 for grey. labels, flip: see ImageDataset.
    See dataset.decode for how an image is cropped, resized and converted, and for what is refused.

    All images lie as bytes in one file in the cache folder: N x channels x image_size^2 bytes. It is made anew when
    a file, its place, or an option that matters has changed. Proved by tests/test_image_folder.py.
    """

    def __init__(
        self,
        root: str | None,
        image_size: int = 32,
        channels: int = 3,
        test: float = 0.1,
        labels: bool = True,
        flip: bool = False,
    ) -> None:
        if channels not in (1, 3):
            raise UserError("dataset.channels", channels, "must be 1 (grey) or 3 (RGB)")
        tree = read_tree(root, test, labels)
        entries = tree.train.images + tree.test.images
        key = identity(entries, VERSION, image_size, channels)
        shape = (len(entries), channels, image_size, image_size)
        folder = cache_dir() / "image_folder" / key[:32]
        cached(folder, lambda part: write_pixels(part, [entry.path for entry in entries], shape))
        images, digest = read_pixels(folder, shape)
        label = torch.tensor(tree.train.label + tree.test.label)
        known = label if tree.class_names else None
        n = len(tree.train.images)
        train, test = (
            Split(images[rows], known if known is None else known[rows])
            for rows in (slice(None, n), slice(n, None))
        )
        told = hashlib.sha256(digest.encode() + label.numpy().tobytes()).hexdigest()
        super().__init__(train, test, tree.class_names, told, flip, labels)


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
                out.write(pixels)
                digest.update(pixels)
                bar.update(len(pixels))
    (folder / DIGEST).write_text(digest.hexdigest(), encoding="ascii")


def read_pixels(folder: Path, shape: tuple[int, int, int, int]) -> tuple[torch.Tensor, str]:
    """The array of a cache, mapped into memory, and its SHA-256 as it was written. UserError where it is damaged."""
    try:
        array = np.load(
            folder / PIXELS, mmap_mode="c"
        )  # writes would stay in memory; torch wants none forbidden
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"it holds {array.dtype} of shape {array.shape}, not bytes of {shape}")
        return torch.from_numpy(array), (folder / DIGEST).read_text(encoding="ascii")
    except (OSError, EOFError, ValueError) as error:
        raise UserError("", ..., f"cache {folder}: damaged ({error}); delete it") from error
