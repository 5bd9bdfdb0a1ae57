"""Masks: which pixels of an image are known when it is in-painted; true is known."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.errors import UserError
from diffusion_cli.noise import Stream, generator

NAMES = ("left_half", "right_half", "box", "random")
SHARE = 0.25  # of the pixels that `random` shows
PNG = b"\x89PNG\r\n\x1a\n"
MODES = ("1", "L", "P", "RGB", "RGBA", "LA")  # of a PNG that can be read as black and white


def pixels_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a mask for points of this shape: (H, W) of images, (W,) of a line of pixels, (P,) of a set of P
    points. All channels of a pixel, and all coordinates of a point, are known together."""
    return shape[1:] if len(shape) == 3 else shape[:1]


def spread(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A mask (*pixels) ready to meet points (n, *shape)."""
    return mask[:, None] if len(shape) == 2 else mask


def make_mask(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """The bool mask, of shape `pixels_of(shape)`, meant by inpaint=NAME.

    left_half, right_half: that half of the columns is known. box: all but a box in the middle, half as wide and half
    as high. random: a quarter of the pixels, chosen by the seed. Anything else is a file, see `read_mask`. UserError
    where a mask would leave nothing known or nothing to fill in.

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
        shown = torch.randperm(count, generator=generator(seed, Stream.MASK))[: max(round(SHARE * count), 1)]
        mask = torch.zeros(count, dtype=torch.bool).index_fill(0, shown, True).view(pixels)
    else:
        mask = read_mask(name, pixels)
    if mask.all() or not mask.any():
        lack = "leaves no pixel to fill in" if mask.all() else "leaves no pixel known"
        raise UserError("inpaint", name, f"{lack} of images of {dimensions(pixels)}")
    return mask.clone()


def read_mask(name: str, pixels: tuple[int, ...]) -> Tensor:
    """A mask from a file: .npy, bool or numbers of which there are two, 0 and another (0 is unknown); or .png, where
    what is lighter than middle grey is known. UserError, naming the file, for anything else and for a wrong shape.

    The shape is judged by the file's header, before anything of its content is read.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in (".npy", ".png"):
        raise UserError("inpaint", name, "no such mask", (*NAMES, "FILE.npy", "FILE.png"))
    if Path(name).exists() and not Path(name).is_file():
        raise UserError("inpaint", name, "is no file")  # nor a pipe, which would be waited for
    try:
        return _read_npy(name, pixels) if suffix == ".npy" else _read_png(name, pixels)
    except UserError:
        raise
    except Exception as error:  # what numpy and Pillow raise for damaged and hostile files is no closed list
        reason = getattr(error, "strerror", None) or f"cannot be read as a {suffix[1:]} file"
        raise UserError("inpaint", name, reason) from None


def _read_npy(name: str, pixels: tuple[int, ...]) -> Tensor:
    values = np.load(name, mmap_mode="r", allow_pickle=False)
    _check(name, values.shape, pixels)
    if values.dtype.kind not in "biuf":
        raise UserError("inpaint", name, f"must hold true and false, not {values.dtype}")
    kinds = np.unique(values)
    if len(kinds) > 2 or (values.dtype != bool and (kinds != 0).sum() > 1) or not np.isfinite(kinds).all():
        raise UserError(
            "inpaint", name, "must hold two values, 0 for unknown pixels and another for known ones"
        )
    return torch.from_numpy(np.array(values != 0))


def _read_png(name: str, pixels: tuple[int, ...]) -> Tensor:
    from PIL import Image

    with open(name, "rb") as file:
        head = file.read(24)
    if head[:8] == PNG:  # its size is judged before Pillow, which fears very large ones, sees it
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
