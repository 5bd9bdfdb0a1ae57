"""A user's own points, of one or more coordinates."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_cli.dataset.exact import ExactDataset
from diffusion_cli.dataset.point_file import MOST_POINTS, content_digest, read_points
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import Count, NonNegative, Rows, Values, checked


@checked
class PointCloud(ExactDataset):
    """A user's own points, each as likely as any other; x0 is (n, d) in the units of the run.

    path: a table (.csv, .tsv, .txt; with or without a header), or a .npy, .npz or .mat (MATLAB's) file with one array of N rows
        of d coordinates.
    n: points of a frozen training set, drawn from those of the file; null: batches are drawn from all of them.
    jitter: standard deviation of Gaussian noise on the points, in the units of the file.
    columns: the columns that are coordinates, by name or number from 1, [x,y]; null: all, where these can only be coordinates.
    where: only rows with these values in these columns, {dataset: dino}; null: all rows.
    label: the column that holds the class of each point, by name or number; null: no labels.
    standardize: true: inside the run the points are centred and scaled to a spread of 1; what leaves it is in the file's units.

    Raises ArgumentError (path) for anything else: see `diffusion_cli.dataset.point_file`.
    """

    def __init__(
        self,
        path: str,
        n: Rows | None = None,
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
        try:
            units = Units.of(file.points, jitter)
        except ValueError as error:
            raise ArgumentError("path", path, str(error)) from error
        self.units = units if standardize else Units()
        self.about = file.about
        self.fingerprint = content_digest(file.points, *file.class_names)
        points = self.units.inward(file.points)
        super().__init__(Points(points, label=file.label, jitter=jitter / self.units.scale), n)
        self.count = n or len(points)
        if file.label is not None:
            self.label_counts = file.label.bincount()
            self.class_names = file.class_names
