"""Figures of sets: each panel carries its set, on common limits, and says what it does not show."""

import numpy as np
import pytest
import torch

from diffusion_cli.dataset.stars import Stars
from diffusion_cli.errors import UserError
from diffusion_cli.figures import sets
from diffusion_cli.figures.files import save
from diffusion_cli.figures.recipes import sets as gallery
from diffusion_cli.figures.style import BLUE, DOUBLE, GREY
from diffusion_cli.metrics.sets import chamfer
from diffusion_cli.prediction import Prediction
from diffusion_cli.sampler import DPMpp, chain
from diffusion_cli.schedule import loglinear


def clouds(n, points=20, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, points, 2))


def dots(ax):
    return np.asarray(ax.collections[-1].get_offsets())


def color(ax):
    return ax.collections[-1].get_facecolor()[0, :3]


def rgb(name):
    return [int(name[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_grid_has_a_panel_for_each_set_in_order_on_common_limits():
    x = clouds(7)
    figure = sets.grid(x, columns=4)
    assert len(figure.axes) == 7 and figure.get_figwidth() <= DOUBLE + 1e-9
    for ax, one in zip(figure.axes, x, strict=True):
        np.testing.assert_allclose(dots(ax), one)
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    assert (
        figure.axes[0].get_subplotspec().colspan.start == 0
        and figure.axes[5].get_subplotspec().rowspan.start == 1
    )


def test_limits_are_those_of_the_truth_and_strays_are_counted():
    x = clouds(2)
    x[1, :3] = 50
    figure = sets.grid(x, truth=clouds(4, seed=1))
    assert max(figure.axes[0].get_xlim()) < 1.3
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "3 outside"]


def test_sets_of_unequal_size_and_a_title():
    figure = sets.grid([clouds(1, 5)[0], clouds(1, 9)[0]], title="a $ b")
    assert [len(dots(ax)) for ax in figure.axes] == [5, 9]
    assert figure._suptitle.get_text() == "a $ b"


def test_generated_sets_stand_beside_their_neighbours():
    ours, data = clouds(3), clouds(6, seed=1)
    figure = sets.beside_nearest(
        ours, data.reshape(3, 2, 20, 2), [[0.1, 0.25], [0.3, 0.4], [0.5, 0.6]], pairs_in_row=2
    )
    assert len(figure.axes) == 9
    first = figure.axes[:3]
    assert [ax.get_title() for ax in first] == ["generated", "0.1", "0.25"]
    np.testing.assert_allclose(dots(first[2]), data[1])
    np.testing.assert_allclose(color(first[0]), rgb(BLUE))
    np.testing.assert_allclose(color(first[1]), rgb(GREY))


def test_strips_have_titles_above_their_first_row():
    rows = clouds(6).reshape(2, 3, 20, 2)
    figure = sets.strip(rows, [50, 12.345, 0], clouds(2, seed=1))
    assert [ax.get_title() for ax in figure.axes] == ["t = 50", "t = 12.3", "t = 0", "", "", ""]
    assert [ax.get_title() for ax in sets.stages(rows, [0, 1000, 20000]).axes[:3]] == [
        "step 0", "step 1,000", "step 20,000"]  # fmt: skip


@pytest.mark.parametrize(
    "draw",
    [
        lambda: sets.grid([]),
        lambda: sets.strip(clouds(4).reshape(2, 2, 20, 2), [1, 2, 3]),
        lambda: sets.stages(clouds(4).reshape(2, 2, 20, 2), [1]),
        lambda: sets.beside_nearest(clouds(2), [clouds(1)], [[0.1]]),
        lambda: sets.grid(np.zeros((2, 5, 3))),
    ],
)
def test_what_does_not_fit_is_refused(draw):
    with pytest.raises(ValueError):
        draw()


class Origin:
    """A denoiser that sees the origin everywhere."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x_t, t, label=None):
        return Prediction.from_x0(torch.zeros_like(x_t), x_t, self.schedule.level(t, like=x_t))


class World:
    """As much of an experiment as the gallery looks at: stars, and a denoiser."""

    def __init__(self, dataset):
        self.dataset, self.seed, self.run, self.config = dataset, 0, None, {}
        self.schedule = loglinear(T=10)
        self.denoiser = Origin(self.schedule)

    def labels(self, n, seed, asked=None):
        return None

    def walk(self, denoiser, n, seed, label=None):
        return chain(DPMpp(steps=5), denoiser, n, self.dataset.shape, seed, label)

    @property
    def samples(self):
        return self.dataset.test[:, :64].numpy(), None


@pytest.fixture
def world():
    return World(Stars(n=24, test=8, size=96, points=32, sample_points=64))


def test_gallery_draws_every_figure_of_a_set_dataset(world, tmp_path):
    figures = {
        "data": (gallery.data(world, n=6, columns=3), 6),
        "samples": (gallery.samples(world, n=5, columns=4), 5),
        "nearest": (gallery.nearest(world, n=4, neighbours=2, pairs_in_row=2), 12),
        "forward": (gallery.forward_strip(world, n=2, percents=[0, 50, 100]), 6),
        "reverse": (gallery.reverse_strip(world, n=2, columns=4), 8),
    }
    for name, (figure, panels) in figures.items():
        assert len(figure.axes) == panels, name
    assert save(figures["nearest"][0], tmp_path / "nearest.png").stat().st_size > 1000
    np.testing.assert_allclose(dots(figures["forward"][0].axes[0]), world.dataset.train[0, :64])
    assert np.abs(dots(figures["reverse"][0].axes[3])).max() < 1e-6  # x_0, where the denoiser says it is


def test_neighbours_are_the_nearest_training_sets(world):
    figure = gallery.nearest(world, n=3, neighbours=1, pairs_in_row=3)
    truth = world.dataset.train[:, :64].numpy()
    distance = chamfer(world.dataset.test[:3, :64].numpy(), truth)
    for i, row in enumerate(distance):
        np.testing.assert_allclose(dots(figure.axes[2 * i + 1]), truth[row.argmin()])
        assert figure.axes[2 * i + 1].get_title() == f"{row.min():.3g}"


def test_stages_come_from_the_run(world):
    with pytest.raises(UserError, match="needs a trained run"):
        gallery.stages(world, n=2, columns=3)
    kept = {step: clouds(4, 64, seed=step) for step in range(0, 5000, 1000)}
    world.run = type("Run", (), {"stages": lambda self: kept})()
    figure = gallery.stages(world, n=2, columns=3)
    assert [ax.get_title() for ax in figure.axes[:3]] == ["step 0", "step 2,000", "step 4,000"]
    np.testing.assert_allclose(dots(figure.axes[4]), kept[2000][1])
    world.run = type("Run", (), {"stages": lambda self: {}})()
    assert gallery.stages(world, n=2, columns=3) is None


def test_other_datasets_are_refused_in_one_line():
    plain = World(type("Plain", (), {"shape": (2,)})())
    with pytest.raises(UserError, match="figure=sets: draws sets"):
        gallery.samples(plain, n=4, columns=2)
