"""Pictures of images: pixel for pixel what they were given, in the right place, under the right name."""

import numpy as np
import pytest
from PIL import Image

from diffusion_cli.figures import images
from diffusion_cli.figures.files import save_figure
from diffusion_cli.figures.images import ImageView
from diffusion_cli.figures.style import DOUBLE
from diffusion_cli.figures.view import States

VIEW = ImageView()

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


def shows(figure, rows, titled, shape, longest=0):
    """Asserts that the panels of a page are these images."""
    place = images.layout(shape, max(map(len, rows)), titled, longest)
    assert (place.height, place.width) == figure.axes[0].get_images()[0].get_array().shape[:2]
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            np.testing.assert_array_equal(panel(figure, r, c, place, shape), as_bytes(image))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_image_in_its_place(channels):
    x = pictures(7, channels)
    shows(VIEW.grid(x, columns=3), [x[:3], x[3:6], x[6:]], [False] * 3, (7, 5))


def test_the_file_has_the_very_pixels(tmp_path):
    """Nothing between the array and the PNG smooths, shifts or rescales."""
    figure = VIEW.grid(pictures(12, 3), columns=4)
    file = np.asarray(Image.open(save_figure(figure, tmp_path / "grid.png")).convert("RGB"))
    np.testing.assert_array_equal(file, figure.axes[0].get_images()[0].get_array())
    assert figure.get_figwidth() <= DOUBLE + 0.01
    assert save_figure(figure, tmp_path / "grid.pdf").stat().st_size > 1000


def test_64_digits_with_labels_are_readable():
    names = [str(k % 10) for k in range(64)]
    figure = VIEW.grid(pictures(64, 1, 28, 28), names)
    assert texts(figure) == names
    place = images.layout((28, 28), 8, [True] * 8)
    assert place.panel[0] / 200 > 0.5 and place.width <= DOUBLE * 200  # more than half an inch each
    shows(figure, np.split(pictures(64, 1, 28, 28), 8), [True] * 8, (28, 28))


def test_text_is_no_mathematics():
    figure = VIEW.grid(pictures(2), ["a $ b_", "$\\frac$"])
    assert texts(figure) == ["a $ b_", "$\\frac$"]
    figure.canvas.draw()  # mathtext would raise here


def test_what_is_not_a_number_is_blue():
    x = pictures(1)
    x[0, 0, 2, 3] = np.nan
    shown = panel(VIEW.grid(x), 0, 0, images.layout((7, 5), 1, [False]), (7, 5))
    assert tuple(shown[2, 3]) == BLUE
    seen = ~np.isnan(x[0, 0])
    np.testing.assert_array_equal(shown[seen], as_bytes(np.nan_to_num(x[0]))[seen])


def test_large_images_are_averaged_over_blocks():
    x = np.zeros((1, 3, 512, 384))
    x[0, :, ::2] = 1
    figure = VIEW.grid(np.repeat(x, 8, 0))
    page = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert page.shape[1] <= DOUBLE * 200
    place = images.layout((512, 384), 8, [False])
    assert place.panel[0] * 3 == pytest.approx(place.panel[1] * 4, abs=4)
    inside = page[
        place.tops[0] + 5 : place.tops[0] + place.panel[0] - 5, place.lefts[3] : place.lefts[4] - images.GAP
    ]
    assert abs(inside.astype(int) - 191).max() <= 22  # 3 or 4 rows to a block


def test_strips_have_titles_above_their_columns():
    x = pictures(6).reshape(3, 2, 1, 7, 5)
    figure = VIEW.strip(x, ["t = 2", "t = 1", "t = 0"])
    assert texts(figure) == ["t = 2", "t = 1", "t = 0"]
    shows(figure, x.swapaxes(0, 1), [True, False], (7, 5))


def test_settings_are_rows_with_their_names_beside_them():
    x = {"5 steps": pictures(3), "10 steps": pictures(3, seed=1)}
    figure = VIEW.compare(x, ["cat", "dog", "cat"])
    assert texts(figure) == ["cat", "dog", "cat", "5 steps", "10 steps"]
    shows(figure, [*x.values()], [True, False], (7, 5), longest=8)


def test_a_path_has_what_is_predicted_below_what_there_is():
    x, x0 = pictures(10).reshape(5, 2, 1, 7, 5), pictures(10, seed=1).reshape(5, 2, 1, 7, 5)
    figure = VIEW.paths(States([4, 3, 2.5, 1, 0], x, x0), columns=3)
    assert sorted(texts(figure)) == ["predicted", "t = 0", "t = 2.5", "t = 4", "x_t"]
    shows(figure, [x[::2, 0], x0[::2, 0]], [True, False], (7, 5), longest=9)
    assert len(texts(VIEW.paths(States([4, 3, 2, 1, 0], x, x0), followed=2))) == 5 + 4


def test_a_panel_is_a_square_of_images():
    x = pictures(11, 3)
    mosaic = images.mosaic(x)
    assert mosaic.shape == (21, 15, 3)
    np.testing.assert_array_equal(np.rint(mosaic[7:14, 10:] * 255), as_bytes(x[5]))
    frames = VIEW.frames([x, x], ["a", "b"]).images
    assert len(frames) == 2 and frames[0].width == frames[0].height


def test_no_text_is_cut_off_or_runs_into_another():
    names = ["aeroplane", "automobile", "bird", "cat"]
    for figure in (
        VIEW.grid(pictures(16, 3, 32, 32), names * 4),
        VIEW.strip(pictures(32, 3, 32, 32).reshape(8, 4, 3, 32, 32), [f"step {k}0,000" for k in range(8)]),
        VIEW.compare({f"ddpm_posterior {k}": pictures(4, 3, 32, 32) for k in range(4)}, names),
    ):
        figure.canvas.draw()
        boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text()]
        page = figure.bbox
        assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: VIEW.grid([]),
        lambda: VIEW.grid(np.zeros((2, 7, 5))),
        lambda: VIEW.grid(np.zeros((2, 2, 7, 5))),
        lambda: VIEW.grid([np.zeros((1, 2, 2)), np.zeros((1, 2, 3))]),
        lambda: VIEW.grid(pictures(2), ["one"]),
        lambda: VIEW.strip(pictures(4).reshape(2, 2, 1, 7, 5), ["one"]),
        lambda: VIEW.strip([pictures(2), pictures(3)], ["one", "two"]),
    ],
)
def test_what_does_not_fit_is_refused(draw):
    with pytest.raises(ValueError):
        draw()
