"""The IDX format of MNIST and its relatives: bytes 0 0 8 d, d sizes as big-endian 32-bit numbers, then the bytes."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from diffusion_cli.errors import ArgumentError

GZIP = b"\x1f\x8b"
MOST_BYTES = 2**30


class Idx(NamedTuple):
    """The content of an IDX file.

    array: of any number of dimensions.
    sha256: of the uncompressed file.
    """

    array: npt.NDArray[np.uint8]
    sha256: str


def read_idx(file: Path, dimensions: int) -> Idx:
    """The array of so many dimensions in an IDX file of bytes, gzip-compressed or not (its name does not matter).

    Raises ArgumentError (root) naming the file when it is truncated, too long, damaged or no such file.
    Source: the description on MNIST's own page (LeCun, Cortes, Burges). Proved by tests/test_idx.py.
    """
    try:
        content = _uncompressed(file)
        header = 4 + 4 * dimensions
        if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < header:
            raise ValueError(f"is no IDX file of bytes in {dimensions} dimensions")
        shape = struct.unpack(f">{dimensions}I", content[4:header])
        if len(content) != header + math.prod(shape):
            raise ValueError(
                f"holds {len(content) - header} bytes, not the {math.prod(shape)} that it announces"
            )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = str(error) if isinstance(error, ValueError) else f"cannot be read: {error}"
        raise ArgumentError("root", ..., f"{file}: {reason}") from error
    array = np.frombuffer(bytearray(content), dtype=np.uint8, offset=header).reshape(shape)
    return Idx(array, hashlib.sha256(content).hexdigest())


def _uncompressed(file: Path) -> bytes:
    with file.open("rb") as raw:
        packed = raw.read(2) == GZIP
    with gzip.open(file) if packed else file.open("rb") as stream:
        # No more: a small file may unpack to any size.
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"is larger than {MOST_BYTES >> 20} MiB")
    return content
