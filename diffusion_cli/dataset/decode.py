"""Image files to numbers: one size, grey or RGB, 8 or 16 bits; and in one line what is wrong with a file."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from diffusion_cli.errors import ArgumentError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# What can be shown as RGB with nothing to guess.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
# 8192 x 8192; a small file may unpack to any size.
MOST_PIXELS = 2**26
AT_ONCE = 64  # files that a thread decodes in one go
MOST_THREADS = 4
# Array; of larger images, which take hundreds of megabytes each, two at a time are opened.
LARGE = 2**23
_large = threading.BoundedSemaphore(2)
# Weights of red, green and blue in grey: the luma of ITU-R 601.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
Resize = Literal["crop", "pad", "stretch"]
Array = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class Form(NamedTuple):
    """What files are made: images (channels, height, width) of `bits` bits, 8 or 16.

    resize: crop (the largest part of this form in the middle), pad (all of it, with black bars) or stretch.
    """

    height: int
    width: int
    channels: int
    resize: Resize = "crop"
    bits: int = 8

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def dtype(self) -> npt.DTypeLike:
        return np.uint8 if self.bits == 8 else np.uint16

    def of(self, width: int, height: int) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """What is taken of an image of this size (left, upper, right, lower), and the size (width, height) it gets."""
        if self.resize == "stretch":
            return (0, 0, width, height), (self.width, self.height)
        if self.resize == "pad":
            scale = min(self.width / width, self.height / height)
            return (0, 0, width, height), (max(round(width * scale), 1), max(round(height * scale), 1))
        scale = max(self.width / width, self.height / height)
        w, h = max(round(self.width / scale), 1), max(round(self.height / scale), 1)
        left, top = (width - w) // 2, (height - h) // 2
        return (left, top, left + w, top + h), (self.width, self.height)


class Deeper(Exception):
    """An image has 16 bits where 8 are read."""


@dataclass
class Inspected:
    """What was found in files, by their numbers.

    damaged: what is wrong with those that cannot be read.
    size: width and height.
    mode: of their colours, as Pillow calls them, 16-bit ones with ;16.
    """

    damaged: dict[int, str] = field(default_factory=dict)
    size: dict[int, tuple[int, int]] = field(default_factory=dict)
    mode: dict[int, str] = field(default_factory=dict)


def decode(file: Path, form: Form, found: Inspected | None = None, number: int = 0) -> Array:
    """An image as (channels, height, width), uint8 or uint16.

    Of an animation the first frame; turned as its EXIF tag says, with transparent parts over white, cut or padded as
    `form` says (at the lower of two middles), resized by Pillow's bicubic filter, which is wide enough when it shrinks to
    leave no aliasing; one channel is the luma of ITU-R 601. Bytes become numbers of 16 bits by a factor of 257.

    found, number: where its size and mode are noted, under this number.

    Raises ArgumentError (root) naming the file when it is no image of FORMATS, is truncated or damaged, has
    more than MOST_PIXELS, or colours that cannot be shown as RGB without guessing, such as CMYK; Deeper for one of 16
    bits where `form` has 8. Proved by tests/test_decode.py.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{width} x {height} pixels, more than {MOST_PIXELS}")
            raw = _raw_mode(image)
            if found is not None:
                mode = raw.partition(";")[0] + ", 16 bit" if raw else image.mode
                found.size[number], found.mode[number] = image.size, mode
            if image.mode not in MODES and not raw:
                raise ValueError(f"is in mode {image.mode}; convert it to RGB or grey")
            if raw and form.bits == 8:
                raise Deeper
            with _large if width * height > LARGE else nullcontext():
                pixels: Array = _deep(file, image, raw, form) if raw else _plain(image, form)
                if form.bits == 16 and not raw:
                    pixels = pixels.astype(np.uint16) * 257
    except Deeper:
        raise
    # Pillow raises a dozen kinds for damaged files.
    except Exception as error:
        raise ArgumentError("root", ..., f"{file}: {_reason(error)}") from error
    return pixels.transpose(2, 0, 1)


def _raw_mode(image: Image.Image) -> str:
    """How numbers of 16 bits lie in the file, such as RGB;16B; "" for 8 bits."""
    tile = image.tile if isinstance(image, ImageFile.ImageFile) else ()
    args = tile[0][3] if tile else ""
    raw = str(args if isinstance(args, str) else args[0] if args else "")
    if ";16" not in raw:
        return ""
    grey, png = image.mode.startswith("I"), image.format == "PNG"
    if not grey and not (png and raw in ("RGB;16B", "RGBA;16B")):
        raise ValueError(
            f"has 16 bits a colour ({raw}), which are read of PNGs in grey, RGB or RGBA; convert it"
        )
    return "L;16" if grey else raw


def _plain(image: Image.Image, form: Form) -> npt.NDArray[np.uint8]:
    """(height, width, channels) of an image of 8 bits."""
    mode = "L" if form.channels == 1 else "RGB"
    ImageOps.exif_transpose(image, in_place=True)

    def convert(part: Image.Image) -> Image.Image:
        if part.has_transparency_data:
            part = part.convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part)
        return part if part.mode == mode else part.convert(mode)

    return np.asarray(_placed(image, form, convert)).reshape(form.height, form.width, form.channels)


def _deep(file: Path, image: Image.Image, raw: str, form: Form) -> npt.NDArray[np.uint16]:
    """(height, width, channels) of an image of 16 bits."""
    if not raw.startswith("L"):
        # Of these Pillow unpacks the higher bytes; the lower ones, where it is told that they come first.
        with Image.open(file, formats=["PNG"]) as other:
            other.tile = [(*other.tile[0][:3], raw[:-1] + "L")]  # type: ignore[list-item]
            low = np.asarray(ImageOps.exif_transpose(other)).astype(np.float32)
    values: npt.NDArray[np.float32] = np.asarray(ImageOps.exif_transpose(image)).astype(np.float32)
    values = values[..., None] if values.ndim == 2 else values * 256 + low
    if values.shape[2] == 4:
        opaque = values[..., 3:] / 65535
        values = (opaque * values[..., :3] + (1 - opaque) * 65535).astype(np.float32)
    if values.shape[2] == 3 and form.channels == 1:
        values = (values @ LUMA)[..., None]
    colours = [Image.fromarray(np.ascontiguousarray(colour)) for colour in values.transpose(2, 0, 1)]
    placed = [np.asarray(_placed(colour, form, lambda part: part)) for colour in colours]
    pixels = np.stack(placed * (form.channels // len(placed)), -1)
    return pixels.round().clip(0, 65535).astype(np.uint16)


def _placed(image: Image.Image, form: Form, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The part of an image that is taken, converted, at its size and place."""
    part, size = form.of(*image.size)
    image = convert(image.crop(part)).resize(size, Image.Resampling.BICUBIC)
    if size == (form.width, form.height):
        return image
    page = Image.new(image.mode, (form.width, form.height))
    page.paste(image, ((form.width - size[0]) // 2, (form.height - size[1]) // 2))
    return page


def decode_all(files: Sequence[Path], form: Form, found: Inspected | None = None) -> Iterator[Array]:
    """The images of all files in their order, some at a time: (n, channels, height, width).

    In parallel threads, since Pillow decodes and resizes without Python's lock; a few hundred images are in memory.
    Those that `decode` refuses are black, and stand in `found`; None: the first of them raises.
    """
    threads = min(os.cpu_count() or 1, MOST_THREADS)

    def some(start: int) -> Array:
        images = np.zeros((len(files[start : start + AT_ONCE]), *form.shape), form.dtype)
        for k, file in enumerate(files[start : start + AT_ONCE]):
            try:
                images[k] = decode(file, form, found, start + k)
            except ArgumentError as error:
                if found is None:
                    raise
                found.damaged[start + k] = error.reason
        return images

    pending: deque[Future[Array]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            for start in range(0, len(files), AT_ONCE):
                pending.append(pool.submit(some, start))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"has more than {MOST_PIXELS} pixels"
    return str(error) if isinstance(error, ValueError) else f"cannot be read: {error}"
