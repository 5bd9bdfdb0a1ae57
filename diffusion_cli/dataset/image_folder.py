"""A user's own folder of images, decoded once into a cache that is mapped into memory from then on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.cache import cache_dir, cached
from diffusion_cli.dataset.decode import Deeper, Form, Inspected, decode_all
from diffusion_cli.dataset.images import ImageDataset, Split, black_and_white
from diffusion_cli.dataset.mapped import mapped
from diffusion_cli.dataset.tree import identity, read_tree
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.ranges import Facts, Finite, Inner, Pixels, Whole, checked
from diffusion_cli.runs.session import bar

log = logging.getLogger(__name__)

# Of what `decode` makes of a file; caches of another one are not used.
VERSION = 3
MOST_NAMED = 20
PIXELS, DIGEST, FOUND = "images.npy", "sha256", "found.json"  # the files of a cache
MADE = {
    "crop": "the largest part of this form in the middle",
    "pad": "the whole image, with black bars",
    "stretch": "the whole image, stretched",
}


@checked
class ImageFolder(ImageDataset):
    """A folder of image files (PNG, JPEG, WebP, BMP, GIF, TIFF) of any sizes, made images of `image_size`.

    root: the folder, with folders train and test (or val, valid, validation; in any case) in it, or all in one, of which
        `test` are held out.
    image_size: pixels of either side, or [height,width].
    resize: crop: the largest part of that form in the middle; pad: the whole image, with black bars; stretch: the whole
        image, in another form.
    channels: of the images: 3 for RGB, 1 for grey.
    range: the values that are black and white, [low,high]; null: 0 and 255, or 65535 where a file has 16 bits.
    test: images that are held out, a number (0: none), or below 1 a fraction of all; without effect where there is a folder of
        them.
    labels: true: the folders in the root are the classes, if there are two or more; false: no labels.

    skip_damaged: true: files that cannot be read are left out, which the log says; false: they are refused, all of them named.

    See dataset.tree for what is read in the folder, and dataset.decode for how an image is converted.

    All images lie in one file in the cache folder: N x channels x height x width bytes, twice as many of 16 bits. It is
    made anew when a file, its place, or an option that matters has changed. Proved by tests/test_image_folder.py.
    """

    def __init__(
        self,
        root: str,
        image_size: Pixels | tuple[Pixels, Pixels] = 32,
        resize: Literal["crop", "pad", "stretch"] = "crop",
        channels: Literal[3, 1] = 3,
        range: tuple[Finite, Finite] | None = None,
        test: Whole | Inner = 0.1,
        labels: bool = True,
        flip: bool = True,
        skip_damaged: bool = False,
    ) -> None:
        tree = read_tree(root, test, labels)
        entries = tree.train.images + tree.test.images
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.form = Form(height, width, channels, resize)
        key = identity(entries, VERSION, *self.form, skip_damaged)
        folder = cache_dir() / "image_folder" / key[:32]
        files = [entry.path for entry in entries]
        cached(folder, lambda part: write_pixels(part, files, self.form, skip_damaged))
        images, digest, found = read_pixels(folder, (len(entries), *self.form.shape))
        low, high = black_and_white(images, range)
        label = torch.tensor(tree.train.label + tree.test.label) if tree.class_names else None
        n = len(tree.train.images)
        damaged = {int(k): reason for k, reason in found["damaged"].items()}
        parts: list[slice | list[int]] = [slice(None, n), slice(n, None)]
        if damaged:
            every = torch.arange(len(entries)).tolist()
            parts = [
                [k for k in every[part] if k not in damaged] for part in (slice(None, n), slice(n, None))
            ]
            log.warning("%s", all_of(damaged))
        train, held_out = (Split(images, label, low, high).rows(rows) for rows in parts)
        if not len(train.images):
            raise ArgumentError("root", root, "no image of the training set can be read")
        bits = 8 * images.element_size()
        self.about = {
            "files": f"{len(entries) + sum(tree.left_out.values())} below {tree.top}",
            "read": len(train.images) + len(held_out.images),
            "left out": tree.left_out | ({"damaged": len(damaged)} if damaged else {}),
            **found["about"],
            "made": f"{channels} x {height} x {width}, {bits} bit, {MADE[resize]}",
        }
        labels_digest = b"" if label is None else label.numpy().tobytes()
        content = hashlib.sha256(digest.encode() + labels_digest).hexdigest()
        super().__init__(train, held_out, tree.class_names, content, labels, flip)


def write_pixels(folder: Path, files: Sequence[Path], form: Form, skip_damaged: bool = False) -> None:
    """Decode the files, in their order, into a new folder: an array of 8 or, where a file has them, 16 bits, its SHA-256
    and what was found.

    Written as a stream and not through a map, in which a full disk would end the process by a signal.
    """
    folder.mkdir()
    try:
        digest, found = _write(folder / PIXELS, files, form)
    except Deeper:
        digest, found = _write(folder / PIXELS, files, form._replace(bits=16))
    if found.damaged and not skip_damaged:
        raise ArgumentError("root", ..., all_of(found.damaged))
    content = {"damaged": found.damaged, "about": about(found, form)}
    (folder / FOUND).write_text(json.dumps(content), encoding="utf-8")
    (folder / DIGEST).write_text(digest, encoding="ascii")


def _write(file: Path, files: Sequence[Path], form: Form) -> tuple[str, Inspected]:
    digest, found = hashlib.sha256(), Inspected()
    with file.open("wb") as out:
        descr = np.lib.format.dtype_to_descr(np.dtype(form.dtype))
        header = {"descr": descr, "fortran_order": False, "shape": (len(files), *form.shape)}
        np.lib.format.write_array_header_1_0(out, header)
        with bar(len(files), unit="image") as progress:
            for pixels in decode_all(files, form, found):
                out.write(pixels.data)
                digest.update(pixels.data)
                progress.update(len(pixels))
    return digest.hexdigest(), found


def about(found: Inspected, form: Form) -> Facts:
    """Sizes and modes of the files, and how many of them are enlarged, for people."""
    sizes = sorted(found.size.values(), key=lambda size: (size[0] * size[1], size))
    texts = [f"{height} x {width}" for width, height in dict.fromkeys((sizes[0], sizes[-1]))] if sizes else []
    enlarged = sum(form.of(*size)[1][0] > form.of(*size)[0][2] - form.of(*size)[0][0] for size in sizes)
    return {
        "sizes": " to ".join(texts),
        "modes": dict(Counter(found.mode.values()).most_common()),
        **({"enlarged": enlarged} if enlarged else {}),
    }


def all_of(damaged: Mapping[int, str]) -> str:
    """What is wrong with all files that cannot be read, in one line."""
    reasons = sorted(damaged.values())
    if len(reasons) == 1:
        return reasons[0]
    more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
    text = "; ".join(reasons[:MOST_NAMED])
    return f"{len(reasons)} files cannot be read (dataset.skip_damaged=true leaves them out): {text}{more}"


def read_pixels(folder: Path, shape: tuple[int, ...]) -> tuple[Tensor, str, Facts]:
    """The array of a cache, mapped into memory, its SHA-256 as it was written, and what was found. UserError where it is
    damaged."""
    try:
        images = mapped(folder / PIXELS)
        if images.shape != shape or images.dtype not in (torch.uint8, torch.uint16):
            raise ValueError(f"it holds {images.dtype} of shape {tuple(images.shape)}, not pixels of {shape}")
        found = json.loads((folder / FOUND).read_text("utf-8"))
        return images, (folder / DIGEST).read_text(encoding="ascii"), found
    except (OSError, EOFError, ValueError) as error:
        raise UserError("", ..., f"cache {folder}: damaged ({error}); delete it") from error
