"""Reads a user's file of points in the plane, and says in one line what is wrong with it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.errors import UserError

MOST_POINTS = 1_000_000  # beyond it the exact law of the points is no longer practical
MOST_BYTES = 512 * 2**20
SUFFIXES = (".csv", ".txt", ".npy", ".npz")


def read_points(path: str) -> Tensor:
    """Points (N, 2) float64 of a CSV (header or none; comma, semicolon, tab or blank), .npy or .npz (one array) file.

    Never unpickles. Raises UserError (dataset.path) when the file is missing, too large, unreadable, empty, of another
    shape, or holds values that are no finite numbers. Proved by tests/test_dataset_plane.py.
    """
    file = Path(path).expanduser() if isinstance(path, str) and path else None
    if file is None or not file.is_file():
        raise UserError("dataset.path", path, "no such file")
    if file.suffix.lower() not in SUFFIXES:
        raise UserError("dataset.path", path, "not a file of points", SUFFIXES)
    if file.stat().st_size > MOST_BYTES:
        raise UserError("dataset.path", path, f"larger than {MOST_BYTES >> 20} MiB")
    try:
        points = _read_csv(file) if file.suffix.lower() in (".csv", ".txt") else _read_numpy(file)
    except Exception as error:  # NumPy, zipfile and csv raise a dozen kinds for damaged files
        raise UserError("dataset.path", path, f"cannot be read: {error}") from error
    if points.ndim != 2 or points.shape[1] != 2 or not 1 <= len(points) <= MOST_POINTS:
        shape = f"holds an array of shape {points.shape}"
        raise UserError("dataset.path", path, f"{shape}, not (N, 2) points with N in 1..{MOST_POINTS}")
    if not np.isfinite(points).all():
        raise UserError("dataset.path", path, "holds values that are not finite")
    return torch.from_numpy(points)


def content_digest(points: Tensor) -> str:
    """What tells a file's points from other points, whatever the file is called: 64 hex digits."""
    return hashlib.sha256(repr(tuple(points.shape)).encode() + points.numpy().tobytes()).hexdigest()


def _read_csv(file: Path) -> np.ndarray:
    lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not lines:
        return np.empty((0, 2))
    delimiter = next((mark for mark in ",;\t" if mark in lines[0]), None)
    header = not all(map(_is_number, lines[0].split(delimiter)))
    if header and len(lines) == 1:
        return np.empty((0, 2))
    return np.loadtxt(lines[header:], delimiter=delimiter, ndmin=2)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_numpy(file: Path) -> np.ndarray:
    if file.suffix.lower() == ".npz":
        with zipfile.ZipFile(file) as archive:  # what it unpacks to, before it is unpacked
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
        with np.load(file, allow_pickle=False) as arrays:
            if len(arrays.files) != 1:
                raise ValueError(f"it holds {len(arrays.files)} arrays, not one")
            points = arrays[arrays.files[0]]
    else:
        points = np.load(file, allow_pickle=False)
    if points.dtype.kind not in "fiu":
        raise ValueError(f"it holds {points.dtype}, not real numbers")
    return points.astype(np.float64)
