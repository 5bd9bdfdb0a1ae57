"""Metrics of sets: cases known by hand, brute force, POT, and how real, repeated and collapsed collections fare."""

import json
import math
from contextlib import contextmanager

import numpy as np
import ot
import pytest
import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.stars import StarFamily, Stars, draw_stars
from diffusion_cli.metrics.evaluation import SetEvaluation
from diffusion_cli.metrics.protocol import EvaluationInput
from diffusion_cli.metrics.set_report import evaluate_sets, sets_table
from diffusion_cli.metrics.sets import chamfer, earth_mover, jensen_shannon, scores
from diffusion_cli.metrics.stars import fit_stars, outline_distance
from diffusion_cli.schedule import linear


def cloud(n, points, seed=0):
    return np.random.default_rng(seed).standard_normal((n, points, 2))


def stars(n, points=128, seed=0, family=StarFamily(), jitter=0.01):  # noqa: B008
    return draw_stars(family, n, points, jitter, torch.Generator().manual_seed(seed)).double().numpy()


class Tally:
    """Stands for a progress bar."""

    def __init__(self):
        self.total, self.done = None, 0.0

    def update(self, n=1):
        self.done += n

    @contextmanager
    def bar(self, total, unit):
        self.total = total
        yield self


# distances


def test_chamfer_by_hand():
    # From (0,0) and (4,0) to the only point (0,3): 9 and 25, mean 17; back from it to the nearest: 9.
    a, b = [[[0, 0], [4, 0]]], [[[0, 3]]]
    assert chamfer(a, b).tolist() == [[26.0]]
    assert chamfer(b, a).tolist() == [[26.0]]


def test_earth_mover_by_hand():
    # Greedily 0 -> 1 and 3 -> -3 would cost (1 + 6) / 2; the best is 0 -> -3 and 3 -> 1, (3 + 2) / 2.
    a, b = [[[0, 0], [3, 0]]], [[[1, 0], [-3, 0]]]
    assert earth_mover(a, b).tolist() == [[2.5]]


def test_chamfer_is_brute_force():
    a, b = cloud(3, 17), cloud(4, 23, seed=1)
    square = ((a[:, None, :, None] - b[None, :, None, :]) ** 2).sum(-1)
    expected = square.min(3).mean(2) + square.min(2).mean(2)
    np.testing.assert_allclose(chamfer(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(chamfer(a), chamfer(a, a), atol=1e-15)


def test_earth_mover_is_pots():
    a, b = cloud(3, 20), cloud(2, 20, seed=1)
    expected = [[ot.emd2([], [], ot.dist(x, y, metric="euclidean")) for y in b] for x in a]
    np.testing.assert_allclose(earth_mover(a, b), expected, rtol=1e-9)
    np.testing.assert_allclose(earth_mover(a), earth_mover(a, a), atol=1e-15)


@pytest.mark.parametrize("distance", [chamfer, earth_mover])
def test_distances_of_a_set_to_itself_shuffled_and_moved(distance):
    x = cloud(1, 40)
    shuffled = x[:, np.random.default_rng(1).permutation(40)]
    assert distance(x, shuffled).item() == pytest.approx(0, abs=1e-12)
    far = 1000.0  # so far away that every assignment, and every nearest point, lies about that far
    expected = far if distance is earth_mover else 2 * far**2
    assert distance(x, x + np.array([far, 0])).item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("distance", [chamfer, earth_mover])
@pytest.mark.parametrize(
    "bad", [np.zeros((3, 2)), np.zeros((0, 5, 2)), np.zeros((2, 0, 2)), np.full((1, 4, 2), np.nan)]
)
def test_no_sets_no_distances(distance, bad):
    with pytest.raises(ValueError, match=r"expected sets|not finite"):
        distance(bad, cloud(1, 4))


def test_earth_mover_needs_sets_of_one_size():
    with pytest.raises(ValueError, match="4 and of 5 points"):
        earth_mover(cloud(1, 4), cloud(1, 5))


# scores


def on_a_line(*positions):
    """Sets of a single point each, whose Chamfer distance is twice the squared difference."""
    return np.array([[[p, 0.0]] for p in positions])


def scores_of(x, y):
    return scores(chamfer(x, y), chamfer(x), chamfer(y))


def test_scores_by_hand():
    # X = {0, 1, 10}, Y = {0.1, 20, 21}. Y's nearest X: 0 (0.1), 10 (10), 10 (11). X's nearest Y: 0.1, 0.1, 0.1 (9.9)
    # before 20 (10): one of three is covered. Nearest others: 0 -> 0.1 (wrong), 1 -> 0.1 (0.9, wrong), 10 -> 1 (9, right),
    # 0.1 -> 0 (wrong), 20 -> 21 and 21 -> 20 (right): 3 of 6.
    result = scores_of(on_a_line(0, 1, 10), on_a_line(0.1, 20, 21))
    assert result["mmd"] == pytest.approx(2 * (0.01 + 100 + 121) / 3)
    assert result["coverage"] == pytest.approx(1 / 3)
    assert result["one_nn"] == pytest.approx(3 / 6)


def test_copies_of_the_reference_are_all_told_wrongly():
    y = cloud(6, 10)
    assert scores_of(y, y) == {"mmd": pytest.approx(0, abs=1e-12), "coverage": 1.0, "one_nn": 0.0}


def test_two_worlds_are_told_apart_and_one_mode_covers_little():
    far = scores_of(cloud(8, 10), cloud(8, 10, seed=1) + 100)
    assert far["one_nn"] == 1
    one = np.repeat(cloud(1, 10), 8, axis=0)
    assert scores_of(one, cloud(8, 10, seed=1))["coverage"] == 1 / 8


def test_one_nn_is_brute_force():
    x, y = stars(7), stars(9, seed=1)
    joint, label = [*x, *y], [0] * 7 + [1] * 9
    right = 0
    for i, one in enumerate(joint):
        others = [(chamfer([one], [other]).item(), j) for j, other in enumerate(joint) if j != i]
        right += label[min(others)[1]] == label[i]
    assert scores_of(x, y)["one_nn"] == right / 16


# Jensen-Shannon


def test_jensen_shannon_by_hand():
    # All of X in one corner's cell; half of Y there, half in the opposite corner: p = (1, 0), q = (1/2, 1/2).
    x, y = np.zeros((2, 2, 2)), np.array([[[0.0, 0.0], [1.0, 1.0]]])
    expected = (math.log2(1 / 0.75) + 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)) / 2
    assert jensen_shannon(x, y) == pytest.approx(expected)
    assert jensen_shannon(y, y) == 0


def test_jensen_shannon_is_one_bit_for_disjoint_clouds_even_outside_the_grid():
    y = cloud(3, 200)
    assert jensen_shannon(np.full((3, 200, 2), 1e6), y) == pytest.approx(1, abs=0.03)


# stars


def test_outline_distance_is_brute_force():
    x, arms, (ratio, radius, rotation) = cloud(1, 60), 5, (0.45, 0.9, 0.3)
    angle = rotation + np.pi * np.arange(2 * arms) / arms
    length = radius * np.where(np.arange(2 * arms) % 2, ratio, 1)
    corner = length[:, None] * np.stack((np.cos(angle), np.sin(angle)), 1)
    edge = np.roll(corner, -1, 0) - corner
    from_corner = x[0][:, None] - corner
    along = np.clip((from_corner * edge).sum(-1) / (edge**2).sum(-1), 0, 1)
    expected = np.linalg.norm(from_corner - along[..., None] * edge, axis=-1).min(1).mean()
    found = outline_distance(x, arms, np.array([[[ratio, radius, rotation]]]))
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("arms", [4, 5, 6, 7])
def test_the_fit_finds_the_star_from_which_points_were_drawn(arms):
    family = StarFamily((arms, arms), (0.37, 0.63), (0.82, 1.18))
    fit = fit_stars(stars(5, 256, family=family))
    assert (fit.arms == arms).all()
    assert fit.distance.max() < 0.012  # E |N(0, 0.01 r)| is 0.008 r
    exact = fit_stars(stars(2, 256, family=StarFamily((arms, arms), (0.5, 0.5), (1.0, 1.0)), jitter=0.0))
    assert exact.distance.max() < 1e-3
    np.testing.assert_allclose(exact.ratio, 0.5, atol=5e-3)
    np.testing.assert_allclose(exact.radius, 1, atol=5e-3)


def test_a_ring_is_no_star_and_stray_points_do_not_move_the_fit():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 256)
    ring = np.stack((np.cos(angle), np.sin(angle)), 1)[None]
    assert fit_stars(ring).distance.item() > 0.08
    dirty = stars(3, 256)
    clean = fit_stars(dirty)
    dirty[:, :25] = np.random.default_rng(0).uniform(-1, 1, (3, 25, 2))
    again = fit_stars(dirty)
    assert (again.arms == clean.arms).all()
    np.testing.assert_allclose(again.radius, clean.radius, atol=0.05)


# the report


def report_of(x, **options):
    train, test = stars(24, seed=1), stars(8, seed=2)
    return evaluate_sets(lambda k: x, train, test, **{"n": 8, "draws": 1, "emd_points": 16} | options)


def test_report_has_floors_and_counts_its_pairs():
    tally = Tally()
    report = report_of(stars(8, seed=3), points=64, draws=2, family=StarFamily(), progress=tally.bar)
    names = {f"{name}_{suffix}" for name in ("mmd", "coverage", "one_nn") for suffix in ("cd", "emd")}
    assert set(report) == names | {
        "jsd",
        "outline_mean",
        "outline_p90",
        "arms_4",
        "arms_5",
        "arms_6",
        "arms_7",
    }
    entry = report["mmd_cd"]
    # Two draws and three floors of 8 x 8 pairs and 28 within, and 28 within the reference; then one of either.
    assert entry["pairs"] == 5 * (64 + 28) + 28 and report["mmd_emd"]["pairs"] == 2 * (64 + 28) + 28
    assert tally.total == tally.done == entry["pairs"] + report["mmd_emd"]["pairs"]
    assert (entry["n"], entry["draws"], entry["floor_draws"], entry["points"]) == (8, 2, 3, 64)
    assert report["mmd_emd"]["points"] == 16 and report["mmd_emd"]["draws"] == 1
    assert entry["ratio"] == entry["value"] / entry["floor"]
    assert sum(report[f"arms_{k}"]["value"] for k in range(4, 8)) == pytest.approx(1)
    assert json.loads(json.dumps(report)) == report
    table = sets_table(report)
    assert (
        "fraction with 4 arms" in table and "700 pairs" in table and max(map(len, table.splitlines())) <= 80
    )


def test_real_sets_look_real_and_broken_ones_do_not():
    real, ring = report_of(stars(8, seed=3)), np.random.default_rng(0).standard_normal((8, 128, 2))
    assert real["mmd_cd"]["ratio"] == pytest.approx(1, abs=0.35)
    noise = report_of(0.7 * ring / np.linalg.norm(ring, axis=2, keepdims=True))
    assert noise["one_nn_cd"]["value"] > 0.9 and noise["mmd_cd"]["ratio"] > 1.3
    collapsed = report_of(np.repeat(stars(1, seed=3), 8, axis=0))
    assert collapsed["coverage_cd"]["value"] == 1 / 8


def test_small_data_shrink_the_comparison_and_too_small_ones_are_refused():
    x = stars(8, seed=3)
    report = evaluate_sets(lambda k: x, stars(5), stars(3, seed=1), n=64, draws=1, emd_points=None)
    assert report["mmd_cd"]["n"] == 3 and "mmd_emd" not in report
    with pytest.raises(ValueError, match="at least 2 sets"):
        evaluate_sets(lambda k: x, stars(5), stars(1))


def given(x, data):
    return EvaluationInput(data, linear(10), 0, lambda k: Batch(x, None))


def test_evaluation_of_datasets():
    data = Stars(n=12, test=4, size=64, points=None, sample_points=32)
    report = SetEvaluation(n=4, points=32, draws=1, emd_points=None)(given(data.test[:, :32], data))
    assert report["mmd_cd"]["n"] == 4 and "arms_5" in report
    other = SetDataset(torch.rand(3, 9, 2), test=1)
    assert SetEvaluation()(given(data.test, other)).keys() == {"unmeasured"}
    plain = SetDataset(torch.rand(8, 9, 2), test=3)
    assert "outline_mean" not in SetEvaluation(emd_points=4)(given(torch.rand(64, 9, 2), plain))
