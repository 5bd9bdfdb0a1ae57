"""Figures of points and sets in space: what stands where, seen from one side."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from diffusion_cli.figures.pairs import pairs
from diffusion_cli.figures.points import SpaceView
from diffusion_cli.figures.sets import SetView
from diffusion_cli.figures.space import axes_of_view, flat, from_afar, turned
from diffusion_cli.figures.style import BLUE
from diffusion_cli.figures.view import States

CUBE = np.random.default_rng(0).uniform(-1, 1, (400, 3))
EGG = np.random.default_rng(1).normal(size=(500, 5))


def drawn(ax) -> list[PathCollection]:
    return [artist for artist in ax.collections if isinstance(artist, PathCollection)]


def test_the_axes_of_the_view_are_a_right_handed_frame() -> None:
    view = axes_of_view()
    np.testing.assert_allclose(view.T @ view, np.eye(3), atol=1e-12)
    assert np.linalg.det(view) == pytest.approx(1)
    # the third axis of space points upwards in the picture
    assert flat(np.array([0.0, 0.0, 1.0])) @ [0, 1] > 0.9


def test_what_is_far_away_is_drawn_first_and_paler() -> None:
    places, near = from_afar(CUBE)
    assert (np.diff(near) >= 0).all() and near[0] == 0 and near[-1] == 1
    depth = CUBE @ axes_of_view()[:, 2]
    np.testing.assert_allclose(places[-1], flat(CUBE[depth.argmax()]))
    figure = SetView().grid([CUBE])
    colors = drawn(figure.axes[0])[0].get_facecolors()[:, :3]
    np.testing.assert_allclose(colors[-1], to_rgb(BLUE), atol=1e-6)
    assert (colors[0] > colors[-1]).all()


def test_turning_keeps_the_third_axis_and_all_distances() -> None:
    x = turned(CUBE, 90)
    np.testing.assert_allclose(x[:, 2], CUBE[:, 2])
    np.testing.assert_allclose(x[:, 0], CUBE[:, 1], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), np.linalg.norm(CUBE, axis=1))


def test_points_of_space_are_shown_from_one_side_and_by_pairs_of_coordinates() -> None:
    figure = pairs(CUBE, CUBE[:50])
    assert len(figure.axes) == 4
    shown = [drawn(ax)[-1].get_offsets() for ax in figure.axes]
    np.testing.assert_allclose(np.sort(shown[0], 0), np.sort(flat(CUBE), 0))
    for ax, offsets, both in zip(figure.axes[1:], shown[1:], ([0, 1], [0, 2], [1, 2]), strict=True):
        np.testing.assert_allclose(offsets, CUBE[:, both])
        assert [ax.get_xlabel(), ax.get_ylabel()] == [f"${'xyz'[k]}$" for k in both]


def test_more_coordinates_stand_in_a_corner_of_pairs() -> None:
    figure = pairs(EGG, title="all of it")
    assert len(figure.axes) == 5 * 6 // 2
    assert figure.get_suptitle() == "all of it"
    np.testing.assert_allclose(drawn(figure.axes[1])[0].get_offsets(), EGG[:, :2])
    many = pairs(np.random.default_rng(0).normal(size=(50, 9)))
    assert len(many.axes) == 6 * 7 // 2 and "first 6 of 9 coordinates" in many.get_suptitle()


@pytest.mark.parametrize("x", [CUBE, EGG])
def test_every_figure_of_a_view_takes_points_of_more_than_two_coordinates(x: np.ndarray) -> None:
    view = SpaceView(x)
    states = np.stack([3 * x, 2 * x, x])
    assert len(view.strip(states, ["a", "b", "c"], wide=True).axes) == 3
    assert len(view.compare({"noise": states[0], "samples": x}).axes) == 2
    paths = view.paths(States([2, 1, 0], states, states), followed=7)
    np.testing.assert_allclose(paths.axes[0].lines[0].get_xydata(), flat(3 * x[:7]))
    assert len(view.frames(states, ["a", "b", "c"]).images) == 3
    assert "outside" in view.grid(np.concatenate((x, 99 * x[:2]))).axes[1].get_title()
