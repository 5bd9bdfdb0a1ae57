"""Sets of points in space: chairs, networks, metrics and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist, jensenshannon

from diffusion_cli.dataset.chair_family import (
    RANGES,
    ChairFamily,
    boxes_of,
    draw_chairs,
    measures,
    surface_distance,
)
from diffusion_cli.dataset.chairs import Chairs
from diffusion_cli.dataset.point_sets import PointSets, rotated
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics.chairs import chair_form, fit_chairs
from diffusion_cli.metrics.set_report import evaluate_sets, sets_table
from diffusion_cli.metrics.sets import chamfer, earth_mover, jensen_shannon
from diffusion_cli.model.embedding import SphereFourier
from diffusion_cli.model.set import SetNet


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_chair(arms: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The corners of the boxes of the first chair of a seed, and 20,000 points on it."""
    fraction = torch.rand((1, len(RANGES)), generator=seeded(1), dtype=torch.float64)
    low, high = boxes_of(measures(fraction), torch.tensor([arms > 0.5]))
    return low, high, draw_chairs(ChairFamily(arms), 1, 20_000, 0.0, seeded(1)).double()


@pytest.mark.parametrize("arms", [0.0, 1.0])
def test_points_are_uniform_by_area_on_the_outside_of_the_chair(arms: float) -> None:
    low, high, x = one_chair(arms)
    assert surface_distance(x, low, high).max() < 1e-5
    # no point lies inside of any box, nor where two of them touch
    inside = ((x[0, :, None] > low[0] + 1e-5) & (x[0, :, None] < high[0] - 1e-5)).all(-1)
    assert not inside.any()
    # Of uniform points of the box around it, those in a thin shell outside are uniform by area, but for the edges.
    h = 0.003
    around = torch.rand((1, 3_000_000, 3), generator=seeded(2), dtype=torch.float64) * 2.2 - 1.1
    around = around[:, (around[0, :, :2].abs() < 0.75).all(-1)]
    near = around[:, surface_distance(around, low, high)[0] < h]
    outside = ~((near[0, :, None] > low[0]) & (near[0, :, None] < high[0])).all(-1).any(-1)
    shell = near[0, outside]
    assert len(shell) > 3000
    # Blurred, so that it does not count that the shell lies a little farther out.
    blurred = [part + 0.03 * torch.randn(part.shape, generator=seeded(4)) for part in (x[0], shell)]
    for axis in range(3):
        assert stats.ks_2samp(*(part[:, axis] for part in blurred)).statistic < 0.03


def test_distance_to_the_surface_of_boxes() -> None:
    low, high = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]]), torch.tensor([[[1.0, 1, 1], [2, 0.5, 0.5]]])
    x = torch.tensor(
        [[[0.5, 0.5, 0.9], [0.5, 0.5, 1.3], [2.3, 0.9, 0.25], [1.5, 0.25, 0.4], [1.0, 1.0, 1.0]]]
    )
    torch.testing.assert_close(
        surface_distance(x, low, high), torch.tensor([[0.1, 0.3, 0.5, 0.1, 0.0]]), atol=1e-5, rtol=0
    )


def test_chairs_stand_upright_with_height_two_and_depend_on_their_seed_alone() -> None:
    chairs = Chairs(n=12, test=4, size=2048)
    assert chairs.train.shape == (8, 2048, 3) and chairs.shape == (512, 3) and chairs.kind == "sets"
    low, high = chairs.train.amin(1), chairs.train.amax(1)
    assert ((low[:, 2] + 1).abs() < 0.05).all() and ((high[:, 2] - 1).abs() < 0.05).all()
    assert torch.equal(chairs.test, Chairs(n=12, test=4, size=2048).test)
    assert not torch.equal(chairs.test, Chairs(n=12, test=4, size=2048, seed=1).test)
    assert chairs.draw(5, seeded()).x0.shape == (5, 512, 3)


def test_the_fit_finds_the_chairs_from_which_points_were_drawn() -> None:
    x = draw_chairs(ChairFamily(0.5), 24, 512, 0.01, seeded(3))
    # what `draw_chairs` has drawn first
    g = seeded(3)
    fraction = torch.rand((24, len(RANGES)), generator=g, dtype=torch.float64)
    arms = torch.rand((24,), generator=g, dtype=torch.float64) < 0.5
    fit = fit_chairs(x)
    assert (fit.arms == arms.numpy()).all()
    error = np.abs(fit.fraction - fraction.numpy())
    # the height of arms that are not there is not to be found
    error[~fit.arms, list(RANGES).index("arm")] = 0
    assert np.median(error) < 0.05 and error.mean() < 0.12
    # the mean of |jitter| is 0.008
    assert 0.006 < fit.distance.mean() < 0.0095
    noise = torch.randn(x.shape, generator=seeded())
    assert 0.02 < chair_form(x + 0.05 * noise)["surface_mean"] < 0.05


def test_metrics_in_space_equal_other_implementations() -> None:
    a, b = (
        Chairs(n=8, test=4, size=40, points=None).train.numpy(),
        Chairs(n=8, test=4, size=40, points=None, seed=1).train.numpy(),
    )
    for i in range(2):
        square = cdist(a[i], b[i]) ** 2
        assert chamfer(a, b)[i, i] == pytest.approx(square.min(0).mean() + square.min(1).mean())
    ot = pytest.importorskip("ot")
    exact = ot.emd2(np.full(40, 1 / 40), np.full(40, 1 / 40), cdist(a[0], b[1]))
    assert earth_mover(a, b)[0, 1] == pytest.approx(exact, rel=1e-9)
    low, side = b.reshape(-1, 3).min(0), np.ptp(b.reshape(-1, 3), axis=0).max()
    unit = [np.clip((x.reshape(-1, 3) - low) / side, 0, 1 - 1e-12) for x in (a, b)]
    p, q = (np.histogramdd(x, 5, [(0, 1)] * 3)[0].ravel() for x in unit)
    assert jensen_shannon(a, b, 5) == pytest.approx(jensenshannon(p, q, 2) ** 2)


def test_report_of_chairs_beside_their_floor() -> None:
    chairs = Chairs(n=24, test=8, size=128, points=None)
    report = evaluate_sets(
        lambda k: chairs.train[8 * k : 8 * k + 8], chairs.train, chairs.test, 8, 64, 2, 2, 32, chairs.family
    )
    assert {
        "mmd_cd",
        "coverage_emd",
        "one_nn_cd",
        "jsd",
        "surface_mean",
        "surface_p90",
        "armed",
    } <= report.keys()
    assert report["surface_mean"]["value"] == pytest.approx(report["surface_mean"]["floor"], rel=0.3)
    assert "surface distance, mean" in sets_table(report)


@pytest.mark.parametrize("kind", ["fourier", "inducing", "deepsets"])
def test_networks_in_space_are_equivariant_and_take_any_number_of_points(kind: str) -> None:
    torch.manual_seed(0)
    net = SetNet((64, 3), kind=kind, zero_init=False).double()
    x, level = torch.randn(2, 50, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    order = torch.randperm(50)
    torch.testing.assert_close(net(x[:, order], level), net(x, level)[:, order], atol=1e-10, rtol=1e-10)
    assert net(x[:, :7], level).shape == (2, 7, 3)
    with pytest.raises(ValueError, match=r"not \(B, P, 3\)"):
        net(x[..., :2], level)


def test_waves_of_space_lie_on_spheres_and_look_in_all_directions() -> None:
    waves = SphereFourier(rings=4, directions=30, smallest=0.5, largest=8.0)
    w = waves.frequency[:, : waves.features // 2]
    radius = torch.tensor([0.5, 1.26, 3.175, 8.0])[:, None].expand(4, 30)
    torch.testing.assert_close(w.norm(dim=0).view(4, 30), radius, atol=1e-3, rtol=0)
    # the second moments of directions are those of a sphere
    unit = w / w.norm(dim=0)
    torch.testing.assert_close(unit @ unit.T / unit.shape[1], torch.eye(3) / 3, atol=0.02, rtol=0)
    x = torch.randn(5, 3)
    torch.testing.assert_close(waves(x)[:, 7], (x @ w[:, 7]).sin(), atol=1e-5, rtol=0)


def test_sets_of_a_file_in_space(tmp_path: Path) -> None:
    sets = np.random.default_rng(0).normal(size=(20, 30, 3)) * 7 + 100
    np.save(tmp_path / "sets.npy", sets)
    data = PointSets(str(tmp_path / "sets.npy"))
    assert data.shape == (30, 3) and data.train.std() == pytest.approx(1, abs=0.1)
    back = data.units.array(torch.cat((data.train, data.test)))
    assert np.abs(np.sort(back.ravel()) - np.sort(sets.ravel())).max() < 1e-3
    np.save(tmp_path / "four.npy", sets[..., [0, 1, 2, 0]])
    with pytest.raises(ArgumentError, match="in the plane or in space"):
        PointSets(str(tmp_path / "four.npy"))


def test_sets_in_space_turn_about_the_third_axis() -> None:
    x = torch.tensor([[[1.0, 0.0, 5.0]]])
    turned = rotated(x, torch.tensor([np.pi / 2]))
    torch.testing.assert_close(turned, torch.tensor([[[0.0, 1.0, 5.0]]]), atol=1e-6, rtol=0)
