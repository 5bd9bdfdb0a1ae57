"""Which number of a table is in bold."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffusion_cli.runs.results import Cell, Result
from diffusion_cli.runs.tables import _best


def cell(value: object, loss: float) -> Cell:
    numbers = {"loss": loss, "metrics.sliced_w2": loss}
    better: dict[str, str | float] = {"metrics.sliced_w2": "lower"}
    return Cell((value,), [Result("0", Path(), {}, {}, (), numbers, better, "finished", None)])


@pytest.mark.parametrize(
    ("key", "compared"),
    [("optimizer.lr", True), ("schedule.T", False), ("parameterization", False), ("objective.loss", False)],
)
def test_losses_of_different_objectives_are_not_compared(key: str, compared: bool) -> None:
    cells = [cell(1, 0.2), cell(2, 0.1)]
    assert _best(cells, [key], "loss") == ({1} if compared else set())
    assert _best(cells, [key], "metrics.sliced_w2") == {1}
