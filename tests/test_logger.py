"""Loggers: what was logged can be read back by the tool that it was logged for."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from diffusion_cli.__main__ import main
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.runs.logger import TensorBoard, WandB

ROWS = {10: {"loss": 0.5, "lr": 0.1}, 20: {"loss": 0.25, "lr": 0.05}}


def png():
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 40, 10)).save(file, format="PNG")
    return file.getvalue()


def write(logger, folder):
    logger.open(folder, {"steps": 20, "optimizer": {"lr": 0.1}})
    logger.picture(5, "samples", png())
    for step, row in ROWS.items():
        logger.log(step, row)
    logger.close()


def test_tensorboard_writes_real_event_files(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(TensorBoard(), tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]
    assert seen(events, "samples") == {5: (30, 20)}


def seen(events, tag):
    """Step -> size of each picture, decoded; in it there is something to see."""
    found = {}
    for event in events.Images(tag):
        picture = Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB")
        assert len(picture.getcolors(2**24)) > 1 or picture.getpixel((0, 0)) == (200, 40, 10)
        found[event.step] = picture.size
    return found


def test_a_run_sends_its_stages_and_its_figures(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = [
        "dataset=circle",
        "logger=tensorboard",
        "steps=20",
        "stages.every=10",
        "stages.n=50",
        "model.width=8",
        "n=50",
    ]
    few = ["evaluation.n=20", "evaluation.draws=1", "evaluation.floor_draws=2", "device=cpu"]
    few += [f"~figures.{name}" for name in ("stages", "forward_strip", "reverse_strip", "trajectories")]
    assert main(["train", *words, *few, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert set(seen(events, "samples")) == {0, 10, 20}
    drawn = {f"figures/{file.stem}" for file in (tmp_path / "run" / "figures").glob("*.png")}
    assert {"figures/loss", "figures/samples"} <= drawn == set(events.Tags()["images"]) - {"samples"}
    assert all(set(seen(events, tag)) == {20} for tag in drawn)


def test_wandb_writes_offline_into_the_run(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    write(WandB(), tmp_path)
    wandb.teardown()  # as at the end of a process: waits for wandb's service, which writes the file a little later
    (file,) = Path(tmp_path).rglob("*.wandb")
    logged = file.read_bytes()
    (picture,) = Path(tmp_path).rglob("*.png")
    assert Image.open(picture).size == (30, 20) and picture.name.encode() in logged
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
