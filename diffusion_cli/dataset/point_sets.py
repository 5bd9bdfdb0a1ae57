"""Whole sets of points as data: each sample is a set, and the order of its points means nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.array_file import read_array
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.chair_family import ChairFamily
from diffusion_cli.dataset.held_out import distinct_rows
from diffusion_cli.dataset.places import user_file
from diffusion_cli.dataset.point_file import content_digest, refuse_large, units_of
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.dataset.star_family import StarFamily
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Count, Inner, Many, Whole, checked

MOST_NUMBERS = 2**28  # 1 GiB as float32
SUFFIXES = (".npy", ".npz", ".mat")


@dataclass
class Subsets:
    """Batches of random subsets of stored sets: training batches, and the `HeldOut` of dataset.protocol.

    sets: (N, P, d) float32, d = 2 or 3; moved to the device where batches are drawn.
    least, most: number of points of a subset, drawn anew for every batch and the same for all its sets.
    rotate: turn every set by a random angle about the origin; in space about the third axis.
    size: points of each set that `distinct` shows, the first ones.
    """

    sets: Tensor
    least: int
    most: int
    rotate: bool
    size: int

    @property
    def count(self) -> int:
        return len(self.sets)

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        device = generator.device
        self.sets = self.sets.to(device)
        size = torch.randint(self.least, self.most + 1, (), generator=generator, device=device)
        # a GPU is waited for only where it has to say how many
        p = self.least if self.least == self.most else int(size)
        rows = torch.randint(len(self.sets), (n,), generator=generator, device=device)
        # The same places of all sets: the order of their points means nothing, and one permutation is quick.
        columns = torch.randperm(self.sets.shape[1], generator=generator, device=device)[:p]
        source = self.sets[rows]
        if self.rotate:
            source = rotated(source, 2 * math.pi * torch.rand(n, generator=generator, device=device))
        return Batch(source[:, columns], None, source)

    def distinct(self, n: int, seed: int) -> Batch:
        return Batch(self.sets.cpu()[distinct_rows(len(self.sets), n, seed), : self.size])


def check_size(n: int, size: int) -> None:
    """Refuses n drawn sets of so many points that they would not fit into memory."""
    if 2 * n * size > MOST_NUMBERS:
        raise ArgumentError("n", n, f"is too large: {n} sets of {size} points do not fit into 1 GiB")


@checked
class SetDataset(Dataset):
    """Batches of sets of points, subsets of stored ones; some sets are held out for evaluation.

    sets: (N, P, d) float32, finite, in the plane or in space.
    test: sets that are held out for evaluation, the last ones; at least one is left to train on.
    points: random points of a set that a training step shows: a number, [least, most] (drawn anew for every step), or
        null (all of them). Fewer are quicker. But a network that was trained on fewer points than it samples is less sure of a
        set's form, and loses rare ones: of stars, 7 and 6 arms crowd out 4.
    sample_points: points in a generated set, of which there may be more than in the data; null: as many as there.
    rotate: turn every training set by a random angle about the origin; in space about the third axis.

    train (N - test, P, d) and test (test, P, d) are the two parts; family is the distribution of stars or chairs that the sets
    were drawn from, or None for other sets.

    >>> SetDataset(torch.rand(10, 50, 2), test=2, points=[5, 20]).draw(4, torch.Generator()).x0.shape[::2]
    torch.Size([4, 2])
    """

    kind = "sets"
    standardize = False
    family: StarFamily | ChairFamily | None = None

    def __init__(
        self,
        sets: Tensor,
        test: Count,
        points: Many | tuple[Many, Many] | None = None,
        sample_points: Many | None = None,
        rotate: bool = False,
    ) -> None:
        n, size = sets.shape[:2]
        if test >= n:
            raise ArgumentError("test", test, f"of {n} sets at least one must be left to train on")
        least, most = points if isinstance(points, Sequence) else (points or size, points or size)
        if least > most:
            raise ArgumentError("points", points, "must be [least, most]")
        if most > size:
            raise ArgumentError("points", points, f"must be at most {size}: the sets have no more")
        self.shape = (sample_points or size, sets.shape[2])
        self.train, self.test = sets[: n - test], sets[n - test :]
        self.count = len(self.train)
        self._training = Subsets(self.train, least, most, rotate, self.shape[0])
        self.held_out = Subsets(self.test, least, most, rotate, self.shape[0])

    @cached_property
    def box(self) -> Box:
        if self._training.rotate:
            return Box.around(float(self.train.norm(dim=-1).max()))
        return Box.of(self.train)

    def examples(self) -> Iterator[Tensor]:
        return iter(self.train.cpu().split(64))

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        """n subsets (n, p, 2) of random training sets, on `generator.device`; points without replacement."""
        return self._training.draw(n, generator)


@checked
class PointSets(SetDataset):
    """A user's own sets of points in the plane or in space; x0 is (n, P, d) in the units of the run.

    path: a .npy, .npz or .mat (MATLAB's) file with one array of shape (N, P, 2) or (N, P, 3): N >= 2 sets of P >= 1 points,
        finite.
    test: sets that are held out for evaluation, a number, or below 1 a fraction of N. Which ones follows from `seed`.
    seed: seed of the split into training sets and held-out ones, which does not depend on the run's seed.
    standardize: true: inside the run the points are centred and scaled to a spread of 1; what leaves it is in the file's units.

    Where the points of a set are independent draws, as on an outline, `objective.targets=stable` makes training much quicker.
    Raises ArgumentError (path) for another file. Proved by tests/test_stars.py.
    """

    def __init__(
        self,
        path: str,
        test: Count | Inner = 0.125,
        points: Many | tuple[Many, Many] | None = None,
        sample_points: Many | None = None,
        rotate: bool = False,
        seed: Whole = 0,
        standardize: bool = True,
    ) -> None:
        sets = read_sets(path)
        n = len(sets)
        if n < 2:
            raise ArgumentError(
                "path", path, "holds one set; at least one to train on and one to hold out are needed"
            )
        self.units = units_of(path, sets.flatten(0, 1), standardize)
        self.fingerprint = content_digest(sets)
        self.about = {
            "files": [str(user_file(path, SUFFIXES).resolve())],
            "sets": n,
            "points": sets.shape[1],
            "coordinates": sets.shape[2],
        }
        order = torch.randperm(n, generator=generator(seed, Stream.SPLIT))
        held_out = int(test) if test >= 1 else min(max(1, round(test * n)), n - 1)
        super().__init__(self.units.inward(sets)[order].float(), held_out, points, sample_points, rotate)


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Sets x (n, P, d), each turned by its angle (n,) in radians, anticlockwise: about the origin, or the third axis."""
    cos, sin = angle.cos(), angle.sin()
    # A matrix that is applied from the right.
    turn = torch.stack((cos, sin, -sin, cos), 1).view(-1, 2, 2)
    return torch.cat((x[..., :2] @ turn, x[..., 2:]), -1)


def read_sets(path: str) -> Tensor:
    """The sets (N, P, d) float64, d = 2 or 3, in a .npy file, or in an .npz file with one array.

    Raises ArgumentError (path) when the file is missing, too large, unreadable, empty, ragged (an array of objects), of
    another shape, or holds values that are no finite numbers, or none that float32 can hold.
    """
    file = user_file(path, SUFFIXES)
    try:
        sets = read_array(file, 8 * MOST_NUMBERS)
    # NumPy and zipfile raise a dozen kinds for damaged files.
    except Exception as error:
        raise ArgumentError("path", path, f"cannot be read: {error}") from error
    if sets.ndim != 3 or sets.shape[2] not in (2, 3) or not sets.size:
        shape = f"holds an array of shape {sets.shape}"
        raise ArgumentError(
            "path", path, f"{shape}, not N sets of P points in the plane or in space, (N, P, 2) or (N, P, 3)"
        )
    bad = int((~np.isfinite(sets)).any((1, 2)).sum())
    if bad:
        raise ArgumentError("path", path, f"holds values that are not finite, in {bad} of {len(sets)} sets")
    refuse_large(path, float(np.abs(sets).max()))
    return torch.from_numpy(sets.astype(np.float64))
