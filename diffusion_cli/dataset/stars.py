"""Stars: sets of points on star-shaped outlines, every set a star of its own."""

from __future__ import annotations

from diffusion_cli.dataset.point_sets import SetDataset, check_size
from diffusion_cli.dataset.star_family import StarFamily, draw_stars
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Count, Many, NonNegative, Positive, Several, Whole, checked


@checked
class Stars(SetDataset):
    """Sets of points on stars about the origin, every set a star of its own; x0 is (n, P, 2).

    n: sets, of which `test` are held out.
    size: points in each set.
    arms: lowest and highest number of arms, from which each star's is drawn.
    ratio: lowest and highest ratio of inner to outer radius.
    radius: lowest and highest outer radius.
    jitter: standard deviation of Gaussian noise on the points, as a fraction of the outer radius.
    seed: seed of the data, which depend on it alone and not on the seed or the device of the run.

    See `dataset.star_family` for how a star is drawn.
    Example: `Stars(n=64, test=16).test` is (16, 1024, 2). Proved by tests/test_stars.py.
    """

    def __init__(
        self,
        n: Several = 1024,
        test: Count = 128,
        size: Many = 1024,
        arms: tuple[Several, Several] = (4, 7),
        ratio: tuple[Positive, Positive] = (0.35, 0.65),
        radius: tuple[Positive, Positive] = (0.8, 1.2),
        jitter: NonNegative = 0.01,
        points: Many | tuple[Many, Many] | None = 512,
        sample_points: Many | None = 512,
        rotate: bool = True,
        seed: Whole = 0,
    ) -> None:
        check_size(n, size)
        for argument, (low, high) in (("arms", arms), ("ratio", ratio), ("radius", radius)):
            if low > high:
                raise ArgumentError(argument, [low, high], "must be [lowest, highest]")
        self.family = StarFamily(arms, ratio, radius)
        sets = draw_stars(self.family, n, size, float(jitter), generator(seed, Stream.STARS))
        super().__init__(sets, test, points, sample_points, rotate)
