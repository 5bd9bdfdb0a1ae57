"""scripts/benchmark: how turns are taken, and that its parts fit the package as it is."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("bench.turns")


def test_sides_take_turns_and_the_first_round_is_not_counted(turns, monkeypatch) -> None:
    clock, calls = [0.0], []

    def action(name: str, seconds: float):
        def act() -> None:
            calls.append(name)
            # the first call of each is slow
            clock[0] += seconds if name in calls[:-1] else 100.0

        return act

    monkeypatch.setattr(turns.time, "process_time", lambda: clock[0])
    found = turns.take_turns({"a": action("a", 3.0), "b": action("b", 2.0)}, rounds=4, times=2, threads=1)
    assert calls == ["a", "a", "b", "b"] * 5
    assert found.of == {"a": [3.0] * 4, "b": [2.0] * 4}
    assert (
        found.ratio("a", "b") == "1.50 (1.50 to 1.50)"
        and turns.milliseconds(found.seconds("b")) == "2,000 ms"
    )


def test_every_part_can_be_run(turns) -> None:
    parts = runpy.run_path(str(SCRIPTS / "benchmark"))["PARTS"]
    assert all(callable(importlib.import_module(f"bench.{part}").main) for part in parts)
    points = importlib.import_module("bench.points")
    points.products(4, backward=True)()
    points.same_network()
