"""A user's own points, of one or more coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from diffusion_cli.dataset.exact import ExactDataset
from diffusion_cli.dataset.held_out import KeptRows
from diffusion_cli.dataset.point_file import MOST_POINTS, content_digest, read_points, units_of
from diffusion_cli.dataset.points import Points
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Count, Inner, NonNegative, Rows, Values, Whole, checked

# Points of which a tenth is held out unless the user says otherwise; of fewer each is needed, and a tenth says little.
MANY = 500
LOT = 10_000


@checked
class PointCloud(ExactDataset):
    """A user's own points, each as likely as any other; x0 is (n, d) in the units of the run.

    path: a table (.csv, .tsv, .txt; with or without a header), or a .npy, .npz or .mat (MATLAB's) file with one array of N rows
        of d coordinates.
    n: points of a frozen training set, drawn from those of the file; null: batches are drawn from all of them.
    test: points that are held out, a number, or below 1 a fraction of all; 0: none; null: a tenth of 500 or more. Samples are
        compared with them, so that a network gains nothing by learning its points by heart.
    jitter: standard deviation of Gaussian noise on the points, in the units of the file.
    columns: the columns that are coordinates, by name or number from 1, [x,y]; null: all, where these can only be coordinates.
    where: only rows with these values in these columns, {dataset: dino}; null: all rows.
    label: the column that holds the class of each point, by name or number; null: no labels.
    standardize: true: inside the run the points are centred and scaled to a spread of 1; what leaves it is in the file's units.

    Raises ArgumentError (path) for anything else: see `diffusion_cli.dataset.point_file`.
    """

    density: Points
    _truth: Points | None = None

    def __init__(
        self,
        path: str,
        n: Rows | None = None,
        test: Whole | Inner | None = None,
        jitter: NonNegative = 0.0,
        columns: Sequence[str | Count] | None = None,
        where: Values | None = None,
        label: str | Count | None = None,
        standardize: bool = True,
    ) -> None:
        file = read_points(path, columns, where, label)
        if len(file.points) * max(1, len(file.class_names)) > 100 * MOST_POINTS:
            raise ArgumentError(
                "label", label, f"has {len(file.class_names)} classes, too many for so many points"
            )
        self.units = units_of(path, file.points, standardize, jitter)
        self.fingerprint = content_digest(file.points, *file.class_names)
        points, classes = self.units.inward(file.points), file.label
        kept, out = _split(points, classes, test)
        jitter = jitter / self.units.scale
        super().__init__(_density(points, classes, kept, jitter), n)
        self.count = n or len(kept)
        self.about = {**file.about, "train": len(kept), "held out": len(out)}
        if len(out):
            self.held_out = KeptRows(points[out].float(), None if classes is None else classes[out])
            self._truth = _density(points, None, out, jitter)
        if classes is not None:
            self.label_counts = classes[kept].bincount()
            self.class_names = file.class_names

    @property
    def truth(self) -> Points:
        return self._truth or self.density

    def examples(self) -> Iterator[Tensor]:
        return super().examples() or iter(self.density.points.float().split(LOT))

    @property
    def empirical(self) -> Points:
        return super().empirical or self.density


def _density(points: Tensor, label: Tensor | None, rows: Tensor, jitter: float) -> Points:
    """Of some of the points."""
    return Points(points[rows], label=None if label is None else label[rows], jitter=jitter)


def _split(points: Tensor, label: Tensor | None, test: float | None) -> tuple[Tensor, Tensor]:
    """The rows to train on and those held out; of each class at least one is trained on."""
    n = len(points)
    if test is None:
        test = 0.1 if n >= MANY else 0
    count = int(test * n) if test < 1 else int(test)
    if count >= n:
        raise ArgumentError("test", test, f"of {n} points at least one must be left to train on")
    # At random: what is spread evenly is nearer to the points trained on than the distribution itself.
    order = torch.randperm(n, generator=generator(0, Stream.SPLIT))
    is_out = torch.zeros(n, dtype=torch.bool).index_fill(0, order[:count], True)
    if label is not None:
        left = label[~is_out].bincount(minlength=int(label.max()) + 1)
        firsts = [int((label == k).nonzero()[0]) for k in (left == 0).nonzero()[:, 0]]
        is_out[firsts] = False
    return (~is_out).nonzero()[:, 0], is_out.nonzero()[:, 0]
