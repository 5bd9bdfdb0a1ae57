"""Reads the one array of a NumPy file, or of one of MATLAB's.

Nothing is unpickled, and nothing is read or unpacked that is too large.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

# MATLAB's names of kinds of numbers.
MATLAB_NUMBERS = {"double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def read_array(file: Path, most_bytes: int) -> npt.NDArray[np.number]:
    """The real numbers of a .npy file, or of an .npz or .mat file with one array (of others a .mat file may hold any).

    most_bytes: what the file may have, and may unpack to.

    Raises ValueError for another content, and whatever NumPy and zipfile raise for damaged files.
    """
    if file.stat().st_size > most_bytes:
        raise ValueError(f"it is larger than {most_bytes >> 20} MiB")
    if file.suffix.lower() == ".mat":
        return _read_mat(file, most_bytes)
    if file.suffix.lower() != ".npz":
        with file.open("rb") as stream:
            return _read_npy(stream)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > most_bytes:
            raise ValueError(f"it unpacks to more than {most_bytes >> 20} MiB")
        if len(entries) != 1:
            raise ValueError(f"it holds {len(entries)} arrays, not one")
        with archive.open(entries[0]) as stream:
            return _read_npy(stream)


def read_entry(file: Path, name: str, most_bytes: int) -> npt.NDArray[np.number]:
    """One of the arrays of an .npz file, by its name; raises as `read_array` does."""
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo(f"{name}.npy")
        if entry.file_size > most_bytes:
            raise ValueError(f"it unpacks to more than {most_bytes >> 20} MiB")
        with archive.open(entry) as stream:
            return _read_npy(stream)


def _read_npy(stream: IO[bytes]) -> npt.NDArray[np.number]:
    try:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError("it holds objects, such as ragged lists, and no array of numbers") from None
        raise
    return _real(array)


def _read_mat(file: Path, most_bytes: int) -> npt.NDArray[np.number]:
    # Here: half a second, and for these files alone.
    from scipy.io import loadmat, whosmat

    try:
        found = {
            name: shape for name, shape, kind in whosmat(file) if kind in MATLAB_NUMBERS and math.prod(shape)
        }
    except NotImplementedError:
        raise ValueError(
            "it is a file of MATLAB 7.3, which is HDF5; save it as save('points.mat', '-v7')"
        ) from None
    if len(found) != 1:
        names = f" ({', '.join(found)})" if found else ""
        raise ValueError(f"it holds {len(found)} arrays of numbers{names}, not one")
    ((name, shape),) = found.items()
    if 8 * math.prod(shape) > most_bytes:
        raise ValueError(f"it unpacks to more than {most_bytes >> 20} MiB")
    return _real(loadmat(file, variable_names=[name])[name])


def _real(array: npt.NDArray[np.number]) -> npt.NDArray[np.number]:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"it holds {array.dtype}, not real numbers")
    return array
