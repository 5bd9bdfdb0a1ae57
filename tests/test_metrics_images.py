"""Distances between images against closed forms, other implementations and cases known by hand."""

import hashlib

import pytest
import torch
from scipy import linalg

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics.evaluation import ImageEvaluation
from diffusion_cli.metrics.image_report import RealImages, evaluate_images, images_table
from diffusion_cli.metrics.images import (
    Manifold,
    Moments,
    frechet,
    kernel_distance,
    mean_kernel,
    precision_recall,
)
from diffusion_cli.metrics.protocol import EvaluationInput
from diffusion_cli.schedule import linear


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(n, d, seed=0, shift=0.0):
    """Correlated, clipped ones, as a network's are."""
    return (normal(n, d, seed=seed) @ normal(d, d, seed=99) / d**0.5).relu() + shift


def test_frechet_of_gaussians_in_closed_form():
    """Commuting covariances: |m|^2 + sum (s_i - r_i)^2 over the standard deviations along the common axes."""
    axes, _ = torch.linalg.qr(normal(6, 6))
    s, r, m = normal(6, seed=1).abs(), normal(6, seed=2).abs(), normal(6, seed=3)
    a = Moments(torch.zeros(6).double(), axes @ (s**2).diag() @ axes.T)
    b = Moments(m, axes @ (r**2).diag() @ axes.T)
    assert frechet(a, b) == pytest.approx(float((m**2).sum() + ((s - r) ** 2).sum()), rel=1e-10)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-10)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(300, 40), (30, 40)])
def test_frechet_against_scipy_and_torchmetrics(n, d):
    """Also with fewer samples than features, where their matrices are singular and they are good to half the digits."""
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = Moments.of(features(n, d)), Moments.of(features(n, d, seed=5, shift=0.1))
    root = linalg.sqrtm((a.cov @ b.cov).numpy())
    expected = float((a.mean - b.mean).square().sum() + (a.cov + b.cov).trace()) - 2 * root.trace().real
    within = 1e-10 if n > d else 1e-5
    assert frechet(a, b) == pytest.approx(expected, rel=within)
    assert frechet(a, b) == pytest.approx(float(fid._compute_fid(a.mean, a.cov, b.mean, b.cov)), rel=within)


def test_frechet_knows_no_order_and_no_axes():
    x, y = features(50, 8), features(60, 8, seed=4, shift=0.2)
    axes, _ = torch.linalg.qr(normal(8, 8, seed=7))
    value = frechet(Moments.of(x), Moments.of(y))
    assert frechet(Moments.of(x.flip(0) @ axes), Moments.of(y @ axes)) == pytest.approx(value, rel=1e-9)


def test_kernel_distance_against_torchmetrics_and_by_hand():
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = features(40, 6), features(40, 6, seed=4, shift=0.2)
    assert kernel_distance(x, y) == pytest.approx(float(kid.poly_mmd(x, y)), rel=1e-10)
    assert kernel_distance(x, y, mean_kernel(y)) == kernel_distance(x, y)
    # One feature, k(a, b) = (ab + 1)^3: mean of k(0,1), k(0,1); of k(1,2) twice; and of the four pairs across.
    x, y = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[1.0], [2.0]]).double()
    assert kernel_distance(x, y) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kernel_distance_is_unbiased_and_works_in_chunks(monkeypatch):
    draws = [kernel_distance(normal(20, 3, seed=k), normal(30, 3, seed=1000 + k)) for k in range(400)]
    mean = sum(draws) / len(draws)
    error = (sum((d - mean) ** 2 for d in draws) / len(draws) / len(draws)) ** 0.5
    assert abs(mean) < 4 * error and min(draws) < 0
    x, y = features(25, 6), features(17, 6, seed=1)
    value = kernel_distance(x, y)
    monkeypatch.setattr("diffusion_cli.metrics.images.CHUNK", 4)
    assert kernel_distance(x, y) == pytest.approx(value, rel=1e-12)


def test_precision_and_recall_by_hand(monkeypatch):
    """Reals at 0, 1, 2 on a line, each with its neighbour 1 away: their manifold is [-1, 3]."""
    real = Manifold(torch.tensor([[0.0], [1.0], [2.0]]).double(), 1)
    assert real.radius.tolist() == [1, 1, 1]
    ours = Manifold(
        torch.tensor([[2.5], [2.75], [9.0], [9.25]]).double(), 1
    )  # balls of 1/4: [2.25, 3] and [8.75, 9.5]
    assert precision_recall(real, ours) == (0.5, 0.0)
    wide = Manifold(
        torch.tensor([[-5.0], [1.0]]).double(), 1
    )  # balls of 6: all reals lie within, half of ours does
    assert precision_recall(real, wide) == (0.5, 1.0)
    same = features(50, 4)
    assert precision_recall(Manifold(same, 3), Manifold(same.flip(0), 3)) == (1.0, 1.0)
    whole = Manifold(same, 3)
    monkeypatch.setattr("diffusion_cli.metrics.images.CHUNK", 7)
    torch.testing.assert_close(Manifold(same, 3).radius, whole.radius, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="neighbours"):
        Manifold(same[:3], 3)


class Pixels:
    """Sees the pixels themselves, and reads a label from the first."""

    name, task, accuracy, digest = "pixels", "labels", 1.0, "abc" * 20

    def features(self, x):
        return x.flatten(1)

    def to(self, device):
        return self

    def head(self, features):
        return torch.stack((-features[:, 0], features[:, 0]), 1)


def digits(n, seed):
    """Noise of 2 x 2 pixels whose first is dark for label 0 and light for label 1."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (n,), generator=g)
    images = torch.randint(0, 100, (n, 1, 2, 2), generator=g, dtype=torch.uint8)
    images[:, 0, 0, 0] += (140 * label).byte()
    return Split(images, label)


@pytest.fixture(scope="module")
def data():
    return ImageDataset(digits(200, 0), digits(90, 1), "01", digest="two by two")


def test_report_of_true_images_is_at_the_floor(data):
    real = RealImages(Pixels(), data, n=60, floor_draws=8, neighbours=3)
    assert len(real.floor) == 3  # disjoint sets of 60 in 200
    fresh = [digits(60, seed).batch(slice(None)) for seed in (5, 6, 7, 8)]
    report = evaluate_images(fresh.__getitem__, real, draws=4)
    for name in ("frechet", "precision", "recall"):
        assert 0.5 < report[name]["ratio"] < 2, name
    assert abs(report["kernel"]["value"]) < 0.02 and report["kernel"]["ratio"] is None
    assert report["accuracy"]["value"] == report["accuracy"]["floor"] == 1.0
    about = {
        "n": 60,
        "draws": 4,
        "floor_draws": 3,
        "split": "test",
        "against": 90,
        "extractor": "abcabcabcabcabca",
    }
    assert about.items() <= report["frechet"].items()
    table = images_table(report)
    assert all(
        word in table
        for word in (
            "Fréchet",
            "60 images against the 90",
            "3 times 60 images of the train split",
            "pixels abcabcabcabcabca",
        )
    )


def test_training_images_as_the_reference_are_the_two_parts_changed_over(data):
    other = ImageDataset(data.test, data.train, "01", digest="the other way")
    ours = RealImages(Pixels(), data, 40, 2, 3, reference="train")
    theirs = RealImages(Pixels(), other, 40, 2, 3)
    x = digits(40, 5).batch(slice(None)).x0.flatten(1).double()
    assert ours.compare(x) == theirs.compare(x) and ours.floor == theirs.floor
    report = evaluate_images(lambda k: digits(40, 5).batch(slice(None)), ours, draws=1)
    assert (report["frechet"]["split"], report["frechet"]["against"]) == ("train", 200)
    table = images_table(report)
    assert "against the 200 of the train split" in table and "2 times 40 images of the test split" in table


def test_report_sees_what_is_wrong(data):
    real = RealImages(Pixels(), data, n=60, floor_draws=3, neighbours=3)

    def measured(batch):
        return evaluate_images(lambda k: batch, real, draws=1)

    good = digits(60, 5).batch(slice(None))
    swapped = measured(good._replace(label=1 - good.label))
    assert swapped["accuracy"]["value"] == 0 and swapped["accuracy"]["spread"] is None
    assert measured(good._replace(x0=good.x0 + 3))["frechet"]["ratio"] > 50
    one = measured(good._replace(x0=good.x0[:1].repeat(60, 1, 1, 1) + 1e-3 * torch.rand(60, 1, 2, 2)))
    assert one["precision"]["value"] == 1 and one["recall"]["value"] < 0.1  # a single image again and again
    assert "accuracy" not in measured(Batch(good.x0, None))


def given(dataset):
    return EvaluationInput(dataset, linear(10))


def test_evaluation_of_images_names_what_is_wrong(monkeypatch, tmp_path):
    from diffusion_cli.dataset.plane import Circle

    with pytest.raises(ArgumentError, match="images are compared with images"):
        ImageEvaluation()(given(Circle()))
    few = ImageDataset(digits(4, 0), digits(3, 1), "01")
    assert ImageEvaluation()(given(few))["unmeasured"].startswith("3 held-out images of 7, 4 trained on")
    with pytest.raises(ArgumentError, match="extractor=judg: must be one of the choices; did you mean judge"):
        ImageEvaluation(extractor="judg")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match="needs the package torch-fidelity"):
        ImageEvaluation(extractor="inception")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    served = {"content": b"not the weights"}
    monkeypatch.setattr(
        "diffusion_cli.dataset.download._retrieve", lambda url, file: file.write_bytes(served["content"])
    )
    with pytest.raises(
        ArgumentError, match=r"are not here and cannot be fetched \(.*wrong checksum.*6726825d.pth at"
    ):
        ImageEvaluation(extractor="inception")
    assert not list(tmp_path.rglob("*.pth"))
    # by its checksum the right file is known
    served["content"] = b"right"
    name = f"weights-{hashlib.sha256(b'right').hexdigest()[:8]}.pth"
    monkeypatch.setattr("diffusion_cli.metrics.inception.WEIGHTS", name)
    ImageEvaluation(extractor="inception")
    assert (tmp_path / "checkpoints" / name).read_bytes() == b"right"
    monkeypatch.setattr(
        "diffusion_cli.metrics.inception.WEIGHTS", "weights-inception-2015-12-05-6726825d.pth"
    )
    (tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth").write_bytes(b"not the weights")
    evaluation = ImageEvaluation(extractor="inception", n=20)
    with pytest.raises(ArgumentError, match="wrong checksum"):
        evaluation(given(ImageDataset(digits(40, 0), digits(30, 1), "01")))
