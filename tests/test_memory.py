"""Learning by heart: copies, losses and exact scores, against denoisers of which it is known whether they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.figures.curves import score_curves
from diffusion_cli.figures.points import beside_nearest_points
from diffusion_cli.figures.recipes.memory import onset
from diffusion_cli.metrics.measurement import caveats
from diffusion_cli.metrics.memory import COPY, MemoryEvaluation, copied, nearest_examples, ratio_of_two
from diffusion_cli.metrics.protocol import EvaluationInput
from diffusion_cli.schedule import loglinear


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_nearest_examples_are_those_of_a_search_by_hand() -> None:
    x, data = torch.randn(20, 1, 3, 4, generator=seeded()), torch.randn(50, 1, 3, 4, generator=seeded(1))
    near, rows = nearest_examples(x, iter(data.split(7)))
    distance = (x[:, None] - data[None]).flatten(2).double().norm(dim=2)
    expected, order = distance.sort(1)
    assert torch.equal(rows, order[:, :4])
    torch.testing.assert_close(near.double(), expected[:, :4], atol=1e-6, rtol=1e-6)
    # of repeated examples the next one is another
    again, _ = nearest_examples(x, iter([data, data]))
    torch.testing.assert_close(ratio_of_two(again), ratio_of_two(near))
    assert ratio_of_two(nearest_examples(data, iter([data]))[0]).max() == 0


def test_copies_are_counted() -> None:
    train = torch.randint(0, 256, (40, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    data = ImageDataset(Split(train), Split(255 - train[:5]))
    fresh = 2 * torch.rand(30, 1, 8, 8, generator=seeded(2)) - 1
    known = data.train.batch(slice(0, 10)).x0 + 0.01
    assert copied(fresh, data) == 0 and copied(torch.cat((known, fresh)), data) == 0.25
    sets = SetDataset(torch.randn(20, 30, 2, generator=seeded()), test=4)
    drawn = torch.cat((sets.train[:3] + 1e-3, torch.randn(3, 30, 2, generator=seeded(9))))
    assert copied(drawn, sets) == 0.5


@pytest.mark.parametrize("dataset", [Circle(n=64), GaussianMixture(n=64)], ids=["circle", "mixture"])
def test_the_two_exact_denoisers_are_told_from_each_other(dataset) -> None:
    schedule = loglinear(50)
    evaluation = MemoryEvaluation(n=300, levels=[0.1, 0.5])

    def report(density, draw):
        denoiser = ExactDenoiser(density, schedule)
        return evaluation(EvaluationInput(dataset, schedule, draw=draw, denoiser=denoiser))

    heart = report(dataset.empirical, lambda k: dataset.draw(300, seeded()))
    general = report(dataset.density, lambda k: dataset.density.sample(300, seeded()))
    assert heart["empirical_score"]["value"] == 0 and heart["truth_score"]["value"] > 0.05
    assert general["truth_score"]["value"] == 0
    for level in ("", "_0.1", "_0.5"):
        values = heart[f"truth_score{level}"]["value"], general[f"empirical_score{level}"]["value"]
        assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert heart["copies"]["value"] == 1 and general["copies"]["ratio"] == pytest.approx(1, abs=0.35)
    assert heart["loss_gap"]["value"] > 4 * heart["loss_gap"]["error"]
    assert abs(general["loss_gap"]["value"]) < 4 * general["loss_gap"]["error"]


def test_on_a_curve_a_third_are_copies_by_chance() -> None:
    # the ratio of the distances to two neighbours on a line is uniform
    data = Circle(n=500)
    assert copied(data.held_out.draw(4000, seeded()).x0, data) == pytest.approx(1 / 3, abs=0.04)


def test_points_of_ones_own_have_no_true_score(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(60, 2)))
    for test in (0.1, 0):
        data = PointCloud(str(tmp_path / "a.npy"), test=test)
        given = EvaluationInput(
            data, loglinear(10), draw=lambda k, data=data: data.draw(50, seeded()),
            denoiser=ExactDenoiser(data.density, loglinear(10)),
        )  # fmt: skip
        report = MemoryEvaluation(n=50)(given)
        assert report["empirical_score"]["value"] == 0 and "truth_score" not in report
        assert report["copies"]["value"] == 1 and ("floor" in report["copies"]) == bool(test)
        assert ("loss_gap" in report) == bool(test)
        assert any("nothing is held out" in line for line in caveats(report)) != bool(test)


def test_of_fresh_draws_nothing_is_learned_by_heart() -> None:
    with pytest.raises(ArgumentError, match=r"dataset\.n=N"):
        MemoryEvaluation().check(Circle())


def test_learning_by_heart_begins_where_the_curves_cross_for_good() -> None:
    step = np.array([10.0, 20, 30, 40])
    truth = np.ones(4)
    assert onset(step, np.array([2.0, 0.5, 1.5, 0.5]), truth) == pytest.approx(35)
    assert onset(step, np.array([2.0, 0.5, 0.5, 1.5]), truth) is None
    assert onset(step, np.zeros(4), truth) == 10


def test_the_figure_shows_both_curves_for_each_number_and_where_they_cross() -> None:
    step = np.array([100.0, 200, 300])
    curves = {
        n: (step, np.array([0.3, 0.2, 0.1]), np.full(3, truth)) for n, truth in ((64, 0.25), (256, 0.15))
    }
    never = curves | {1024: (step, np.array([0.3, 0.2, 0.1]), np.full(3, 0.05))}
    figure = score_curves(never, {n: onset(*curve) for n, curve in never.items()})
    *panels, last = figure.axes
    assert [ax.get_title() for ax in panels] == ["N = 64", "N = 256", "N = 1,024"]
    np.testing.assert_allclose(panels[0].lines[1].get_ydata(), [0.3, 0.2, 0.1])
    np.testing.assert_allclose(panels[1].lines[2].get_xdata(), 250)
    np.testing.assert_allclose(last.lines[0].get_xydata(), [[64, 150], [256, 250]])
    assert len(panels[2].lines) == 2 and last.texts[0].get_text() == "not yet: N = 1,024"


def test_samples_are_joined_to_their_nearest_training_points() -> None:
    data = torch.randn(40, 2, generator=seeded(3)).double().numpy()
    x = np.concatenate([data[[5, 9]] + 1e-9, data[[7]] + [3.0, 4.0]])
    near, rows = nearest_examples(torch.from_numpy(x), [torch.from_numpy(data)])
    figure = beside_nearest_points(x, data, rows[:, 0].numpy(), ratio_of_two(near).numpy() < COPY)
    ax = figure.axes[0]
    lines = np.concatenate([collection.get_segments() for collection in ax.collections])
    # of each line the length is the distance to the nearest, by a search of another kind
    truth = np.linalg.norm(x[:, None] - data[None], axis=2).min(1)
    assert sorted(np.linalg.norm(lines[:, 0] - lines[:, 1], axis=1)) == pytest.approx(sorted(truth), abs=1e-8)
    assert ax.get_title().startswith("3 samples, 2 of them copies")
