"""Loggers: what was logged can be read back by the tool that it was logged for."""

import sys
from pathlib import Path

import pytest

from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.runs.logger import TensorBoard, WandB

ROWS = {10: {"loss": 0.5, "lr": 0.1}, 20: {"loss": 0.25, "lr": 0.05}}


def write(logger, folder):
    logger.open(folder, {"steps": 20, "optimizer": {"lr": 0.1}})
    for step, row in ROWS.items():
        logger.log(step, row)
    logger.close()


def test_tensorboard_writes_real_event_files(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(TensorBoard(), tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]


def test_wandb_writes_offline_into_the_run(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    write(WandB(), tmp_path)
    wandb.teardown()  # as at the end of a process: waits for wandb's service, which writes the file a little later
    (file,) = Path(tmp_path).rglob("*.wandb")
    logged = file.read_bytes()
    for row in ROWS.values():
        for key, value in row.items():
            assert key.encode() in logged and str(value).encode() in logged


def test_wandb_modes_are_named():
    with pytest.raises(
        ArgumentError, match=r"^mode=of: must be one of the choices; choose from offline, online$"
    ):
        WandB(mode="of")


@pytest.mark.parametrize(("logger", "package"), [(TensorBoard, "torch.utils.tensorboard"), (WandB, "wandb")])
def test_a_package_that_is_not_there_is_named(logger, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"^logger=\w+: needs the package (\w+): pip install \1$"):
        logger().open(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
