"""Shapes, toy densities and a user's points: uniform where promised, frozen on request, and strict about bad input."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.io import savemat

from diffusion_cli.dataset import point_file
from diffusion_cli.dataset.exact import ExactDataset, Gaussian1D, GaussianMixture, TwoPoint
from diffusion_cli.dataset.plane import Circle, Dinohead, Square, dinohead_strokes
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.errors import ArgumentError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(dataset: ExactDataset, n: int = 5000, seed: int = 0) -> np.ndarray:
    return dataset.draw(n, seeded(seed)).x0.double().numpy()


def arc_position(x: np.ndarray, strokes: list[np.ndarray]) -> np.ndarray:
    """Fraction of the total length, in 0..1, at which the nearest point of the strokes lies."""
    start = np.concatenate([stroke[:-1] for stroke in strokes])
    step = np.concatenate([np.diff(stroke, axis=0) for stroke in strokes])
    length = np.hypot(*step.T)
    at = np.clip(((x[:, None] - start) * step).sum(-1) / length**2, 0, 1)
    away = np.linalg.norm(start + at[..., None] * step - x[:, None], axis=-1)
    nearest, rows = away.argmin(1), np.arange(len(x))
    assert away[rows, nearest].max() < 1e-6
    return ((length.cumsum() - length)[nearest] + at[rows, nearest] * length[nearest]) / length.sum()


def test_circle_is_uniform_in_angle_on_the_radius() -> None:
    x0 = draw(Circle(radius=2.0))
    np.testing.assert_allclose(np.hypot(*x0.T), 2, atol=1e-6)
    assert (
        stats.kstest(np.arctan2(x0[:, 1], x0[:, 0]), stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 0.01
    )


def test_square_is_uniform_on_the_perimeter_corners_included() -> None:
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1], [-1, -1]], dtype=float)
    x0 = draw(Square())
    np.testing.assert_allclose(np.abs(x0).max(1), 1, atol=1e-6)
    assert stats.kstest(arc_position(x0, [corners]), "uniform").pvalue > 0.01
    assert all(np.linalg.norm(x0 - corner, axis=1).min() < 0.02 for corner in corners)
    assert np.abs(draw(Square(side=0.5))).max() == 0.25


def test_dinohead_is_uniform_on_its_strokes_within_the_unit_square() -> None:
    strokes = [stroke.numpy() for stroke in dinohead_strokes()]
    assert stats.kstest(arc_position(draw(Dinohead()), strokes), "uniform").pvalue > 0.01
    vertices = np.concatenate(strokes)
    assert 150 <= len(vertices) <= 400 and np.abs(vertices).max() <= 0.98
    assert all(np.array_equal(stroke[0], stroke[-1]) for stroke in strokes[1:])  # eye, pupil, nostril
    spread = Dinohead().density.reference(4000).std(0)
    assert (spread > 0.45).all() and (spread < 0.65).all()


def test_strokes_of_the_dinohead_do_not_meet() -> None:
    strokes = dinohead_strokes()
    for i, stroke in enumerate(strokes):
        others = torch.cat(strokes[:i] + strokes[i + 1 :])
        assert torch.cdist(stroke, others).min() > 0.04


def test_jitter_is_gaussian_about_the_shape() -> None:
    radius = np.hypot(*draw(Circle(jitter=0.01)).T)
    assert stats.kstest((radius - 1) / 0.01, "norm").pvalue > 0.01


@pytest.mark.parametrize("dataset", [Circle, Square, Dinohead, Gaussian1D, TwoPoint, GaussianMixture])
def test_fresh_draws_follow_the_generator_and_have_the_declared_shape(dataset: type[ExactDataset]) -> None:
    made = dataset()
    x0, label, source = made.draw(64, seeded(1))
    assert x0.shape == (64, *made.shape) and x0.dtype == torch.float32 and made.density.shape == made.shape
    assert source is None and made.fingerprint is None
    assert torch.equal(x0, dataset().draw(64, seeded(1)).x0)
    assert not torch.equal(x0, made.draw(64, seeded(2)).x0)
    if made.num_classes:
        assert label.dtype == torch.int64 and label.min() >= 0 and label.max() < made.num_classes
    else:
        assert label is None


@pytest.mark.parametrize("dataset", [Circle, Dinohead, GaussianMixture])
def test_frozen_set_is_always_the_same_rows(dataset: type[ExactDataset]) -> None:
    first, second = dataset(n=20).draw(2000, seeded(1)), dataset(n=20).draw(2000, seeded(2))
    assert len(first.x0.unique(dim=0)) == 20
    assert torch.equal(first.x0.unique(dim=0), second.x0.unique(dim=0))
    assert not torch.equal(first.x0, second.x0)
    if first.label is not None:  # each row keeps its label
        assert len(torch.cat((first.x0, first.label[:, None]), 1).unique(dim=0)) == 20


def test_toy_densities_have_their_moments_and_labels() -> None:
    line = draw(Gaussian1D(mean=-2.0, variance=0.09), 20_000)
    assert stats.kstest(line[:, 0], stats.norm(-2, 0.3).cdf).pvalue > 0.01

    x0, label, _ = TwoPoint(positions=[-1.0, 0.5, 2.0], weights=[1, 1, 2], labels=True).draw(20_000, seeded())
    assert torch.equal(x0[:, 0], torch.tensor([-1.0, 0.5, 2.0])[label])
    assert stats.chisquare(label.bincount(), [5000, 5000, 10_000]).pvalue > 0.01
    assert TwoPoint().num_classes == 0 and TwoPoint().draw(4, seeded()).x0.abs().eq(0.5).all()

    mixture = GaussianMixture()
    x0, label, _ = mixture.draw(20_000, seeded())
    assert mixture.num_classes == 2 and GaussianMixture(labels=False).num_classes == 0
    assert label.double().mean().item() == pytest.approx(0.65, abs=0.01)
    residual = (x0 - torch.tensor([[-0.35, 0.65], [0.75, -0.45]])[label]) / 0.1
    assert stats.kstest(residual.flatten(), "norm").pvalue > 0.01


POINTS = np.array([[0.0, 1.5], [-2.0, 0.25], [3.0, -1.0]])


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "0,1.5\n-2,0.25\n3,-1\n",
        "x,y\n0,1.5\n-2,.25\n3,-1",
        "\ufeffx;y\r\n0;1.5\r\n\r\n-2;0.25\r\n3;-1\r\n",
        "0 1.5\n-2   0.25\n3 -1e0\n",
        "x\ty\n0\t1.5\n-2\t0.25\n3\t-1\n",
    ],
)
def test_csv_is_read_with_or_without_a_header(tmp_path: Path, text: str) -> None:
    assert np.array_equal(point_file.read_points(write(tmp_path / "points.csv", text)).points, POINTS)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numpy_files_are_read(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "points.npy", POINTS.astype(dtype))
    np.savez_compressed(tmp_path / "points.npz", POINTS.astype(dtype))
    for name in ("points.npy", "points.npz"):
        assert np.array_equal(point_file.read_points(str(tmp_path / name)).points, POINTS)


def test_point_cloud_draws_every_point_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "points.csv", "0,1.5\n-2,0.25\n3,-1\n")
    cloud = PointCloud(path)
    assert cloud.shape == (2,) and cloud.num_classes == 0
    x0 = cloud.units.outward(torch.from_numpy(draw(cloud, 3000))).numpy()
    rows, count = np.unique(x0.round(5), axis=0, return_counts=True)
    assert np.array_equal(rows, POINTS[np.argsort(POINTS[:, 0])])
    assert stats.chisquare(count).pvalue > 0.01
    distance = cloud.density.distance(cloud.units.inward(torch.tensor([[3.0, 1.0]])))
    assert distance.item() * cloud.units.scale == pytest.approx(2)
    assert (draw(PointCloud(path, jitter=0.1), 100)[:, None] != POINTS).any(-1).all()


def refusal(build) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ArgumentError) as caught:
            build()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds an array of shape (0, 0)"),
        ("x,y\n", "holds an array of shape (0, 2)"),
        ("1,2\nnan,3\n", "line 2, column 1 is nan: missing, or not finite"),
        ("1,2\ninf,3\n", "not finite"),
        ("1,2\n3\n", "cannot be read"),
        ("1,2\n3,four\n", "line 2, column 2 is 'four', no number"),
    ],
)
def test_bad_csv_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path / "points.csv", text)
    message = refusal(lambda: PointCloud(path))
    assert message.startswith(f"path={path}: ") and reason in message and "\n" not in message


def test_points_of_a_matlab_file(tmp_path):
    """As MATLAB 5 to 7 writes them; among other variables, as a whole workspace has them."""
    savemat(
        tmp_path / "points.mat", {"points": POINTS, "title": "a drawing", "cells": np.array(["a", 1], object)}
    )
    np.save(tmp_path / "points.npy", POINTS.astype(np.float64))
    ours, theirs = (PointCloud(str(tmp_path / name)) for name in ("points.mat", "points.npy"))
    assert ours.fingerprint == theirs.fingerprint
    savemat(tmp_path / "zipped.mat", {"points": POINTS}, do_compression=True)
    assert PointCloud(str(tmp_path / "zipped.mat")).fingerprint == ours.fingerprint
    savemat(tmp_path / "two.mat", {"a": POINTS, "b": POINTS})
    assert "2 arrays of numbers (a, b), not one" in refusal(lambda: PointCloud(str(tmp_path / "two.mat")))
    savemat(tmp_path / "complex.mat", {"a": POINTS * 1j})
    assert "not real numbers" in refusal(lambda: PointCloud(str(tmp_path / "complex.mat")))
    head = (
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124)
        + b"\x00\x02IM"
        + b"\x89HDF\r\n\x1a\n"
        + bytes(600)
    )
    (tmp_path / "new.mat").write_bytes(head)
    assert "save('points.mat', '-v7')" in refusal(lambda: PointCloud(str(tmp_path / "new.mat")))
    (tmp_path / "cut.mat").write_bytes((tmp_path / "points.mat").read_bytes()[:200])
    assert "cannot be read" in refusal(lambda: PointCloud(str(tmp_path / "cut.mat")))


def test_bad_numpy_files_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path(tmp_path / "executed").touch, ())

    arrays = {
        "pickle": (np.array([Bomb()], dtype=object), "cannot be read"),
        "text": (np.array([["1", "2"]]), "not real numbers"),
        "complex": (np.ones((2, 2), complex), "not real numbers"),
        "images": (np.zeros((4, 2, 2)), "shape (4, 2, 2)"),
        "empty": (np.zeros((0, 2)), "shape (0, 2)"),
    }
    for name, (array, reason) in arrays.items():
        np.save(tmp_path / name, array, allow_pickle=True)
        assert reason in refusal(lambda name=name: PointCloud(str(tmp_path / f"{name}.npy")))
    np.savez(tmp_path / "two.npz", a=POINTS, b=POINTS)
    assert "2 arrays" in refusal(lambda: PointCloud(str(tmp_path / "two.npz")))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:50])
    assert "cannot be read" in refusal(lambda: PointCloud(str(tmp_path / "cut.npz")))
    assert not (tmp_path / "executed").exists()


def test_files_too_large_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_file, "MOST_BYTES", 2**20)
    monkeypatch.setattr(point_file, "MOST_POINTS", 2)
    content = io.BytesIO()
    np.save(content, np.zeros((10**5, 2)))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content.getvalue())
    (tmp_path / "large.csv").write_bytes(b" " * (2**20 + 1))
    assert "unpacks to more than 1 MiB" in refusal(lambda: PointCloud(str(tmp_path / "bomb.npz")))
    assert "larger than 1 MiB" in refusal(lambda: PointCloud(str(tmp_path / "large.csv")))
    assert "N in 1..2" in refusal(lambda: PointCloud(write(tmp_path / "three.csv", "1,2\n3,4\n5,6\n")))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PointCloud("nowhere.csv"), "path=nowhere.csv: no such file"),
        (lambda: PointCloud("."), "path=.: no such file"),
        (lambda: PointCloud(None), "path=null: must be a name or a path"),
        (
            lambda: PointCloud(__file__),
            "no file of this kind; choose from .csv, .tsv, .txt, .npy, .npz, .mat",
        ),
        (lambda: Circle(n=0), "n=0: must be a whole number in 1..100000000, or null"),
        (lambda: Circle(n=2.5), "n=2.5: must be a whole number"),
        (lambda: Circle(n=True), "n=true: must be a whole number"),
        (lambda: Circle(n=10**12), "n=1000000000000: must be a whole number"),
        (lambda: Circle(radius=0), "radius=0: must be a number > 0"),
        (lambda: Circle(jitter=-1), "jitter=-1: must be a number >= 0"),
        (lambda: Square(jitter=math.nan), "jitter=nan: must be a number >= 0"),
        (lambda: Square(side="two"), "side=two: must be a number > 0"),
        (lambda: Dinohead(jitter=math.inf), "jitter=inf: must be a number >= 0"),
        (lambda: Gaussian1D(mean=None), "mean=null: must be a number"),
        (lambda: Gaussian1D(variance=0), "variance=0: must be a number > 0"),
        (lambda: TwoPoint(positions=[]), "positions=[]: must be a list, each a number"),
        (
            lambda: TwoPoint(weights=[1, 2, 3]),
            "weights=[1,2,3]: must be a list of 2, one number for each point",
        ),
        (lambda: TwoPoint(weights=[1, 0]), "weights=[1,0]: must be a list, each a number > 0"),
        (lambda: GaussianMixture(means=[[0, 1], [2]]), "means=[[0,1],[2]]: must be lists of the same length"),
        (lambda: GaussianMixture(means=3), "means=3: must be a list, each a list, each a number"),
        (lambda: GaussianMixture(sigma=0), "sigma=0: must be a number > 0"),
        (
            lambda: GaussianMixture(weights=[0.5]),
            "weights=[0.5]: must be a list of 2, one number for each point",
        ),
    ],
)
def test_bad_options_are_refused_by_key(build, message: str) -> None:
    assert message in refusal(build)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_draws_and_densities_live_on_the_device_of_the_generator() -> None:
    for dataset in (Circle(), Dinohead(jitter=0.1), GaussianMixture(), GaussianMixture(n=50)):
        x0, label, _ = dataset.draw(100, torch.Generator("cuda").manual_seed(0))
        mean = dataset.density.posterior_mean(x0, 0.8, 0.6, label)
        assert x0.is_cuda and mean.is_cuda and (label is None or label.is_cuda)
        on_cpu = dataset.density.posterior_mean(x0.cpu(), 0.8, 0.6, None if label is None else label.cpu())
        torch.testing.assert_close(mean.cpu(), on_cpu)
        assert torch.equal(dataset.draw(3, seeded()).x0, dataset.draw(3, seeded()).x0)
