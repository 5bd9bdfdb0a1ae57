"""Hydra's composer behind the gate."""

from __future__ import annotations

import copy

import pytest
from hydra._internal.utils import create_config_search_path
from hydra.core.singleton import Singleton
from hydra.types import RunMode
from omegaconf import open_dict

from diffusion_cli.cli.gate import REMEMBERED, Guarded
from diffusion_cli.options.files import CONFIGS


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """A composer that counts what it composes."""
    before = Singleton.get_state()
    loader = Guarded(create_config_search_path(str(CONFIGS)))
    loader.count = 0
    compose = loader._compose

    def counted(*given, **more):
        loader.count += 1
        return compose(*given, **more)

    monkeypatch.setattr(loader, "_compose", counted)
    yield loader
    Singleton.set_state(before)


def test_what_was_composed_once_is_remembered_and_not_shared(loader: Guarded) -> None:
    first, second = (loader.load_configuration("train", ["seed=3"], RunMode.RUN) for _ in range(2))
    assert loader.count == 1 and first == second and first.seed == 3
    with open_dict(first):
        first.seed, first.model.width = 4, 5
    third = loader.load_configuration("train", ["seed=3"], RunMode.RUN)
    assert loader.count == 1 and third == second and third.seed == 3
    assert loader.load_configuration("train", ["seed=4"], RunMode.RUN).seed == 4 and loader.count == 2


def test_a_sweep_without_end_is_not_remembered_whole(loader: Guarded) -> None:
    config = loader.load_configuration("train", [], RunMode.RUN)
    loader.composed = {(number,): config for number in range(REMEMBERED)}
    loader.load_configuration("train", ["seed=1"], RunMode.RUN)
    assert len(loader.composed) == 1


def test_workers_get_the_composer_without_the_other_jobs() -> None:
    loader = Guarded(create_config_search_path(str(CONFIGS)))
    loader.composed["a"] = "b"
    assert copy.copy(loader).composed == {} and loader.composed == {"a": "b"}  # by the same way as pickle's
