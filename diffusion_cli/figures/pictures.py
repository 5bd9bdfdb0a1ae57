"""Images as plain files of pixels, for other programs: one of each, and a grid of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_cli.figures.images import mosaic
from diffusion_cli.figures.space import Floats
from diffusion_cli.runs.atomic import replacing

# Images in the grid, at most.
GRID = 64


def write_pictures(x0: Floats, folder: Path, first: int = 0) -> None:
    """Writes x0 (n, C, H, W) in [-1, 1]: folder/00000.png, 00001.png, ..., and beside the folder a grid, folder.png.

    first: the number of the first one; the grid shows those from 0 on.

    >>> write_pictures(samples, Path("images"))         # for example for cleanfid.fid.compute_fid("images", ...)
    """
    for i, image in enumerate(x0, first):
        _write(image[None], folder / f"{i:05d}.png")
    if first == 0:
        _write(x0[:GRID], folder.with_suffix(".png"))


def _write(images: Floats, file: Path) -> None:
    with replacing(file) as part:
        Image.fromarray(np.round(mosaic(images) * 255).astype(np.uint8)).save(part)
