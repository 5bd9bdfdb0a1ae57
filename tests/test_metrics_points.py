"""Metrics of points: cases known by hand, brute force, and how true and damaged samples fare."""

import json
import math
import subprocess
import sys

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from diffusion_cli.dataset.plane import Ring
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.segments import Segments
from diffusion_cli.metrics.points import (
    PROJECTIONS,
    PointMetrics,
    evaluate_points,
    mean_distance,
    mean_distance_within,
    points_table,
)
from diffusion_cli.noise import Stream, mix
from diffusion_cli.runs import ranking

MEANS = torch.tensor([[-0.35, 0.65], [0.75, -0.45]])


def square() -> Segments:
    return Segments([torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])])


def gaussian(mean: float, std: float) -> Points:
    return Points(torch.tensor([[mean]]), jitter=std)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def true_samples(density, n):
    return lambda k: density.sample(n, seeded(100 + k)).x0


@pytest.mark.parametrize("density", [Ring(), square(), gaussian(0.3, 0.5)], ids=["ring", "square", "1d"])
def test_the_reference_itself_is_at_distance_zero(density):
    x = density.reference(500)
    result = PointMetrics(density, 500)(x)
    assert result["sliced_w2"] < 1e-7
    assert result["energy"] < 1e-3  # the root of a rounding error


def test_translation_of_a_line():
    # Every 1-D set is moved by 0.25 along the line: W2 = 0.25 exactly.
    density = gaussian(0.0, 1.0)
    x = density.reference(3000)
    assert PointMetrics(density, 3000)(x + 0.25)["sliced_w2"] == pytest.approx(0.25, rel=1e-6)


def test_translation_of_the_plane_is_seen_through_the_projections():
    # A shift v moves each projection by u.v, so that sliced W2 = sqrt(mean (u.v)^2), about |v| / sqrt(2).
    density, shift = Ring(), torch.tensor([0.3, -0.4])
    metrics = PointMetrics(density, 400)
    directions = metrics.directions.T
    assert directions.shape == (2, PROJECTIONS)
    np.testing.assert_allclose((directions**2).sum(0), 1)
    expected = np.sqrt(np.mean((shift.double().numpy() @ directions) ** 2))
    value = metrics(density.reference(400) + shift)["sliced_w2"]
    assert value == pytest.approx(expected, rel=1e-5)
    assert value == pytest.approx(0.5 / math.sqrt(2), rel=0.2)


def test_two_points_by_hand():
    # True: half at -0.5, half at +0.5. Samples: all four at +0.5. Half the mass moves by 1: W2 = sqrt(1/2).
    # Energy: E|X - Y| = 1/2, E|X - X'| = 0, E|Y - Y'| = 1/2, so the root of 1 - 0 - 1/2.
    # Coverage: half of the reference is 1 away from any sample.
    density = Points(torch.tensor([[-0.5], [0.5]]))
    result = PointMetrics(density, 4)(torch.full((4, 1), 0.5))
    assert result["sliced_w2"] == pytest.approx(math.sqrt(0.5))
    assert result["energy"] == pytest.approx(math.sqrt(0.5))
    assert result["coverage"] == pytest.approx(0.5)
    assert result["distance_mean"] == result["distance_p99"] == 0


def test_sliced_w2_is_brute_force_assignment_on_each_projection():
    density, n = square(), 6
    x = torch.randn(n, 2, generator=seeded())
    metrics = PointMetrics(density, n)
    squared = []
    for direction in metrics.directions:
        ours, true = (points.double().numpy() @ direction for points in (x, density.reference(n)))
        cost = (ours[:, None] - true[None]) ** 2
        squared.append(cost[linear_sum_assignment(cost)].mean())
    assert metrics(x)["sliced_w2"] == pytest.approx(np.sqrt(np.mean(squared)), rel=1e-6)


@pytest.mark.parametrize("density", [Ring(), gaussian(0.3, 0.5)], ids=["plane", "line"])
def test_sliced_w2_is_pots(density):
    n, seed = 500, 3
    x, d = torch.randn(n, *density.shape, generator=seeded()), density.shape[0]
    directions = ot.sliced.get_random_projections(
        d, PROJECTIONS if d > 1 else 1, mix(seed, Stream.PROJECTIONS) % 2**32
    )
    ours, true = (ot.utils.list_to_array(rows.double().numpy()) for rows in (x, density.reference(n)))
    expected = ot.sliced_wasserstein_distance(ours, true, projections=directions)
    metrics = PointMetrics(density, n, seed)
    np.testing.assert_array_equal(metrics.directions.T, directions)
    assert metrics(x)["sliced_w2"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 2), (99, 250, 1), (250, 101, 3)])
def test_mean_distances_are_scipys(n, m, d):
    a, b = torch.randn(n, d, generator=seeded()), torch.randn(m, d, generator=seeded(1))
    assert mean_distance(a, b) == pytest.approx(cdist(a.double(), b.double()).mean(), rel=1e-6)
    assert mean_distance_within(a) == pytest.approx(cdist(a.double(), a.double()).mean(), rel=1e-6, abs=1e-12)
    exact = mean_distance_within(a.double())
    assert exact == pytest.approx(cdist(a.double(), a.double()).mean(), rel=1e-12, abs=1e-12)


def test_pot_is_not_imported():
    """It takes a second, and nothing here needs it."""
    code = (
        "import sys; from diffusion_cli.dataset.plane import Ring; from diffusion_cli.metrics.points import PointMetrics;"
        "PointMetrics(Ring(), 10)(Ring().reference(10)); print('ot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_energy_equals_scipy_on_a_line_and_all_pairs_in_the_plane():
    density = gaussian(0.2, 0.7)
    x = torch.randn(700, 1, generator=seeded())
    scipy_says = scipy.stats.energy_distance(x[:, 0].double(), density.reference(700)[:, 0].double())
    assert PointMetrics(density, 700)(x)["energy"] == pytest.approx(scipy_says, rel=1e-4)

    x, y = torch.randn(300, 2, generator=seeded()).double().numpy(), Ring().reference(300).double().numpy()
    squared = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    value = PointMetrics(Ring(), 300)(torch.tensor(x))["energy"]
    assert value == pytest.approx(math.sqrt(squared), rel=1e-5)


def test_distance_to_the_curve_in_data_units():
    x = torch.ones(1000, 1) * torch.tensor([1.1, 0.0])
    x[:20] *= 3 / 1.1
    result = PointMetrics(Ring(), 1000)(x)
    assert result["distance_mean"] == pytest.approx(0.98 * 0.1 + 0.02 * 2, rel=1e-5)
    assert result["distance_p99"] == pytest.approx(2, rel=1e-5)


def test_coverage_of_a_half_circle():
    # Dense on the right half: a reference point at angle a beyond an end, 0 <= a <= pi / 2, is 2 sin(a / 2) away,
    # which averages to (8 / pi) (1 - cos(pi / 4)) over the left half and to 0 over the right one.
    angle = torch.linspace(-math.pi / 2, math.pi / 2, 2000, dtype=torch.float64)
    x = torch.stack((angle.cos(), angle.sin()), 1)
    expected = 0.5 * (8 / math.pi) * (1 - math.cos(math.pi / 4))
    assert PointMetrics(Ring(), 2000)(x)["coverage"] == pytest.approx(expected, abs=1e-3)


def test_coverage_averages_blocks_of_two_thousand():
    dense, lost = Ring().reference(2000), torch.tensor([[1.0, 0.0]]).expand(2000, 2)
    both = PointMetrics(Ring(), 4000)(torch.cat((dense, lost)))["coverage"]
    apart = [PointMetrics(Ring(), 2000)(part)["coverage"] for part in (dense, lost)]
    assert both == pytest.approx(np.mean(apart))
    assert apart[1] == pytest.approx(4 / math.pi, rel=1e-4)  # mean chord from one point of the circle


@pytest.mark.parametrize(
    "density",
    [
        Ring(),
        square(),
        Ring(jitter=0.1),
        gaussian(-1.0, 0.5),
        Points(MEANS, torch.tensor([0.35, 0.65]), labelled=True, jitter=0.1),
    ],
    ids=["ring", "square", "jittered", "gaussian1d", "mixture"],
)
def test_true_samples_have_ratio_one(density):
    report = evaluate_points(true_samples(density, 1000), density, n=1000, draws=12, floor_draws=12)
    for name, entry in report.items():
        if entry["ratio"] is None:
            assert name == "outliers" or (name.startswith("distance") and density.jitter == 0)
            assert entry["value"] < 1e-6
            continue
        errors = [entry["spread"] / entry["value"], entry["floor_spread"] / entry["floor"]]
        assert abs(entry["ratio"] - 1) < 4 * math.hypot(*errors) / math.sqrt(12), name


def test_blur_and_lost_parts_are_seen():
    density = Ring()

    def blurred(k):
        x = density.sample(2000, seeded(k)).x0
        return x + 0.1 * torch.randn(x.shape, generator=seeded(k))

    def half(k):
        x = density.sample(2000, seeded(k)).x0
        return torch.stack((x[:, 0].abs(), x[:, 1]), 1)

    blur, lost = (evaluate_points(draw, density, n=2000, floor_draws=4) for draw in (blurred, half))
    assert blur["distance_mean"]["value"] == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.05)
    assert blur["coverage"]["ratio"] > 2
    assert lost["distance_p99"]["value"] < 1e-6
    assert min(lost[name]["ratio"] for name in ("sliced_w2", "energy", "coverage")) > 10


def test_with_jitter_samples_nearer_to_the_curve_are_no_better():
    ring = Ring(jitter=0.1)

    def cost(shrunk):
        jittered = Ring(jitter=0.1 * shrunk)
        report = evaluate_points(
            lambda k: jittered.sample(2000, seeded(k)).x0, ring, n=2000, draws=2, floor_draws=4
        )
        entries = (report["distance_mean"], report["distance_p99"])
        return [ranking.cost(entry["value"], entry["better"]) for entry in entries]

    true, half, double = cost(1.0), cost(0.5), cost(2.0)
    assert all(a < b and a < c for a, b, c in zip(true, half, double, strict=True))
    report = evaluate_points(
        lambda k: Ring().sample(200, seeded(k)).x0, Ring(), n=200, draws=1, floor_draws=2
    )
    assert report["distance_mean"]["better"] == "lower"


def test_report_is_deterministic_plain_and_complete():
    density = Ring()
    reports = [
        evaluate_points(true_samples(density, 300), density, n=300, draws=2, floor_draws=3, seed=5)
        for _ in range(2)
    ]
    assert reports[0] == reports[1] == json.loads(json.dumps(reports[0], allow_nan=False))
    assert list(reports[0]) == [
        "sliced_w2",
        "outliers",
        "energy",
        "coverage",
        "distance_mean",
        "distance_p99",
    ]
    for entry in reports[0].values():
        assert (
            " ".join(entry) == "value spread floor floor_spread ratio n draws floor_draws label unit better"
        )
        assert (entry["n"], entry["draws"], entry["floor_draws"]) == (300, 2, 3)
        assert entry["ratio"] is None or entry["ratio"] == entry["value"] / entry["floor"]


def test_one_draw_has_no_spread_and_sizes_are_stated():
    density = Points(torch.tensor([[-0.5], [0.5]]))
    report = evaluate_points(true_samples(density, 5000), density, n=5000, draws=1, floor_draws=1)
    assert [report[name]["n"] for name in ("sliced_w2", "energy", "coverage")] == [5000, 4000, 2000]
    assert report["sliced_w2"]["spread"] is None
    assert report["coverage"]["ratio"] is None  # every draw hits both points: nothing to divide by


def test_table_is_aligned():
    density = Ring()
    report = evaluate_points(true_samples(density, 200), density, n=200, draws=2, floor_draws=2)
    lines = points_table(report).splitlines()
    assert len(lines) == 7
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80
    assert lines[0].split() == ["metric", "value", "floor", "ratio", "n", "draws"]
    assert f"{report['coverage']['ratio']:.2f}" in lines[4]


def test_bad_input_is_refused():
    metrics = PointMetrics(Ring(), 10)
    with pytest.raises(ValueError, match="not finite"):
        metrics(torch.full((10, 2), math.nan))
    with pytest.raises(ValueError, match="expected"):
        metrics(torch.zeros(9, 2))
    with pytest.raises(ValueError, match="expected"):
        metrics(torch.zeros(10, 3))
    with pytest.raises(ValueError, match="at least 2"):
        PointMetrics(Ring(), 1)
    with pytest.raises(ValueError, match="at least 1"):
        evaluate_points(lambda k: torch.zeros(10, 2), Ring(), n=10, draws=0)


def test_the_error_of_a_network_is_that_of_its_velocity():
    """Of one that says x0 = 0 of a Gaussian, in closed form: v = x_t / sigma against alpha eps - sigma x0 of the exact one."""
    from diffusion_cli import schedule
    from diffusion_cli.dataset.exact import Gaussian1D
    from diffusion_cli.denoiser import ExactDenoiser
    from diffusion_cli.metrics.network_error import velocity_errors
    from diffusion_cli.noise import NoiseStream
    from diffusion_cli.prediction import Prediction

    data, s, n = Gaussian1D(1.0, 0.25), schedule.loglinear(), 40_000
    exact = ExactDenoiser(data.density, s)

    def nothing(x_t, t, label=None, to=None):
        return Prediction.from_x0(torch.zeros_like(x_t), x_t, s.level(t, like=x_t))

    batch = data.draw(n, torch.Generator().manual_seed(0))
    found = velocity_errors(nothing, exact, batch, NoiseStream(0, n, (1,)), [1, 25, 50])
    for (ratio, error), t in zip(found.items(), [1, 25, 50], strict=True):
        level = s.level(t, like=batch.x0)
        assert math.isclose(ratio, level.sigma / level.alpha)
        # x0_hat = mean + k (x_t - alpha mean), whose mean square is 1 + k alpha variance
        gain = level.alpha * 0.25 / (level.alpha**2 * 0.25 + level.sigma**2)
        expected = (1 + gain * level.alpha * 0.25) / level.sigma**2
        assert math.isclose(error, expected, rel_tol=0.02)
    assert all(
        value < 1e-6
        for value in velocity_errors(exact, exact, batch, NoiseStream(0, n, (1,)), [1, 25]).values()
    )
