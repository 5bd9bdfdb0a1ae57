"""Reads a user's file of points in the plane, and says in one line what is wrong with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffusion_cli.dataset.array_file import read_array
from diffusion_cli.dataset.places import user_file
from diffusion_cli.errors import ArgumentError

# Beyond it the exact density of the points takes too long.
MOST_POINTS = 1_000_000
MOST_BYTES = 512 * 2**20
TEXTS, ARRAYS = (".csv", ".txt"), (".npy", ".npz")


def read_points(path: str) -> Tensor:
    """Points (N, 2) float64 of a CSV (header or none; comma, semicolon, tab or blank), .npy or .npz (one array) file.

    Raises ArgumentError (path) when the file is missing, too large, unreadable, empty, of another shape, or holds
    values that are no finite numbers. Proved by tests/test_dataset_plane.py.
    """
    file = user_file(path, (*TEXTS, *ARRAYS))
    try:
        if file.suffix.lower() in TEXTS:
            points = _read_csv(file)
        else:
            points = read_array(file, MOST_BYTES).astype(np.float64)
    # NumPy, zipfile and csv raise a dozen kinds for damaged files.
    except Exception as error:
        raise ArgumentError("path", path, f"cannot be read: {error}") from error
    if points.ndim != 2 or points.shape[1] != 2 or not 1 <= len(points) <= MOST_POINTS:
        shape = f"holds an array of shape {points.shape}"
        raise ArgumentError("path", path, f"{shape}, not (N, 2) points with N in 1..{MOST_POINTS}")
    if not np.isfinite(points).all():
        raise ArgumentError("path", path, "holds values that are not finite")
    return torch.from_numpy(points)


def content_digest(points: Tensor) -> str:
    """A digest of points, by which a changed file is recognised, whatever it is called: 64 hex digits."""
    return hashlib.sha256(repr(tuple(points.shape)).encode() + points.numpy().tobytes()).hexdigest()


def _read_csv(file: Path) -> npt.NDArray[np.float64]:
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
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
