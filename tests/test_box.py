"""The range of the data: its corners by hand, what samplers clip by it, and which samples are outliers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from diffusion_cli import sampler, schedule
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.exact import GaussianMixture, TwoPoint
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.plane import Circle, Dinohead, Square, dinohead_strokes
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics.points import PointMetrics
from diffusion_cli.prediction import Prediction

GREY = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8))
HEAD = torch.cat(dinohead_strokes())


@pytest.mark.parametrize(
    ("dataset", "low", "high"),
    [
        (Circle(radius=2.0), [-2.0, -2.0], [2.0, 2.0]),
        (Square(jitter=0.05), [-1.2, -1.2], [1.2, 1.2]),
        (Dinohead(), HEAD.amin(0).tolist(), HEAD.amax(0).tolist()),
        (TwoPoint(positions=[-0.5, 0.75]), [-0.5], [0.75]),
        (GaussianMixture(), [-0.35 - 0.4, -0.45 - 0.4], [0.75 + 0.4, 0.65 + 0.4]),
        (SetDataset(torch.tensor([[[0.0, 1.0], [3.0, -1.0]]] * 3), test=1), [0.0, -1.0], [3.0, 1.0]),
        (SetDataset(torch.tensor([[[0.0, 1.0], [3.0, -4.0]]] * 3), test=1, rotate=True), -5.0, 5.0),
        (ImageDataset(GREY, GREY), -1.0, 1.0),
    ],
)
def test_every_kind_of_data_has_its_range(dataset: Dataset, low: object, high: object) -> None:
    assert dataset.box.low.tolist() == pytest.approx(low)
    assert dataset.box.high.tolist() == pytest.approx(high)


def test_data_of_ones_own_have_the_range_of_their_draws() -> None:
    class Uniform(Dataset):
        kind = "plane"
        shape = (2,)

        def draw(self, n: int, generator: torch.Generator) -> Batch:
            return Batch(torch.rand(n, 2, generator=generator) + torch.tensor([1.0, -3.0]))

    assert Uniform().box.low.tolist() == pytest.approx([1, -3], abs=0.01)
    assert Uniform().box.high.tolist() == pytest.approx([2, -2], abs=0.01)


def test_outliers_are_counted_beyond_a_tenth_of_the_longest_side() -> None:
    x = torch.tensor([[0.0, 0.0], [1.19, 0.0], [1.21, 0.0], [0.0, -1.21], [9.0, 9.0]])
    # the box is [-1, 1]^2, a tenth of its side 0.2
    assert Circle().box.outliers(x) == pytest.approx(3 / 5)
    assert PointMetrics(Circle().density, 5)(x)["outliers"] == pytest.approx(3 / 5)
    assert Box(torch.tensor([0.0]), torch.tensor([0.0])).outliers(torch.tensor([[0.05], [0.2]])) == 0.5


class Wild:
    """A denoiser whose x0 is far outside."""

    schedule = schedule.cosine(T=10)

    def __call__(self, x_t: torch.Tensor, t: object, label: object = None, to: object = None) -> Prediction:
        return Prediction.from_x0(x_t.sign() * 100, x_t, self.schedule.level(float(t), like=x_t))  # type: ignore[arg-type]


def test_clipping_by_the_data_keeps_each_coordinate_in_its_own_range() -> None:
    box = GaussianMixture().box
    walker = sampler.DDIM(clip="data", box=box)
    *_, last = sampler.chain(walker, Wild(), 50, (2,), seed=0)
    assert torch.isin(last.x.double(), torch.stack((box.low, box.high)).float().double()).all()
    with pytest.raises(ArgumentError, match="clip=data: the range of the data is not given"):
        next(sampler.chain(dataclasses.replace(walker, box=None), Wild(), 2, (2,), seed=0))


def test_clipping_by_the_data_leaves_the_exact_score_alone() -> None:
    """What the range cuts off of a mixture is too little to see: E[x0 | x_t] lies in it but for the far tails."""
    data = GaussianMixture()
    exact = ExactDenoiser(data.density, schedule.cosine(T=25))
    ends = []
    for clip in (None, "data"):
        walker = sampler.DDPM(variance="posterior", clip=clip, box=data.box)
        *_, last = sampler.chain(walker, exact, 4000, (2,), seed=3)
        ends.append(last.x)
    assert (ends[0] - ends[1]).abs().mean() < 1e-3
