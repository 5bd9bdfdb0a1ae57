"""Which number of a table is in bold."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffusion_cli.runs.comparison import Cell
from diffusion_cli.runs.ranking import error_of, leaders
from diffusion_cli.runs.results import Result


def cell(value: object, loss: float, spread: float = 0.01, key: str = "", seeds: int = 2) -> Cell:
    better: dict[str, str | float] = {"metrics.sliced_w2": "lower"}
    group, _, argument = key.partition(".")
    runs = []
    for sign in (-1, 1)[:seeds]:
        numbers = {
            "loss": loss + sign * spread,
            "metrics.sliced_w2": loss + sign * spread,
            "metrics.sliced_w2.spread": spread,
            "metrics.sliced_w2.draws": 4.0,
        }
        runs.append(
            Result("0", Path(), {group: {argument: value}}, {}, (), numbers, better, "finished", None)
        )
    return Cell((value,), runs)


@pytest.mark.parametrize(
    ("key", "compared"),
    [("optimizer.lr", True), ("schedule.T", False), ("parameterization", False), ("objective.loss", False)],
)
def test_losses_of_different_objectives_are_not_compared(key: str, compared: bool) -> None:
    cells = [cell(1, 0.2, key=key), cell(2, 0.1, key=key)]
    assert leaders(cells, "loss") == ({1} if compared else set())
    assert leaders(cells, "metrics.sliced_w2") == {1}


def test_a_difference_within_the_error_makes_noleaders() -> None:
    # of two seeds at 0.1 +- 0.01 the mean's standard error is 0.01 (0.01 * sqrt 2 / sqrt 2), of a difference 0.0141
    assert leaders([cell(1, 0.1), cell(2, 0.12)], "metrics.sliced_w2") == set()
    assert leaders([cell(1, 0.1), cell(2, 0.13)], "metrics.sliced_w2") == {0}
    # of a single run the spread of its draws, by the root of their number; nothing says it of a loss
    single = [cell(1, 0.1, 0.02, seeds=1), cell(2, 0.125, 0.02, seeds=1)]
    assert leaders(single, "metrics.sliced_w2") == set() and leaders(single, "loss") == set()
    assert leaders([cell(1, 0.1, 0.02, seeds=1), cell(2, 0.14, 0.02, seeds=1)], "metrics.sliced_w2") == {0}


@pytest.mark.parametrize(("of_true", "error"), [(0.004, 0.004), (0.0, None), (1e-17, None), (None, None)])
def test_one_draw_is_as_sure_as_true_samples_unless_these_have_no_spread(
    of_true: float | None, error: float | None
) -> None:
    # the distance to a curve, where true samples are all on it
    assert error_of({"value": 0.02, "spread": None, "draws": 1, "floor_spread": of_true}) == error


def test_metrics_of_different_numbers_of_samples_are_not_compared() -> None:
    cells = [cell(1, 0.1), cell(2, 0.2)]
    cells[1].results[0].numbers["metrics.sliced_w2.n"] = 10.0
    assert leaders(cells, "metrics.sliced_w2") == set()
