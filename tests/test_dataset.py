"""What every dataset is, whatever its kind: the protocol, what is held out, and a description of every option."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.exact import ExactDataset, Gaussian1D, GaussianMixture, TwoPoint
from diffusion_cli.dataset.image_folder import ImageFolder
from diffusion_cli.dataset.mnist import Mnist
from diffusion_cli.dataset.plane import Circle, Dinohead, Ring, Square
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.dataset.point_sets import PointSets, SetDataset
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.dataset.standardized import in_standard_units
from diffusion_cli.dataset.stars import Stars
from diffusion_cli.errors import ArgumentError
from diffusion_cli.options import signature
from diffusion_cli.options.check import TARGET
from diffusion_cli.options.files import names_of, node_of, signature_of

CONFIGS = Path(__file__).parents[1] / "configs" / "dataset"
TARGETS = sorted(
    {found for file in CONFIGS.glob("*.yaml") for found in re.findall(r"_target_: (\S+)", file.read_text())}
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def point_cloud(folder):
    np.save(folder / "points.npy", np.arange(12.0).reshape(6, 2))
    return PointCloud(str(folder / "points.npy"))


def point_sets(folder):
    np.save(folder / "sets.npy", np.random.default_rng(0).standard_normal((8, 9, 2)))
    return PointSets(str(folder / "sets.npy"))


def image_folder(folder):
    for k in range(5):
        (folder / "images" / "cat").mkdir(parents=True, exist_ok=True)
        (folder / "images" / "dog").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / "images" / ("cat", "dog")[k % 2] / f"{k}.png")
    return ImageFolder(str(folder / "images"), image_size=4)


MADE = {
    "line": (lambda _: Gaussian1D(), "line", 0, None),
    "atoms": (lambda _: TwoPoint(labels=True), "line", 2, None),
    "circle": (lambda _: Circle(), "plane", 0, None),
    "frozen": (lambda _: Circle(n=20), "plane", 0, None),
    "square": (lambda _: Square(), "plane", 0, None),
    "dinohead": (lambda _: Dinohead(), "plane", 0, None),
    "mixture": (lambda _: GaussianMixture(), "plane", 2, None),
    "mixture in space": (lambda _: GaussianMixture(means=[[0, 0, 0], [1, 1, 1]]), "space", 2, None),
    "mixture beyond": (lambda _: GaussianMixture(means=[[0] * 5], weights=[1]), "space", 1, None),
    "points": (point_cloud, "plane", 0, None),
    "stars": (lambda _: Stars(n=9, test=3, size=32, points=8, sample_points=16), "sets", 0, 3),
    "sets": (point_sets, "sets", 0, 1),
    "digits": (lambda _: Mnist(source="bundled"), "images", 10, 500),
    "pictures": (image_folder, "images", 2, 1),
}


@pytest.fixture(params=MADE)
def case(request, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    make, *expected = MADE[request.param]
    return make(tmp_path), *expected


def test_kind_classes_and_shape_are_those_of_the_batches(case):
    data, kind, classes, _ = case
    assert data.kind == kind and data.num_classes == classes == len(data.class_names)
    assert all(isinstance(name, str) for name in data.class_names)
    x0, label, source = data.draw(64, seeded())
    assert x0.dtype == torch.float32 and (label is None) == (classes == 0)
    assert label is None or (label.dtype == torch.int64 and label.min() >= 0 and label.max() < classes)
    if kind == "sets":
        assert x0.shape[::2] == (64, 2) and source.shape[::2] == (64, 2) and source.shape[1] >= x0.shape[1]
    else:
        assert x0.shape == (64, *data.shape) and source is None
    assert {"line": (1,), "plane": (2,)}.get(kind, data.shape) == data.shape
    assert data.density is None or data.density.shape == data.shape


def test_held_out_data_look_like_the_data_and_distinct_ones_follow_from_the_seed(case):
    data, _, classes, count = case
    assert data.held_out.count == count
    x0, label, _ = data.held_out.draw(30, seeded())
    assert x0.dtype == torch.float32 and len(x0) == 30 and (label is None) == (classes == 0)
    assert torch.equal(x0, data.held_out.draw(30, seeded()).x0)
    n = count or 300
    many, few = data.held_out.distinct(n, 5), data.held_out.distinct(min(n, 7), 5)
    assert torch.equal(many.x0[: len(few.x0)], few.x0) and (many.label is None) == (classes == 0)
    assert many.label is None or torch.equal(many.label[: len(few.x0)], few.label)
    if count is not None:
        with pytest.raises(ArgumentError, match=f"n={count + 1}: must be at most {count}"):
            data.held_out.distinct(count + 1, 5)


def test_held_out_data_are_seen_by_no_training_step():
    frozen = Circle(n=20)
    rows = frozen.draw(500, seeded()).x0.unique(dim=0)
    fresh = frozen.held_out.draw(500, seeded()).x0
    assert len(rows) == 20 and torch.cdist(fresh, rows, compute_mode="donot_use_mm_for_euclid_dist").min() > 0
    torch.testing.assert_close(fresh.norm(dim=1), torch.ones(500))
    assert len(frozen.held_out.distinct(300, 0).x0.unique(dim=0)) == 300

    sets = SetDataset(torch.arange(6.0).view(6, 1, 1).expand(6, 4, 2).clone(), test=2)
    assert set(sets.draw(99, seeded()).x0.unique().tolist()) == {0, 1, 2, 3}
    assert set(sets.held_out.draw(99, seeded()).x0.unique().tolist()) == {4, 5}
    assert set(sets.held_out.distinct(2, 0).x0.unique().tolist()) == {4, 5}

    digits = Mnist(source="bundled", flip=True)
    known = {image.numpy().tobytes() for image in digits.test.images}
    drawn = ((digits.held_out.draw(50, seeded()).x0 + 1) * 127.5).round().byte()
    assert {image.numpy().tobytes() for image in drawn} <= known


def test_a_density_of_any_shape_has_its_kind():
    kinds = {(1,): "line", (2,): "plane", (3,): "space", (5, 2): "sets", (3, 4, 4): "images"}
    for shape, kind in kinds.items():
        assert ExactDataset(Points(torch.zeros(1, *shape))).kind == kind


def test_a_dataset_of_ones_own_says_kind_and_shape_and_draws():
    class Ones(Dataset):
        kind, shape, num_classes = "plane", (2,), 3

        def draw(self, n, generator):
            return Batch(torch.ones(n, 2), torch.zeros(n, dtype=torch.int64))

    data = Ones()
    assert data.density is None and data.fingerprint is None and data.class_names == ("0", "1", "2")
    assert data.held_out.count is None and data.held_out.distinct(300, 0).x0.shape == (300, 2)
    assert data.held_out.draw(5, seeded()).label.tolist() == [0] * 5


class Tall(Dataset):
    """Points, or sets of them, about (1000, -3) with spreads 50 and 100."""

    num_classes = 2

    def __init__(self, kind="plane", standardize=True):
        self.kind, self.standardize = kind, standardize
        self.shape = (2,) if kind == "plane" else (7, 2)

    def draw(self, n, generator):
        noise = torch.randn(n, *self.shape, generator=generator, device=generator.device)
        return Batch(
            torch.tensor([1000.0, -3.0]) + noise * torch.tensor([50.0, 100.0]),
            (noise.flatten(1)[:, 0] > 0).long(),
        )


@pytest.mark.parametrize("kind", ["plane", "sets"])
def test_a_dataset_of_ones_own_is_standardised(kind):
    theirs = Tall(kind)
    ours = in_standard_units(theirs)
    drawn = (ours.draw(4000, seeded()), ours.held_out.draw(4000, seeded()), ours.held_out.distinct(4000, 0))
    for x0, label, _ in drawn:
        flat = x0.flatten(0, -2)
        assert flat.mean(0).abs().max() < 0.05 and flat.std(0).square().mean() == pytest.approx(1, abs=0.05)
        assert flat.std(0)[1] / flat.std(0)[0] == pytest.approx(2, abs=0.1) and x0.dtype == torch.float32
        assert (
            (x0.flatten(1)[:, 0] + ours.units.centre[0] / ours.units.scale > 1000 / ours.units.scale)
            == label.bool()
        ).all()
    back, expected = ours.units.outward(drawn[0].x0), theirs.draw(4000, seeded()).x0
    torch.testing.assert_close(back, expected, atol=1e-3, rtol=0)
    assert ours.class_names == ("0", "1") and ours.box.low.max() < 0 < ours.box.high.min()


def test_standard_units_can_be_left_alone_and_do_not_touch_what_is_known(tmp_path):
    for data in (
        Tall(standardize=False),
        Circle(radius=50.0),
        point_cloud(tmp_path),
        Stars(n=9, test=3, size=8, points=8),
    ):
        assert in_standard_units(data) is data

    class Constant(Tall):
        value = 7.0

        def draw(self, n, generator):
            return Batch(torch.full((n, 2), self.value))

    for value, reason in ((7.0, "no spread"), (float("nan"), "not finite")):
        Constant.value = value
        with pytest.raises(ArgumentError, match=reason):
            in_standard_units(Constant())


def test_files_are_recognised_by_their_content(tmp_path):
    first = point_cloud(tmp_path).fingerprint
    np.save(tmp_path / "moved.npy", np.arange(12.0).reshape(6, 2))
    np.save(tmp_path / "other.npy", np.arange(1, 13.0).reshape(6, 2))
    assert PointCloud(str(tmp_path / "moved.npy")).fingerprint == first
    assert PointCloud(str(tmp_path / "other.npy")).fingerprint != first
    assert Circle().fingerprint is None and Stars(n=4, test=1, size=8, points=8).fingerprint is None


# options


@pytest.mark.parametrize("target", TARGETS)
def test_every_option_has_a_range_and_a_line_of_text(target):
    described = signature.read(target)
    assert described.title and described.arguments and not described.open
    for name, argument in described.arguments.items():
        assert argument.range is not None, f"{name}: no range"
        assert len(argument.text) > 10, f"{name}: no text"
        default = argument.default
        assert default == signature.MISSING or argument.range.accepts(default), f"{name}={default}"


def test_every_dataset_of_a_yaml_is_described():
    """Two options may build one class, as mnist and fashion_mnist do; none builds nothing."""
    assert {node_of("dataset", name)["_target_"] for name in names_of("dataset")} == {*TARGETS}


@pytest.mark.parametrize("name", names_of("dataset"))
def test_a_yaml_repeats_no_default_of_its_dataset(name):
    node, described = node_of("dataset", name), signature_of("dataset", name)
    assert not {
        key for key, value in node.items() if key != TARGET and value == described.arguments[key].default
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ring(0.0), "radius=0.0: must be a number > 0"),
        (lambda: Circle(radius="1"), "radius=1: must be a number > 0"),
        (lambda: TwoPoint(labels=1), "labels=1: must be one of the choices; choose from true, false"),
        (lambda: GaussianMixture(means=[[0, float("nan")]], weights=[1]), "means=[[0,nan]]: must be a list"),
        (lambda: Stars(seed=-1), "seed=-1: must be a whole number >= 0"),
        (lambda: Stars(n=2**20, size=2**20), "n=1048576: is too large"),
        (lambda: Mnist(root=3), "root=3: must be a name or a path, or null"),
        (lambda: ImageFolder(".", image_size=0), "image_size=0: must be a whole number in 1..4096"),
        (lambda: ImageFolder(".", channels=True), "channels=true: must be one of the choices"),
        (lambda: PointSets("~nobody/sets.npy"), "path=~nobody/sets.npy: no such file"),
        (lambda: PointCloud("x" * 10_000), "no such file"),
        (lambda: ImageFolder("x" * 10_000), "no such folder"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(make, message):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)
