"""Image files to bytes: squares of one size, grey or RGB; and in one line what is wrong with a file."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from diffusion_cli.errors import ArgumentError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# What can be shown as RGB with nothing to guess.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
# 8192 x 8192; a small file may unpack to any size.
MOST_PIXELS = 2**26
AT_ONCE = 64  # files that a thread decodes in one go
MOST_THREADS = 4
# Pixels; of larger images, which take hundreds of megabytes each, two at a time are opened.
LARGE = 2**23
_large = threading.BoundedSemaphore(2)


def decode(file: Path, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """The centre of an image as (channels, size, size) uint8.

    Of an animation the first frame. The largest square about the centre (at the lower of two middles), turned as its EXIF
    tag says, with transparent
    parts over white, resized by Pillow's bicubic filter, which is wide enough when it shrinks to leave no aliasing;
    one channel is the luma of ITU-R 601.

    Raises ArgumentError (root) naming the file when it is no image of FORMATS, is truncated or damaged, has
    more than MOST_PIXELS, or colours that cannot be shown as RGB without guessing: CMYK, 16-bit grey.
    Proved by tests/test_decode.py.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{width} x {height} pixels, more than {MOST_PIXELS}")
            if image.mode not in MODES:
                raise ValueError(f"is in mode {image.mode}; convert it to RGB or 8-bit grey")
            with _large if width * height > LARGE else nullcontext():
                pixels = np.asarray(_square(image, "L" if channels == 1 else "RGB", size))
    # Pillow raises a dozen kinds for damaged files.
    except Exception as error:
        raise ArgumentError("root", ..., f"{file}: {_reason(error)}") from error
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def _square(image: Image.Image, mode: str, size: int) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != mode:
        image = image.convert(mode)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def decode_all(
    files: Sequence[Path], size: int, channels: int, damaged: dict[int, str] | None = None
) -> Iterator[npt.NDArray[np.uint8]]:
    """The images of all files in their order, some at a time: (n, channels, size, size) uint8.

    In parallel threads, since Pillow decodes and resizes without Python's lock; a few hundred images are in memory.
    Those that `decode` refuses are black, and stand in `damaged`: number of the file -> what is wrong with it;
    None: the first of them raises.
    """
    threads = min(os.cpu_count() or 1, MOST_THREADS)

    def some(start: int) -> npt.NDArray[np.uint8]:
        images = np.zeros((len(files[start : start + AT_ONCE]), channels, size, size), np.uint8)
        for k, file in enumerate(files[start : start + AT_ONCE]):
            try:
                images[k] = decode(file, size, channels)
            except ArgumentError as error:
                if damaged is None:
                    raise
                damaged[start + k] = error.reason
        return images

    pending: deque[Future[npt.NDArray[np.uint8]]] = deque()
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
