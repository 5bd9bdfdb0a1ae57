"""A user's own folder of images, decoded once into a cache that is mapped into memory from then on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
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
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.ranges import Inner, Pixels, Whole, checked

log = logging.getLogger(__name__)

# Of what `decode` makes of a file; caches of another one are not used.
VERSION = 2
MOST_NAMED = 20
PIXELS, DIGEST, DAMAGED = "images.npy", "sha256", "damaged.json"  # the files of a cache


@checked
class ImageFolder(ImageDataset):
    """A folder of image files (PNG, JPEG, WebP, BMP, GIF, TIFF) of any sizes, made squares of `image_size`.

    root: the folder, with folders train and test (or val, valid, validation; in any case) in it, or all in one, of which
        `test` are held out.
    image_size: pixels of either side, to which the largest square in the middle of an image is resized.
    channels: of the images: 3 for RGB, 1 for grey.
    test: images that are held out, a number (0: none), or below 1 a fraction of all; without effect where there is a folder of
        them.
    labels: true: the folders in the root are the classes, if there are two or more; false: no labels.

    skip_damaged: true: files that cannot be read are left out, which the log says; false: they are refused, all of them named.

    See dataset.tree for what is read in the folder, and dataset.decode for how an image is converted.

    All images lie as bytes in one file in the cache folder: N x channels x image_size^2 bytes. It is made anew when
    a file, its place, or an option that matters has changed. Proved by tests/test_image_folder.py.
    """

    def __init__(
        self,
        root: str,
        image_size: Pixels = 32,
        channels: Literal[3, 1] = 3,
        test: Whole | Inner = 0.1,
        labels: bool = True,
        flip: bool = True,
        skip_damaged: bool = False,
    ) -> None:
        tree = read_tree(root, test, labels)
        entries = tree.train.images + tree.test.images
        key = identity(entries, VERSION, image_size, channels, skip_damaged)
        shape = (len(entries), channels, image_size, image_size)
        folder = cache_dir() / "image_folder" / key[:32]
        cached(
            folder, lambda part: write_pixels(part, [entry.path for entry in entries], shape, skip_damaged)
        )
        images, digest = read_pixels(folder, shape)
        label = torch.tensor(tree.train.label + tree.test.label)
        n = len(tree.train.images)
        damaged = {int(k): reason for k, reason in json.loads((folder / DAMAGED).read_text("utf-8")).items()}
        parts: list[slice | list[int]] = [slice(None, n), slice(n, None)]
        if damaged:
            every = range(len(entries))
            parts = [
                [k for k in every[part] if k not in damaged] for part in (slice(None, n), slice(n, None))
            ]
            log.warning("%s", all_of(damaged))
        train, held_out = (Split(images[rows], label[rows] if tree.class_names else None) for rows in parts)
        if not len(train.images):
            raise ArgumentError("root", root, "no image of the training set can be read")
        self.about = {
            "files": f"{len(entries) + sum(tree.left_out.values())} below {tree.top}",
            "read": len(train.images) + len(held_out.images),
            "left out": tree.left_out | ({"damaged": len(damaged)} if damaged else {}),
            "made": f"{channels} x {image_size} x {image_size}, 8 bit, the square in the middle",
        }
        content = hashlib.sha256(digest.encode() + label.numpy().tobytes()).hexdigest()
        super().__init__(train, held_out, tree.class_names, content, labels, flip)


def write_pixels(
    folder: Path, files: Sequence[Path], shape: tuple[int, int, int, int], skip_damaged: bool = False
) -> None:
    """Decode the files, in their order, into a new folder: an array of bytes of that shape, and its SHA-256.

    Written as a stream and not through a map, in which a full disk would end the process by a signal.
    """
    folder.mkdir()
    damaged: dict[int, str] = {}
    digest = hashlib.sha256()
    with (folder / PIXELS).open("wb") as out:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        with tqdm(total=len(files), desc="images", unit="image", disable=None, leave=False) as bar:
            for pixels in decode_all(files, shape[-1], shape[1], damaged):
                out.write(pixels.data)
                digest.update(pixels.data)
                bar.update(len(pixels))
    if damaged and not skip_damaged:
        raise ArgumentError("root", ..., all_of(damaged))
    (folder / DAMAGED).write_text(json.dumps(damaged), encoding="utf-8")
    (folder / DIGEST).write_text(digest.hexdigest(), encoding="ascii")


def all_of(damaged: Mapping[int, str]) -> str:
    """What is wrong with all files that cannot be read, in one line."""
    reasons = sorted(damaged.values())
    if len(reasons) == 1:
        return reasons[0]
    more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
    text = "; ".join(reasons[:MOST_NAMED])
    return f"{len(reasons)} files cannot be read (dataset.skip_damaged=true leaves them out): {text}{more}"


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
