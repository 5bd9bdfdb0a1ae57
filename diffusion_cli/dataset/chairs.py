"""Chairs: sets of points in space on the surfaces of chairs, every set a chair of its own."""

from __future__ import annotations

from diffusion_cli.dataset.chair_family import ChairFamily, draw_chairs
from diffusion_cli.dataset.point_sets import SetDataset, check_size
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Count, Fraction, Many, NonNegative, Several, Whole, checked


@checked
class Chairs(SetDataset):
    """Sets of points on chairs of height 2, z upwards, every set a chair of its own; x0 is (n, P, 3).

    n: sets, of which `test` are held out: 500 to train on and 100 to compare with.
    size: points in each set.
    arms: fraction of the chairs that have arms.
    jitter: standard deviation of Gaussian noise on the points.
    seed: seed of the data, which depend on it alone and not on the seed or the device of the run.

    See `dataset.chair_family` for how a chair is drawn.
    Example: `Chairs(n=64, test=16).test` is (16, 2048, 3). Proved by tests/test_chairs.py.
    """

    def __init__(
        self,
        n: Several = 600,
        test: Count = 100,
        size: Many = 2048,
        arms: Fraction = 0.5,
        jitter: NonNegative = 0.01,
        points: Many | tuple[Many, Many] | None = 512,
        sample_points: Many | None = 512,
        rotate: bool = False,
        seed: Whole = 0,
    ) -> None:
        check_size(n, size)
        self.family = ChairFamily(arms)
        sets = draw_chairs(self.family, n, size, float(jitter), generator(seed, Stream.CHAIRS))
        super().__init__(sets, test, points, sample_points, rotate)
