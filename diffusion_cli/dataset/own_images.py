"""A user's own pictures, made what the images of a run are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.decode import Array, Deeper, Form, Inspected, decode
from diffusion_cli.dataset.images import Split
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import Config


def read_own_images(files: Sequence[str], shape: tuple[int, int, int], options: Config) -> Tensor:
    """Pictures (n, C, H, W) in [-1, 1].

    shape: of the images of the run, (C, H, W).
    options: of its dataset: where `resize` is among them, pictures of any size are made of that shape; else they must have
        its size. `range` are the values that are black and white.

    Raises ArgumentError (image) for what cannot be read, and for another size. The data themselves are not needed.
    """
    limits = options.get("range")
    # Black and white of numbers of 16 bits; a byte among these is 257 times as large.
    deep = limits is not None and limits[1] > 255
    form = Form(*shape[1:], shape[0], options.get("resize", "crop"), 16 if deep else 8)
    pictures = []
    for file in files:
        pixels, (width, height) = _decoded(file, form)
        if "resize" not in options and (height, width) != shape[1:]:
            reason = f"is {height} x {width}, and the images of the run are {shape[1]} x {shape[2]}"
            raise ArgumentError("image", file, reason)
        low, high = limits or (0.0, float(np.iinfo(pixels.dtype).max))
        pictures.append(Split(torch.from_numpy(pixels)[None], None, low, high).batch(slice(None)).x0)
    return torch.cat(pictures)


def _decoded(file: str, form: Form) -> tuple[Array, tuple[int, int]]:
    """The numbers of a picture, and its width and height in the file."""
    inspected, path = Inspected(), Path(file).expanduser()
    try:
        if not path.is_file():
            raise ArgumentError("image", file, "no such file")
        try:
            pixels = decode(path, form, inspected)
        except Deeper:
            pixels = decode(path, form._replace(bits=16), inspected)
    except ArgumentError as error:
        raise ArgumentError("image", file, error.reason.removeprefix(f"{path}: ")) from error
    return pixels.copy("K"), inspected.size[0]
