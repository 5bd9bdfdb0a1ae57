"""Figures of sets: each panel carries its set, on common limits, and says what it does not show."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from diffusion_cli.figures import sets
from diffusion_cli.figures.plane import limits_of
from diffusion_cli.figures.sets import SetView
from diffusion_cli.figures.style import BLUE, DOUBLE, GREY
from diffusion_cli.figures.view import States


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
    figure = SetView().grid(x, columns=4)
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
    figure = SetView(clouds(4, seed=1)).grid(x)
    assert max(figure.axes[0].get_xlim()) < 1.3
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "3 outside"]


def test_sets_of_unequal_size_and_their_names():
    figure = SetView().grid([clouds(1, 5)[0], clouds(1, 9)[0]], ["a $ b", "c"])
    assert [len(dots(ax)) for ax in figure.axes] == [5, 9]
    assert [ax.get_title() for ax in figure.axes] == ["a $ b", "c"]


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


def test_strips_have_a_row_for_each_set_and_titles_above_the_first():
    states = clouds(6).reshape(3, 2, 20, 2)
    figure = SetView(clouds(2, seed=1)).strip(states, ["t = 50", "t = 12", "t = 0"], wide=True)
    assert [ax.get_title() for ax in figure.axes] == ["t = 50", "t = 12", "t = 0", "", "", ""]
    np.testing.assert_allclose(dots(figure.axes[4]), states[1, 1])
    assert figure.axes[0].get_xlim() == pytest.approx(limits_of(clouds(2, seed=1), widen=1.7)[:2])


def test_noise_beyond_a_wide_strip_is_not_counted():
    states = 3 * clouds(2).reshape(1, 2, 20, 2)
    narrow, wide = (
        SetView(clouds(2)).strip(states, ["t"], wide=w).axes[0].get_xlabel() for w in (False, True)
    )
    assert narrow.endswith("outside") and wide == ""


def test_settings_are_rows_with_their_names_beside_them():
    figure = SetView().compare({"5 steps": clouds(3), "10 steps": clouds(3, seed=1)})
    assert [ax.get_ylabel() for ax in figure.axes] == ["5 steps", "", "", "10 steps", "", ""]
    np.testing.assert_allclose(dots(figure.axes[4]), clouds(3, seed=1)[1])


def test_paths_are_those_of_points_of_a_set():
    states = np.linspace(clouds(5, 60), clouds(5, 60, seed=1), 7)
    axes = SetView().paths(States(range(6, -1, -1), states, states), followed=2).axes
    assert [ax.get_title() for ax in axes] == ["sample 0", "sample 1", ""]
    np.testing.assert_allclose(axes[1].get_lines()[0].get_xydata(), states[0, 1, : sets.FOLLOWED])


def test_a_panel_holds_the_sets_side_by_side():
    frames = SetView(clouds(4)).frames([clouds(5), clouds(5)], ["a", "b"]).images
    assert len(frames) == 2
    figure = Figure()
    ax = figure.subplots()
    SetView().panel(ax, clouds(5), (-1, 1, -1, 1), 3.0)
    assert len(ax.collections) == 4 and ax.get_xlim() == (-1, 3) and ax.get_ylim() == (-3, 1)
    np.testing.assert_allclose(dots(ax), clouds(5)[3] + (2, -2))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: SetView(clouds(1)).grid([]),
        lambda: SetView().strip(clouds(4).reshape(2, 2, 20, 2), ["a", "b", "c"]),
        lambda: sets.beside_nearest(clouds(2), [clouds(1)], [[0.1]]),
        lambda: SetView().grid(np.zeros((2, 5, 3, 2))),
    ],
)
def test_what_does_not_fit_is_refused(draw):
    with pytest.raises(ValueError):
        draw()
