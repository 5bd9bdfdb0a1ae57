"""A user's own points of which some are held out; and evaluations that say why they measure nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics.evaluation import ImageEvaluation, PointEvaluation, SetEvaluation
from diffusion_cli.metrics.measurement import caveats
from diffusion_cli.metrics.protocol import EvaluationInput
from diffusion_cli.schedule import loglinear


def given(dataset, draw=None) -> EvaluationInput:
    return EvaluationInput(dataset, loglinear(10), draw=draw or (lambda k: Batch(torch.zeros(8, 2))))


def cloud(folder: Path, rows: np.ndarray, **options) -> PointCloud:
    np.save(folder / "points.npy", rows)
    return PointCloud(str(folder / "points.npy"), **options)


def test_held_out_points_are_not_trained_on(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    data = cloud(tmp_path, rows, test=0.1)
    trained = {tuple(row) for row in data.units.array(data.density.points).astype(np.float32).tolist()}
    held = {tuple(row) for row in data.units.array(data.held_out.distinct(8, 0).x0).tolist()}
    assert data.held_out.count == 8 == len(held) and len(trained) == 72 == data.about["train"]
    nearest = torch.cdist(torch.tensor([*held]), torch.tensor([*trained])).min(1).values
    assert (nearest > 1e-4).all()
    drawn = data.draw(2000, torch.Generator().manual_seed(0)).x0
    assert torch.cdist(drawn, data.held_out.distinct(8, 0).x0).min() > 1e-4
    assert data.truth is not data.density and len(data.truth.points) == 8
    assert cloud(tmp_path, rows, test=0.1).held_out.distinct(8, 0).x0.equal(data.held_out.distinct(8, 0).x0)


@pytest.mark.parametrize(
    ("n", "test", "count"),
    [(80, 0, None), (499, None, None), (500, None, 50), (50, 0.1, 5), (6, 2, 2), (80, 0.5, 40)],
)
def test_a_number_or_a_fraction_is_held_out(
    tmp_path: Path, n: int, test: float | None, count: int | None
) -> None:
    data = cloud(tmp_path, np.random.default_rng(0).normal(size=(n, 2)), test=test)
    assert data.held_out.count == count and (count or data.truth is data.density)


def test_one_point_is_left_and_one_of_each_class(tmp_path: Path) -> None:
    rows = np.column_stack((np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) // 2))
    data = cloud(tmp_path, rows, columns=[1, 2], label=3, test=0.5)
    assert data.num_classes == 30 and (data.label_counts >= 1).all()
    with pytest.raises(ArgumentError, match="of 60 points at least one must be left"):
        cloud(tmp_path, rows[:, :2], test=60)


def test_learning_by_heart_is_the_floor_and_the_distribution_itself_is_better(tmp_path: Path) -> None:
    evaluation, ratios = PointEvaluation(500, 2, 2), []
    for seed in range(8):
        data = cloud(tmp_path, np.random.default_rng(seed).normal(size=(100, 2)), test=0.5)

        def by_heart(k: int, data: PointCloud = data) -> Batch:
            return data.draw(500, torch.Generator().manual_seed(k))

        def anew(k: int, data: PointCloud = data) -> Batch:
            rows = np.random.default_rng(k + 99).normal(size=(500, 2))
            return Batch(data.units.inward(torch.from_numpy(rows)).float())

        learned, better = (evaluation(given(data, draw)) for draw in (by_heart, anew))
        ratios.append([[r[name]["ratio"] for name in ("sliced_w2", "energy")] for r in (learned, better)])
    mean = np.mean(ratios, 0)
    # 1/50 for each side of 50 points, and 1/500 for the samples
    expected = np.sqrt((1 / 50 + 1 / 500) / (2 / 50 + 1 / 500))
    assert np.abs(mean[0] - 1).max() < 0.05 and np.abs(mean[1] - expected).max() < 0.15
    assert "50 held-out points" in caveats(learned)[0]
    everything = cloud(tmp_path, np.random.default_rng(0).normal(size=(100, 2)), test=0)
    assert "learning by heart is best" in caveats(evaluation(given(everything, by_heart)))[0]


def test_what_cannot_be_measured_says_why() -> None:
    images = ImageDataset(*(Split(torch.zeros(n, 1, 4, 4, dtype=torch.uint8)) for n in (27, 3)))
    sets = SetDataset(torch.rand(8, 5, 2), test=1)
    for report, reason in (
        (
            ImageEvaluation()(given(images)),
            "3 held-out images of 30, 27 trained on, n = 1000; each must be more than",
        ),
        (SetEvaluation()(given(sets)), "1 held-out sets of 8; two or more are needed"),
        (SetEvaluation()(given(Circle())), "sets are compared with sets"),
        (PointEvaluation()(given(sets)), "no density in closed form"),
    ):
        (line,) = caveats(report)
        assert line.startswith("not measured: ") and reason in line


def test_fewer_samples_than_wanted_are_said() -> None:
    sets = SetDataset(torch.rand(12, 5, 2), test=4)
    report = SetEvaluation(n=8, draws=1, floor_draws=2, emd_points=None)(
        given(sets, lambda k: Batch(torch.rand(8, 5, 2)))
    )
    assert "4 samples of 8, since 4 sets are held out and 8 trained on" in caveats(report)
