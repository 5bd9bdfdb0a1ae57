"""Whole sets of points in the plane as data: each sample is a set, and the order of its points means nothing."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.point_file import content_digest
from diffusion_cli.errors import UserError
from diffusion_cli.noise import Stream, generator

MOST_NUMBERS = 2**28  # 1 GiB as float32
SUFFIXES = (".npy", ".npz")
USUAL = (0.1, 10.0)  # standard deviations for which schedules and networks are made


class SetDataset:
    """Batches of sets of points, subsets of stored ones; some sets are held out for evaluation.

    sets: (N, P, 2) float32, finite. test: sets held out, the last ones; 1 <= test < N. points: how many points of a
    set a training batch shows, a number, or [least, most] (drawn anew for every batch, the same for all its sets), or
    null for all P. sample_points: size of a generated set; null: P. rotate: turn every training set by a random angle
    about the origin.

    Any size may be sampled, but a network that was trained on fewer points believes less than a larger set tells, and
    loses rare forms: stars of 7 and 6 arms crowd out those of 4.

    train (N - test, P, 2) and test (test, P, 2) are the two parts; shape is (sample_points, 2); no density is known.
    Raises UserError (dataset.test, dataset.points, dataset.sample_points, dataset.rotate).

    >>> SetDataset(torch.rand(10, 50, 2), test=2, points=[5, 20]).draw(4, torch.Generator()).x0.shape[::2]
    torch.Size([4, 2])
    """

    num_classes = 0
    density = None

    def __init__(
        self,
        sets: Tensor,
        test: int,
        points: int | Sequence[int] | None = None,
        sample_points: int | None = None,
        rotate: bool = False,
    ) -> None:
        n, size = sets.shape[:2]
        if n < 2:
            raise UserError("dataset.path", ..., "needs at least 2 sets, one of them to be held out")
        held_out = count("test", test, n - 1)
        if not isinstance(rotate, bool):
            raise UserError("dataset.rotate", rotate, "must be true or false")
        self.least, self.most = _span_of_points(size if points is None else points, size)
        # A generated set may be larger than those in the data: the networks take any number.
        self.shape = (size if sample_points is None else count("sample_points", sample_points), 2)
        self.rotate = rotate
        self.train, self.test = sets[: n - held_out], sets[n - held_out :]

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """n subsets (n, p, 2) of random training sets, on `generator.device`; points without replacement."""
        return self.draw_with_source(n, generator)[0]

    def draw_with_source(
        self, n: int, generator: torch.Generator, held_out: bool = False
    ) -> tuple[Batch, Tensor]:
        """The same batch, and the whole sets (n, P, 2) that its points were drawn from; of `test` if held_out."""
        device = generator.device
        self.train, self.test = self.train.to(device), self.test.to(device)
        sets = self.test if held_out else self.train
        size = sets.shape[1]
        p = int(torch.randint(self.least, self.most + 1, (), generator=generator, device=device))
        rows = torch.randint(len(sets), (n,), generator=generator, device=device)
        # The same places of all sets: the order of their points means nothing, and one permutation is quick.
        columns = torch.randperm(size, generator=generator, device=device)[:p]
        source = sets[rows]
        if self.rotate:
            source = rotated(source, 2 * math.pi * torch.rand(n, generator=generator, device=device))
        return Batch(source[:, columns], None), source


class PointSets(SetDataset):
    """A user's own sets, in the units of the file.

    path: a .npy file, or an .npz file with one array, of shape (N, P, 2): N >= 2 sets of P >= 1 points each, finite.
    test: sets held out for evaluation, a number or (below 1) a share of N. Which ones, and the order of the points,
    follows from `seed` alone. The other options are SetDataset's.

    Raises UserError (dataset.path, dataset.test, ...). Warns when the spread of the data is far from 1, for which the
    default schedule and network are made. Proved by tests/test_stars.py.
    """

    def __init__(
        self,
        path: str,
        test: float = 0.125,
        points: int | Sequence[int] | None = None,
        sample_points: int | None = None,
        rotate: bool = False,
        seed: int = 0,
    ) -> None:
        sets = read_sets(path)
        if len(sets) < 2:
            raise UserError(
                "dataset.path", path, "holds one set; at least one to train on and one to hold out are needed"
            )
        if isinstance(test, float) and 0 < test < 1:
            test = min(max(1, round(test * len(sets))), len(sets) - 1)
        spread = float(sets.std())
        if not USUAL[0] <= spread <= USUAL[1]:
            warnings.warn(
                f"dataset.path={path}: standard deviation {spread:.3g}; the defaults suit data of about 1, so rescale it, "
                "or set parameterization.sigma_data and the schedule to match",
                stacklevel=2,
            )
        self.fingerprint = content_digest(sets)
        order = torch.randperm(len(sets), generator=generator(seed, Stream.SPLIT))
        super().__init__(sets[order], test, points, sample_points, rotate)


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Sets x (n, P, 2), each turned about the origin by its angle (n,), anticlockwise, in radians."""
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack((cos, sin, -sin, cos), 1).view(-1, 2, 2)  # applied from the right
    return x @ turn


def read_sets(path: str) -> Tensor:
    """The sets (N, P, 2) float32 in a .npy file, or in an .npz file with one array. Never unpickles.

    Raises UserError (dataset.path) when the file is missing, too large, unreadable, empty, ragged (an array of
    objects), of another shape, or holds values that are no finite numbers.
    """
    file = Path(path).expanduser() if isinstance(path, str) and path else None
    if file is None or not file.is_file():
        raise UserError("dataset.path", path, "no such file")
    if file.suffix.lower() not in SUFFIXES:
        raise UserError("dataset.path", path, "not a file of sets of points", SUFFIXES)
    try:
        sets = _read_array(file)
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for damaged files
        raise UserError("dataset.path", path, f"cannot be read: {error}") from error
    if sets.dtype.kind not in "fiu":
        raise UserError("dataset.path", path, f"holds {sets.dtype}, not real numbers")
    if sets.ndim != 3 or sets.shape[2] != 2 or not sets.size:
        raise UserError(
            "dataset.path", path, f"holds an array of shape {sets.shape}, not N sets of P points, (N, P, 2)"
        )
    bad = int((~np.isfinite(sets)).any((1, 2)).sum())
    if bad:
        raise UserError(
            "dataset.path", path, f"holds values that are not finite, in {bad} of {len(sets)} sets"
        )
    return torch.from_numpy(sets.astype(np.float32))


def _read_array(file: Path) -> np.ndarray:
    """The one array in the file, judged by its header before anything large is read."""
    if file.suffix.lower() == ".npz":
        with zipfile.ZipFile(file) as archive:  # what it unpacks to, before it is unpacked
            if sum(entry.file_size for entry in archive.infolist()) > 8 * MOST_NUMBERS:
                raise ValueError("it unpacks to more than 2 GiB")
        with np.load(file, allow_pickle=False) as arrays:
            if len(arrays.files) != 1:
                raise ValueError(f"it holds {len(arrays.files)} arrays, not one")
            return _rectangular(arrays, arrays.files[0])
    if file.stat().st_size > 8 * MOST_NUMBERS:
        raise ValueError("it is larger than 2 GiB")
    with file.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise ValueError("it is no .npy file")
    return _rectangular({"": file}, "")


def _rectangular(arrays: Any, name: str) -> np.ndarray:
    """The array, or ValueError in plain words for one of objects: sets of unequal size, which numpy would unpickle."""
    try:
        item = arrays[name]
        return item if isinstance(item, np.ndarray) else np.load(item, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                "its sets are ragged (an array of objects); all must have the same number of points"
            ) from None
        raise


def _span_of_points(points: Any, size: int) -> tuple[int, int]:
    if isinstance(points, int) and not isinstance(points, bool):
        points = (points, points)
    if not isinstance(points, Sequence) or isinstance(points, str) or len(points) != 2:
        raise UserError("dataset.points", points, "must be a number, [least, most], or null")
    least, most = (count("points", value, size) for value in points)
    if least > most:
        raise UserError("dataset.points", list(points), "least is above most")
    return least, most


def count(option: str, value: Any, most: int | None = None) -> int:
    """The value of `dataset.<option>` as a whole number in 1..most, or UserError."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < 1
        or (most is not None and value > most)
    ):
        bound = ">= 1" if most is None else f"in 1..{most}"
        raise UserError(f"dataset.{option}", value, f"must be a whole number {bound}")
    return value
