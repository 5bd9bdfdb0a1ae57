"""Masks of in-painting: true for the pixels of an image that are known, false for those to fill in."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffusion_cli.errors import UserError
from diffusion_cli.noise import Stream, generator

NAMES = ("left_half", "right_half", "box", "random")
FRACTION = 0.25  # of the pixels are known in `random`
PNG = b"\x89PNG\r\n\x1a\n"
# Of a PNG that can be read as black and white.
MODES = ("1", "L", "P", "RGB", "RGBA", "LA")


def pixels_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a mask for points of this shape: (H, W) of images, (D,) of D coordinates, (P,) of a set of P points.

    All channels of a pixel are known together, and so are all coordinates of a point of a set.
    """
    return shape[1:] if len(shape) == 3 else shape[:1]


def spread(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A mask (*pixels) that broadcasts against points (n, *shape)."""
    return mask[:, None] if len(shape) == 2 else mask


def make_mask(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """The bool mask, of shape `pixels_of(shape)`, for inpaint=NAME.

    name: left_half or right_half: that half of the columns is known; box: all but a box in the middle, half as wide and
        half as high; random: a quarter of the pixels; else a file, see `read_mask`.
    shape: of one x0.
    seed: of the random mask.

    Raises UserError (inpaint) where a mask would leave nothing known or nothing to fill in.

    >>> make_mask("left_half", (2,))
    tensor([ True, False])
    """
    pixels = pixels_of(shape)
    width = pixels[-1]
    if name == "left_half":
        mask = (torch.arange(width) < width // 2).expand(pixels)
    elif name == "right_half":
        mask = (torch.arange(width) >= width - width // 2).expand(pixels)
    elif name == "box":
        inside = torch.ones(pixels, dtype=torch.bool)
        for axis, size in enumerate(pixels):
            at = torch.arange(size).view((-1,) + (1,) * (len(pixels) - 1 - axis))
            inside = inside & (at >= size // 4) & (at < size - size // 4)
        mask = ~inside
    elif name == "random":
        count = math.prod(pixels)
        order = torch.randperm(count, generator=generator(seed, Stream.MASK))
        known = order[: max(round(FRACTION * count), 1)]
        mask = torch.zeros(count, dtype=torch.bool).index_fill(0, known, True).view(pixels)
    else:
        mask = read_mask(name, pixels)
    if mask.all() or not mask.any():
        lack = "leaves no pixel to fill in" if mask.all() else "leaves no pixel known"
        raise UserError("inpaint", name, f"{lack} of images of {dimensions(pixels)}")
    return mask.clone()


def read_mask(name: str, pixels: tuple[int, ...]) -> Tensor:
    """A mask from a file.

    name: of a .npy file, of bool or of two numbers, 0 (to fill in) and another (known); or of a .png file, where what is
        lighter than middle grey is known.
    pixels: the shape that it must have, which is read from the file's header before anything of its content.

    Raises UserError (inpaint), naming the file, for anything else.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in (".npy", ".png"):
        raise UserError("inpaint", name, "no such mask", (*NAMES, "FILE.npy", "FILE.png"))
    # A pipe would be waited for.
    if Path(name).exists() and not Path(name).is_file():
        raise UserError("inpaint", name, "is no file")
    try:
        return _read_npy(name, pixels) if suffix == ".npy" else _read_png(name, pixels)
    except UserError:
        raise
    # What NumPy and Pillow raise for damaged and hostile files is no closed list.
    except Exception as error:
        strerror = error.strerror if isinstance(error, OSError) else None
        raise UserError("inpaint", name, strerror or f"cannot be read as a {suffix[1:]} file") from None


def _read_npy(name: str, pixels: tuple[int, ...]) -> Tensor:
    values: npt.NDArray[np.generic] = np.load(name, mmap_mode="r", allow_pickle=False)
    _check(name, values.shape, pixels)
    if values.dtype.kind not in "biuf":
        raise UserError("inpaint", name, f"must hold true and false, not {values.dtype}")
    kinds = np.unique(values)
    if len(kinds) > 2 or (values.dtype != bool and (kinds != 0).sum() > 1) or not np.isfinite(kinds).all():
        raise UserError(
            "inpaint", name, "must hold two values, 0 for pixels to fill in and another for known ones"
        )
    return torch.from_numpy(np.array(values != 0))


def _read_png(name: str, pixels: tuple[int, ...]) -> Tensor:
    from PIL import Image

    with open(name, "rb") as file:
        head = file.read(24)
    # The size is compared before Pillow opens the file, which refuses very large ones in words of its own.
    if head[:8] == PNG:
        width, height = struct.unpack(">II", head[16:])
        _check(name, (width,) if len(pixels) == 1 and height == 1 else (height, width), pixels)
    with Image.open(name, formats=["PNG"]) as image:
        if image.mode not in MODES:
            raise UserError("inpaint", name, f"must be a black and white PNG, not of mode {image.mode}")
        light = np.asarray(image.convert("L")) > 127
    return torch.from_numpy(light).view(pixels)


def _check(name: str, found: tuple[int, ...], pixels: tuple[int, ...]) -> None:
    if tuple(found) != pixels:
        reason = f"is a mask of {dimensions(found)} pixels, but the images have {dimensions(pixels)}"
        raise UserError("inpaint", name, reason)


def dimensions(shape: tuple[int, ...]) -> str:
    """(28, 28) -> 28x28, height first."""
    return "x".join(map(str, shape)) or "no dimensions"
