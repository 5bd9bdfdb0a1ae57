"""Floors in the cache: measured once, found by all that they depend on, and never trusted when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.dataset.plane import Ring
from diffusion_cli.dataset.points import Points
from diffusion_cli.metrics import points
from diffusion_cli.metrics.evaluation import MixtureEvaluation
from diffusion_cli.metrics.points import PointMetrics, evaluate_points
from diffusion_cli.metrics.protocol import EvaluationInput
from diffusion_cli.runs import checkpoint
from diffusion_cli.schedule import loglinear


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "floors"


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*"))


def report_of(density: Density, n: int = 50, floor_draws: int = 3, seed: int = 0) -> dict:
    return evaluate_points(lambda k: Ring().reference(n), density, n, 1, floor_draws, seed)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    measure = PointMetrics.__call__

    def counted(self: PointMetrics, x: torch.Tensor) -> dict[str, float]:
        calls.append(len(x))
        return measure(self, x)

    monkeypatch.setattr(PointMetrics, "__call__", counted)
    return calls


def test_a_floor_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_calls(monkeypatch)
    first = report_of(Ring())
    # The model's set, and three true ones.
    assert len(calls) == 4 and len(files(cache)) == 1
    assert report_of(Ring()) == first
    assert len(calls) == 5 and len(files(cache)) == 1


def test_whatever_it_depends_on_makes_another(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for density, more in (
        (Ring(), {}),
        (Ring(1.001), {}),
        (Ring(jitter=0.01), {}),
        (Points([[0.0, 1.0]], jitter=0.1), {}),
        (Ring(), {"n": 51}),
        (Ring(), {"floor_draws": 4}),
        (Ring(), {"seed": 1}),
    ):
        before = len(files(cache))
        report_of(density, **more)
        assert len(files(cache)) == before + 1, (density, more)
    monkeypatch.setattr(points, "VERSION", points.VERSION + 1)
    report_of(Ring())
    assert len(files(cache)) == 8


def test_a_damaged_one_is_made_anew(cache: Path) -> None:
    first = report_of(Ring())
    (file,) = files(cache)
    good = file.read_bytes()
    for harm in (b"", b"nonsense", good[:-100], good.replace(b"sliced_w2", b"sliced_w3")):
        file.write_bytes(harm)
        assert report_of(Ring()) == first
        assert checkpoint.load(file).keys() == {"floors"}


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = report_of(Ring())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "file"))
    assert report_of(Ring()) == first


def test_those_of_a_mixture_are_kept_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = GaussianMixture()
    given = EvaluationInput(
        data, loglinear(10), draw=lambda k: data.draw(40, torch.Generator().manual_seed(k))
    )
    evaluation = MixtureEvaluation(n=40, draws=1, floor_draws=2)
    first = evaluation(given)
    assert len(files(cache)) == 2
    monkeypatch.setattr(checkpoint, "save", lambda *_: pytest.fail("measured again"))
    assert evaluation(given) == first
