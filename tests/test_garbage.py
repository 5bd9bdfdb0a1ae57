"""Python looks for garbage from the first work of a command on, and leaves a user's own choice alone."""

import gc

import pytest

from diffusion_cli.runs import garbage


@pytest.fixture
def collector():
    yield
    gc.unfreeze()
    gc.enable()


def test_what_is_there_before_is_not_looked_through(collector):
    garbage.put_off()
    assert not gc.isenabled()
    garbage.look_again()
    assert gc.isenabled() and gc.get_freeze_count()


def test_a_collector_that_its_user_has_turned_off_stays_off(collector):
    gc.disable()
    garbage.look_again()
    assert not gc.isenabled() and not gc.get_freeze_count()
