"""Pictures of images: pixel for pixel what they were given, in the right place, under the right name."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.completions import Completions
from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.stars import Stars
from diffusion_cli.errors import UserError
from diffusion_cli.figures import images
from diffusion_cli.figures.files import save
from diffusion_cli.figures.recipes import images as gallery
from diffusion_cli.figures.recipes import inpainting
from diffusion_cli.figures.style import DOUBLE
from diffusion_cli.noise import NoiseStream
from diffusion_cli.prediction import Prediction
from diffusion_cli.sampler import DPMpp, chain
from diffusion_cli.schedule import loglinear

BLUE = (0x56, 0xB4, 0xE9)


def pictures(n, channels=1, height=7, width=5, seed=0):
    """Random images, a bit beyond [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (n, channels, height, width))


def as_bytes(image):
    """(H, W, 3) of an image (C, H, W)."""
    grey = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.broadcast_to(grey, (3, *grey.shape[1:])).transpose(1, 2, 0)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def panel(figure, row, column, place, shape):
    """What a page shows at a place, as bytes (H, W, 3); its pixels must be squares of one colour."""
    page = np.asarray(figure.axes[0].get_images()[0].get_array())
    (height, width), top, left = place.panel, place.tops[row], place.lefts[column]
    zoom = height // shape[0]
    blocks = page[top : top + height, left : left + width].reshape(shape[0], zoom, shape[1], zoom, 3)
    assert height == zoom * shape[0] and width == zoom * shape[1]
    assert (blocks == blocks[:, :1, :, :1]).all()
    return blocks[:, 0, :, 0]


def shows(figure, rows, titled, shape, longest=0, narrow=None):
    """Asserts that the panels of a page are these images, None for an empty place."""
    place = images.layout(shape, max(map(len, rows)), titled, longest, narrow)
    assert (place.height, place.width) == figure.axes[0].get_images()[0].get_array().shape[:2]
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            if image is not None:
                np.testing.assert_array_equal(panel(figure, r, c, place, shape), as_bytes(image))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_image_in_its_place(channels):
    x = pictures(7, channels)
    shows(images.grid(x, columns=3), [x[:3], x[3:6], x[6:]], [False] * 3, (7, 5))


def test_the_file_has_the_very_pixels(tmp_path):
    """Nothing between the array and the PNG smooths, shifts or rescales."""
    figure = images.grid(pictures(12, 3), columns=4)
    file = np.asarray(Image.open(save(figure, tmp_path / "grid.png")).convert("RGB"))
    np.testing.assert_array_equal(file, figure.axes[0].get_images()[0].get_array())
    assert figure.get_figwidth() <= DOUBLE + 0.01
    assert save(figure, tmp_path / "grid.pdf").stat().st_size > 1000


def test_64_digits_with_labels_are_readable():
    names = [str(k % 10) for k in range(64)]
    figure = images.grid(pictures(64, 1, 28, 28), names)
    assert texts(figure) == names
    place = images.layout((28, 28), 8, [True] * 8)
    assert place.panel[0] / 200 > 0.5 and place.width <= DOUBLE * 200  # more than half an inch each
    shows(figure, np.split(pictures(64, 1, 28, 28), 8), [True] * 8, (28, 28))


def test_text_is_no_mathematics():
    figure = images.grid(pictures(2), ["a $ b_", "$\\frac$"])
    assert texts(figure) == ["a $ b_", "$\\frac$"]
    figure.canvas.draw()  # mathtext would raise here


def test_what_is_not_a_number_is_blue():
    x = pictures(1)
    x[0, 0, 2, 3] = np.nan
    shown = panel(images.grid(x), 0, 0, images.layout((7, 5), 1, [False]), (7, 5))
    assert tuple(shown[2, 3]) == BLUE
    seen = ~np.isnan(x[0, 0])
    np.testing.assert_array_equal(shown[seen], as_bytes(np.nan_to_num(x[0]))[seen])


def test_large_images_are_averaged_over_blocks():
    x = np.zeros((1, 3, 512, 384))
    x[0, :, ::2] = 1
    figure = images.grid(np.repeat(x, 8, 0))
    page = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert page.shape[1] <= DOUBLE * 200
    place = images.layout((512, 384), 8, [False])
    assert place.panel[0] * 3 == pytest.approx(place.panel[1] * 4, abs=4)
    inside = page[
        place.tops[0] + 5 : place.tops[0] + place.panel[0] - 5, place.lefts[3] : place.lefts[4] - images.GAP
    ]
    assert abs(inside.astype(int) - 191).max() <= 22  # 3 or 4 rows to a block


def test_strips_have_titles_above_their_columns_and_names_beside_their_rows():
    x = pictures(6).reshape(2, 3, 1, 7, 5)
    figure = images.strip(x, ["t = 2", "t = 1", "t = 0"], ["x_t", "predicted"])
    assert sorted(texts(figure)) == ["predicted", "t = 0", "t = 1", "t = 2", "x_t"]
    shows(figure, x, [True, False], (7, 5), longest=9)


def test_two_grids_beside_each_other_may_end_in_mid_row():
    a, b = pictures(5), pictures(5, seed=1)
    figure = images.beside(a, b, ("noise", "samples"), columns=3)
    rows = [[*a[:3], None, *b[:3]], [*a[3:], None, None, *b[3:]]]
    assert texts(figure) == ["noise", "samples"]
    shows(figure, [rows[0], [a[3], a[4], None, None, b[3], b[4], None]], [True, False], (7, 5), narrow=3)


def test_no_text_is_cut_off_or_runs_into_another():
    names = ["aeroplane", "automobile", "bird", "cat"]
    for figure in (
        images.grid(pictures(16, 3, 32, 32), names * 4),
        images.strip(
            pictures(32, 3, 32, 32).reshape(4, 8, 3, 32, 32), [f"step {k}0,000" for k in range(8)], names
        ),
    ):
        figure.canvas.draw()
        boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text()]
        page = figure.bbox
        assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: images.grid([]),
        lambda: images.grid(np.zeros((2, 7, 5))),
        lambda: images.grid(np.zeros((2, 2, 7, 5))),
        lambda: images.grid([np.zeros((1, 2, 2)), np.zeros((1, 2, 3))]),
        lambda: images.grid(pictures(2), ["one"]),
        lambda: images.strip(pictures(4).reshape(2, 2, 1, 7, 5), ["one"]),
        lambda: images.beside(pictures(2), pictures(3), ("a", "b")),
        lambda: images.inpainting(pictures(2), pictures(2), pictures(3)),
    ],
)
def test_what_does_not_fit_is_refused(draw):
    with pytest.raises(ValueError):
        draw()


class Grey:
    """A denoiser that sees one grey everywhere."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x_t, t, label=None):
        return Prediction.from_x0(0 * x_t + 0.5, x_t, self.schedule.level(t, like=x_t))


class World:
    """As much of an experiment as the gallery looks at."""

    def __init__(self, dataset, **config):
        self.dataset, self.seed, self.run, self.device = dataset, 5, None, torch.device("cpu")
        self.config = {
            "label": None,
            "inpaint": "left_half",
            "completions": 3,
            "n": 12,
            "sample_batch": 5,
        } | config
        self.config["repaint"] = {"passes": 2, "jump": 1, "between": None, "guidance": 1.0}
        self.schedule, self.sampler = loglinear(T=10), DPMpp(steps=5)
        self.denoiser = Grey(self.schedule)

    def labels(self, n, seed, asked=None):
        return torch.arange(n) % self.dataset.num_classes if self.dataset.num_classes else None

    def walk(self, denoiser, n, seed, label=None):
        return chain(self.sampler, denoiser, n, self.dataset.shape, seed, label)

    @property
    def samples(self):
        return np.full((12, *self.dataset.shape), 0.5, np.float32), np.arange(12) % 3


def dataset(channels=1, labels=True):
    data = np.random.default_rng(0).integers(0, 256, (30, channels, 6, 6), dtype=np.uint8)
    label = torch.arange(30) % 3
    train, test = (Split(torch.from_numpy(data[rows]), label[rows]) for rows in (slice(0, 20), slice(20, 30)))
    return ImageDataset(train, test, ("cat", "dog", "$"), labels=labels)


@pytest.mark.parametrize(("channels", "labels"), [(1, True), (3, False)])
def test_gallery_draws_every_figure_of_an_image_dataset(channels, labels, tmp_path):
    world = World(dataset(channels, labels))
    world.run = SimpleNamespace(stages=lambda: {k: pictures(4, channels, 6, 6) for k in range(0, 5000, 500)})
    figures = [
        gallery.data(world, n=12, columns=4),
        gallery.samples(world, n=8, columns=4),
        gallery.noise(world, n=9, columns=3),
        gallery.stages(world, n=3, columns=4),
        gallery.forward_strip(world, n=2, percents=[0, 25, 99]),
        gallery.reverse_strip(world, n=2, percents=[99, 50, 0]),
        gallery.trajectory(world, sample=1, columns=4),
        gallery.steps_study(world, n=4, steps=[2, 5], samplers=["dpmpp", "heun"]),
        inpainting.inpainting(world, n=4),
    ]
    for k, figure in enumerate(figures):
        assert save(figure, tmp_path / f"{k}.png").stat().st_size > 500, k


def test_strips_show_the_same_images_forward_and_back():
    world = World(dataset())
    forward, back = gallery.forward_strip(world, 2, [0, 50, 99]), gallery.reverse_strip(world, 2, [99, 50, 0])
    assert texts(forward) == ["0 % of T", "50 % of T", "99 % of T"] == texts(back)[::-1]
    place = images.layout((6, 6), 3, [True, False])
    first, last = (panel(f, 1, c, place, (6, 6)) for f, c in ((forward, 2), (back, 0)))
    np.testing.assert_array_equal(first, last)
    np.testing.assert_array_equal(panel(back, 1, 2, place, (6, 6)), as_bytes(np.full((1, 6, 6), 0.5)))
    clean = gallery.examples(world, 2).x0.numpy()
    np.testing.assert_array_equal(panel(forward, 1, 0, place, (6, 6)), as_bytes(clean[1]))
    with pytest.raises(UserError, match="must fall"):
        gallery.reverse_strip(world, 2, [0, 50])


def test_a_trajectory_has_what_is_predicted_below_what_there_is():
    world = World(dataset())
    figure = gallery.trajectory(world, sample=1, columns=6)
    place = images.layout((6, 6), 6, [True, False], longest=9)
    x_T = NoiseStream(5, 2, (1, 6, 6))()[1].numpy()
    np.testing.assert_array_equal(panel(figure, 0, 0, place, (6, 6)), as_bytes(x_T))
    for column in range(6):
        np.testing.assert_array_equal(
            panel(figure, 1, column, place, (6, 6)), as_bytes(np.full((1, 6, 6), 0.5))
        )


def test_the_noise_is_that_of_the_samples_beside_it():
    figure = gallery.noise(World(dataset()), n=4, columns=2)
    x_T = NoiseStream(5, 4, (1, 6, 6))().numpy()
    x_0 = np.full((2, 1, 6, 6), 0.5)
    rows = [[*x_T[:2], None, *x_0], [*x_T[2:], None, *x_0]]
    shows(figure, rows, [True, False], (6, 6), narrow=2)


def test_in_painting_shows_original_known_and_completions():
    x = pictures(6, 1, 6, 6).astype(np.float32)
    mask = np.arange(36).reshape(6, 6) % 2 == 0
    done = Completions(x, np.array([0, 0, 0, 2, 2, 2]), x.repeat(3, 0)[[0, 0, 0, 3, 3, 3]], mask)
    figure = inpainting.show_completions(World(dataset()), done)
    assert sorted(texts(figure)) == ["$", "cat", "completed", "known", "original"]
    place = images.layout((6, 6), 5, [True, False], longest=3)
    for row in (0, 1):
        original, known = (panel(figure, row, c, place, (6, 6)) for c in (0, 1))
        np.testing.assert_array_equal(original, as_bytes(done.original[3 * row]))
        assert (known[~mask] == BLUE).all() and (known[mask] == original[mask]).all()
        np.testing.assert_array_equal(panel(figure, row, 4, place, (6, 6)), as_bytes(x[3 * row + 2]))


def test_in_painting_of_points_and_sets_has_figures_too():
    mixture = World(GaussianMixture())
    points = np.zeros((30, 2), np.float32)
    assert inpainting.show_completions(mixture, Completions(points, None, points, np.array([True, False])))
    stars = World(Stars(n=24, test=8, size=96, points=32, sample_points=64))
    figure = inpainting.inpainting(stars, n=2)
    assert [ax.get_title() for ax in figure.axes[:5]] == ["original", "known", *["completed"] * 3]
    assert [len(ax.collections[-1].get_offsets()) for ax in figure.axes[5:]] == [64, 32, 64, 64, 64]
    line = np.zeros((3, 8), np.float32)
    assert inpainting.show_completions(mixture, Completions(line, None, line, np.ones(8, bool))) is None


def test_other_datasets_are_refused_in_one_line():
    plain = World(SimpleNamespace(shape=(2,), num_classes=0))
    with pytest.raises(UserError, match="figure=image_samples: draws images"):
        gallery.samples(plain, n=4, columns=2)
    with pytest.raises(UserError, match="inpaint=null: this figure needs a mask; choose from left_half"):
        inpainting.inpainting(World(dataset(), inpaint=None), 2)
    with pytest.raises(UserError, match=r"figure\.samplers=eular: no such sampler"):
        gallery.steps_study(World(dataset()), 2, [2], ["eular"])
