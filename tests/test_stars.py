"""Sets of points as data: stars as described, a user's own files, and what is refused."""

import math

import numpy as np
import pytest
import torch

from diffusion_cli.dataset.point_sets import PointSets, SetDataset, rotated
from diffusion_cli.dataset.star_family import StarFamily, draw_stars
from diffusion_cli.dataset.stars import Stars
from diffusion_cli.errors import ArgumentError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_star(arms, ratio=0.5, radius=1.0, size=20_000, jitter=0.0):
    family = StarFamily((arms, arms), (ratio, ratio), (radius, radius))
    return draw_stars(family, 1, size, jitter, seeded())[0]


# stars


def test_default_stars_have_the_promised_sizes_and_do_not_depend_on_global_state():
    torch.manual_seed(1)
    first = Stars(n=40, test=8)
    torch.manual_seed(2)
    second = Stars(n=40, test=8)
    assert first.train.shape == (32, 1024, 2) and first.test.shape == (8, 1024, 2)
    assert first.train.dtype == torch.float32
    assert torch.equal(first.train, second.train) and torch.equal(first.test, second.test)
    assert not torch.equal(Stars(n=40, test=8, seed=1).test, first.test)
    assert first.shape == (512, 2) and first.num_classes == 0 and first.density is None


def test_radii_lie_between_notch_and_tip():
    distance = one_star(5, ratio=0.4, radius=1.1).norm(dim=1)
    assert distance.max() == pytest.approx(1.1, abs=2e-3)
    assert distance.min() == pytest.approx(0.44, abs=2e-3)


@pytest.mark.parametrize("arms", [4, 5, 6, 7])
def test_a_star_is_symmetric_under_its_own_rotations_only(arms):
    # E exp(i k angle) vanishes unless k is a multiple of the number of arms.
    angle = torch.atan2(*one_star(arms).T.flip(0))
    moments = [abs(torch.exp(1j * k * angle).mean()) for k in range(1, arms + 1)]
    assert max(moments[:-1]) < 0.02 < 0.2 < moments[-1]


def test_points_are_uniform_by_arc_length():
    # The fraction of points within 0.1 of a tip: two edges of length l meet there, 2 arms edges in all.
    x = one_star(5, ratio=0.5)
    length = math.dist((1, 0), (0.5 * math.cos(math.pi / 5), 0.5 * math.sin(math.pi / 5)))
    tip = x[x.norm(dim=1).argmax()]
    near = (torch.linalg.vector_norm(x - tip, dim=1) < 0.1).double().mean()
    assert near == pytest.approx(0.2 / (10 * length), rel=0.1)


def test_parameters_vary_over_their_ranges():
    sets = draw_stars(StarFamily(), 400, 400, 0.0, seeded())
    tip = sets.norm(dim=2).amax(1)
    ratio = sets.norm(dim=2).amin(1) / tip
    assert 0.78 < tip.min() < 0.83 and 1.15 < tip.max() < 1.2001
    assert 0.34 < ratio.min() < 0.39 and 0.62 < ratio.max() < 0.67


def test_jitter_is_relative_to_the_radius():
    family = StarFamily((4, 4), (0.5, 0.5), (2.0, 2.0))
    smooth, rough = (draw_stars(family, 1, 20_000, jitter, seeded()) for jitter in (0.0, 0.01))
    assert (rough - smooth).std() == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"n": 1}, "n"),
        ({"n": 8, "test": 8}, "test"),
        ({"n": 8, "test": 0}, "test"),
        ({"size": 0}, "size"),
        ({"arms": [7, 4]}, "arms"),
        ({"arms": [1, 4]}, "arms"),
        ({"arms": [4.5, 7]}, "arms"),
        ({"ratio": [0, 0.5]}, "ratio"),
        ({"ratio": 0.5}, "ratio"),
        ({"radius": [1.2, 0.8]}, "radius"),
        ({"jitter": -0.1}, "jitter"),
        ({"points": 2000}, "points"),
        ({"points": [256, 96]}, "points"),
        ({"points": "many"}, "points"),
        ({"sample_points": 0}, "sample_points"),
        ({"rotate": "yes"}, "rotate"),
    ],
)
def test_bad_options_of_stars_name_their_key(options, key):
    with pytest.raises(ArgumentError) as caught:
        Stars(**({"n": 16, "test": 4} | options))
    assert caught.value.argument == key


# batches


def test_batches_are_subsets_of_training_sets_without_repetition():
    sets = torch.arange(6 * 50 * 2, dtype=torch.float32).view(6, 50, 2)
    data = SetDataset(sets, test=2, points=[5, 20])
    sizes = set()
    for seed in range(60):
        x0, label, source = data.draw(3, seeded(seed))
        assert label is None and source.shape == (3, 50, 2) and x0.shape[0] == 3 and x0.shape[2] == 2
        sizes.add(x0.shape[1])
        for one in x0:
            owner = int(one[0, 0]) // 100
            assert owner < 4, "a held-out set"
            members = {tuple(point) for point in sets[owner].tolist()}
            drawn = {tuple(point) for point in one.tolist()}
            assert drawn <= members and len(drawn) == len(one)
    assert sizes == set(range(5, 21))
    assert torch.equal(data.draw(3, seeded(7)).x0, data.draw(3, seeded(7)).x0)


def test_null_shows_all_points_and_a_number_so_many():
    sets = torch.rand(4, 30, 2)
    assert SetDataset(sets, test=1).draw(2, seeded()).x0.shape == (2, 30, 2)
    assert SetDataset(sets, test=1, points=7).draw(2, seeded()).x0.shape == (2, 7, 2)
    assert SetDataset(sets, test=1).shape == (30, 2)
    assert SetDataset(sets, test=1, sample_points=99).shape == (99, 2)


def test_rotation_turns_anticlockwise_and_augments_training_sets():
    turned = rotated(torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([math.pi / 2, math.pi]))
    torch.testing.assert_close(turned, torch.tensor([[[0.0, 1.0]], [[0.0, -2.0]]]), atol=1e-6, rtol=0)
    data = SetDataset(torch.tensor([1.0, 0.0]).expand(4, 1, 2).clone(), test=1, rotate=True)
    x = data.draw(2000, seeded()).x0[:, 0]
    torch.testing.assert_close(x.norm(dim=1), torch.ones(2000))
    assert x.mean(0).abs().max() < 0.06


def test_a_set_of_one_point_is_a_set():
    data = SetDataset(torch.rand(4, 1, 2), test=1, points=1, rotate=True)
    assert data.draw(5, seeded()).x0.shape == (5, 1, 2) and data.shape == (1, 2)


# a user's own sets


def saved(folder, array, name="sets.npy"):
    path = folder / name
    if name.endswith(".npz"):
        np.savez(path, sets=array)
    else:
        np.save(path, array, allow_pickle=array.dtype == object)
    return str(path)


@pytest.mark.parametrize("name", ["sets.npy", "sets.npz"])
def test_point_sets_come_from_a_file_and_are_split_by_seed(tmp_path, name):
    array = np.random.default_rng(0).standard_normal((16, 9, 2))
    path = saved(tmp_path, array, name)
    data = PointSets(path, standardize=False)
    assert data.train.shape == (14, 9, 2) and data.test.shape == (2, 9, 2) and data.shape == (9, 2)
    rows = {one.tobytes() for one in array.astype(np.float32)}
    assert {one.numpy().tobytes() for one in torch.cat((data.train, data.test))} == rows
    assert torch.equal(data.test, PointSets(path, standardize=False).test)
    assert not torch.equal(data.train, PointSets(path, seed=1).train)
    assert PointSets(path, test=5).test.shape[0] == 5


def test_integers_are_numbers_too(tmp_path):
    assert PointSets(saved(tmp_path, np.arange(40).reshape(5, 4, 2) % 7)).train.dtype == torch.float32


def ragged():
    return np.array([np.zeros((3, 2)), np.zeros((4, 2))], dtype=object)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 5, 2)), "shape (0, 5, 2)"),
        (np.zeros((5, 0, 2)), "shape (5, 0, 2)"),
        (np.zeros((5, 2)), "shape (5, 2)"),
        (np.zeros((5, 4, 4)), "shape (5, 4, 4)"),
        (np.zeros((1, 4, 2)), "one set"),
        (np.array([[[0.0, np.nan]], [[0.0, 0.0]]]), "not finite, in 1 of 2 sets"),
        (np.array([[[0.0, np.inf]], [[0.0, 0.0]]]), "not finite"),
        (np.zeros((2, 2, 2), dtype=complex), "not real numbers"),
        (ragged(), "ragged"),
    ],
)
@pytest.mark.parametrize("name", ["sets.npy", "sets.npz"])
def test_bad_arrays_are_refused_in_one_line(tmp_path, array, words, name):
    path = saved(tmp_path, array, name)
    with pytest.raises(ArgumentError) as caught:
        PointSets(path)
    assert caught.value.argument == "path" and words in str(caught.value)


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "text.npy").write_text("1,2\n")
    (tmp_path / "text.npz").write_text("1,2\n")
    (tmp_path / "sets.csv").write_text("1,2\n")
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2, 2)), b=np.zeros((2, 2, 2)))
    for name in ("text.npy", "text.npz", "sets.csv", "two.npz", "absent.npy"):
        with pytest.raises(ArgumentError) as caught:
            PointSets(str(tmp_path / name))
        assert caught.value.argument == "path"
    with pytest.raises(ArgumentError):
        PointSets(None)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.save(tmp_path / "trap.npy", np.array([Trap(), Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(ArgumentError, match="ragged"):
        PointSets(str(tmp_path / "trap.npy"))


def test_data_of_any_scale_are_standard_inside_the_run_and_come_back(tmp_path):
    array = 300 + 1000 * np.random.default_rng(0).standard_normal((8, 9, 2))
    data = PointSets(saved(tmp_path, array))
    every = torch.cat((data.train, data.test))
    assert float(every.std()) == pytest.approx(1, abs=0.02) and float(every.mean()) == pytest.approx(
        0, abs=1e-3
    )
    back = {tuple(np.round(one, 1).ravel()) for one in data.units.array(every)}
    assert back == {tuple(one) for one in array.astype(np.float32).round(1).reshape(8, -1)}


def test_bad_splits_name_their_key(tmp_path):
    path = saved(tmp_path, np.random.default_rng(0).standard_normal((4, 9, 2)))
    for test in (0, 4, 1.5, 0.0, -0.5, True, "half"):
        with pytest.raises(ArgumentError) as caught:
            PointSets(path, test=test)
        assert caught.value.argument == "test"
