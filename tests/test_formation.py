"""When the parts of an image settle, on chains whose order is known."""

import numpy as np
import pytest

from diffusion_cli.figures.recipes.formation import formation_of
from diffusion_cli.figures.recipes.material import States

TIMES = [float(t) for t in range(100, -1, -1)]


def chain(weight):
    """Predictions that go from black to an image of 2 x 2 parts of 4 pixels; weight: (101, 4) of the image in each part."""
    image = np.random.default_rng(0).choice([-1.0, 1.0], (1, 1, 8, 8))
    image[:, :, :4, :4] = -1  # nothing in the first part
    parts = np.arange(4).reshape(2, 2).repeat(4, 0).repeat(4, 1)
    return States(
        TIMES, np.zeros((101, 1, 1, 8, 8)), -1 + (image + 1) * np.asarray(weight)[:, parts][:, None, None]
    )


def ramp(start, end):
    """0 until time `start`, then up to 1 at time `end`."""
    return np.clip((start - np.array(TIMES)) / (start - end), 0, 1)


def test_all_at_once():
    found = formation_of(chain(np.stack([ramp(60, 40)] * 4, 1)), 4)
    # the error falls below a quarter three quarters of the way down, at t = 45
    assert np.isnan(found.settled[0, 0, 0])
    assert found.settled[0].ravel()[1:] == pytest.approx([0.45] * 3, abs=0.011)
    assert (
        found.spread == 0
        and found.duration == pytest.approx(0.1, abs=0.011)
        and found.answer == "all at once"
    )


def test_part_by_part():
    found = formation_of(chain(np.stack([ramp(90, 80), ramp(90, 80), ramp(60, 50), ramp(30, 20)], 1)), 4)
    assert found.settled[0].ravel()[1:] == pytest.approx([0.825, 0.525, 0.225], abs=0.011)
    assert found.spread == pytest.approx(0.8 * 0.6, abs=0.01) and found.answer == "part by part"


def test_a_part_that_goes_astray_again_is_settled_only_after_that():
    weight = ramp(90, 80)
    weight[70] = 0.0  # at t = 30
    found = formation_of(chain(np.stack([weight] * 4, 1)), 4)
    assert found.settled[0].ravel()[1:] == pytest.approx([0.29] * 3)


def test_nothing_to_see():
    found = formation_of(chain(np.zeros((101, 4))), 4)
    assert found.answer == "nothing is in these images" and np.isnan(found.settled).all()
