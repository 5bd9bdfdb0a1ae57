"""The evaluation repeated during training: its rows, whatever happens in between, and their figure."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffusion_cli.__main__ import main
from diffusion_cli.errors import UserError
from diffusion_cli.figures.curves import metric_curves
from diffusion_cli.figures.recipes.training import metric_curve
from diffusion_cli.metrics import judge
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.rows import read_csv

LINE = ["train", "dataset=circle", "steps=120", "batch_size=16", "model.width=8", "device=cpu", "checkpoint.every=30",
        "stages.every=0", "plots=false", "resume=true", "monitor.every=20", "monitor.n=40", "monitor.steps=3",
        "evaluation.floor_draws=2"]  # fmt: skip
STEPS = [20, 40, 60, 80, 100, 120]


def finish(folder, *more):
    assert main([*LINE, *more, f"hydra.run.dir={folder}"]) == 0
    return RunDirectory(folder), (folder / "train.log").read_text()


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("straight") / "run")


def test_rows_with_floors_and_what_they_cost(straight):
    run, text = straight
    columns = read_csv(run.evaluations_file)
    assert columns["step"] == STEPS
    assert set(columns) > {"sliced_w2", "sliced_w2_floor", "distance_mean", "coverage"}
    assert len(set(columns["sliced_w2_floor"])) == 1 and len(set(columns["sliced_w2"])) == len(STEPS)
    errors = [name for name in columns if name.startswith("error_")]
    assert errors == ["error_0.01", "error_0.064", "error_0.41", "error_3.1", "error_20"]
    # A network that has learned nothing puts out v = 0; at much noise the exact one is little more.
    assert all(0 < columns[name][-1] < 4 for name in errors) and columns["error_20"][-1] < 0.2
    assert "evaluating every 20 steps: 6 times about" in text and "% of the time" in text
    assert run.summary["metrics"] == {}


def test_killed_and_resumed_gives_the_same_rows(tmp_path, straight):
    run = RunDirectory(tmp_path / "run")
    line = [*LINE, "checkpoint.every=50", f"hydra.run.dir={run.path}"]  # rows are newer than the checkpoint
    process = subprocess.Popen([sys.executable, "-m", "diffusion_cli", *line], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (
            run.checkpoints()
            and run.evaluations_file.is_file()
            and len(read_csv(run.evaluations_file)["step"]) > 2
        ):
            break
        time.sleep(0.002)
    assert process.poll() is None, "the run was over before it could be killed"
    process.kill()
    process.wait()
    assert run.status == "interrupted"
    finish(run.path, "checkpoint.every=50")
    assert run.evaluations_file.read_bytes() == straight[0].evaluations_file.read_bytes()


def test_a_row_that_was_due_is_made_up_for(tmp_path, straight):
    """As where a signal, or a kill, came between the checkpoint of a step and its row."""
    run, _ = finish(tmp_path / "run", "steps=60", "optimizer.decay=constant")
    whole = run.evaluations_file.read_text()
    run.evaluations_file.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    run.summary_file.unlink()
    again, text = finish(run.path, "steps=60", "optimizer.decay=constant")
    assert again.evaluations_file.read_text() == whole and "resumed at step 60" in text


@pytest.fixture
def images(tmp_path, monkeypatch):
    """The bundled digits, judged after a moment's training, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    for name, value in (("LEAST_STEPS", 14), ("EPOCHS", 0), ("BATCH", 16)):
        monkeypatch.setattr(judge, name, value)
    return ["train", "dataset=mnist", "dataset.source=bundled", "model=mlp", "model.width=8", "model.depth=1", "steps=4",
            "batch_size=4", "n=4", "sampler.steps=2", "stages.every=0", "evaluation.n=40", "monitor.every=2",
            "monitor.n=30", "monitor.steps=1", "evaluation.floor_draws=2", "threads=1", "device=cpu"]  # fmt: skip


def test_images(images, capsys):
    nothing = [f"figures.{name}=null" for name in ("data", "samples", "stages", "forward_strip", "reverse_strip",
                                                    "trajectories", "loss")]  # fmt: skip
    assert main([*images, *nothing, "hydra.run.dir=run"]) == 0
    run = RunDirectory("run")
    columns = read_csv(run.evaluations_file)
    assert columns["step"] == [2, 4] and columns["frechet_floor"][0] == columns["frechet_floor"][1] > 0
    report = run.summary["metrics"]
    assert report["frechet"]["n"] == 40 and report["frechet"]["against"] == 500
    assert report["extractor"]["task"] == "labels" and len(report["extractor"]["digest"]) == 64
    assert {"kernel", "precision", "recall", "accuracy"} < set(report)
    assert (run.figures / "metric_curve.png").stat().st_size > 3000
    assert "Fréchet distance" in (run.path / "train.log").read_text()
    capsys.readouterr()
    assert (
        main(["plot", "figure=metric_curve", "run=run", "figure.metrics=[frechet]", "hydra.run.dir=plot"])
        == 0
    )
    assert os.path.getsize("plot/metric_curve.png") > 3000
    assert main(["plot", "figure=metric_curve", "run=run", "figure.metrics=[frecht]"]) == 2
    assert (
        "figure.metrics=frecht: was not measured during training; did you mean frechet?"
        in capsys.readouterr().err
    )
    assert main(["evaluate", "run=run", "evaluation.n=20", "hydra.run.dir=measured"]) == 0
    assert json.loads(Path("measured/evaluation.json").read_text())["metrics"]["frechet"]["n"] == 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["monitor.every=-1"], "monitor.every=-1: must be a whole number >= 0"),
        (["monitor.n=1"], "monitor.n=1: must be a whole number in 2..1000000000"),
        (["monitor.steps=0"], "monitor.steps=0: must be a whole number in 1..1000000, or null"),
        (
            ["evaluation=images", "evaluation.extractor=dino"],
            "evaluation.extractor=dino: must be one of the choices",
        ),
        (["evaluation=images", "evaluation.neighbours=0"], "evaluation.neighbours=0: must be a whole number"),
    ],
)
def test_bad_options(tmp_path, monkeypatch, capsys, line, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dataset=circle", "steps=1", *line]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.csv")) and not list(tmp_path.rglob("checkpoints"))


def test_the_figure_shows_each_metric_and_its_floor(tmp_path):
    figure = metric_curves([1, 2, 3], {"a": ([9.0, 5.0, 3.0], 2.5), "b": ([0.1, 0.5, 0.9], None)})
    a, b = figure.axes
    assert a.lines[0].get_ydata().tolist() == [9, 5, 3] and set(a.lines[1].get_ydata()) == {2.5}
    assert a.get_title() == "a" and len(b.lines) == 1
    one = metric_curves([1, 2], {"a": ([np.nan, 1.0], 2.0)}).axes
    assert len(one) == 1 and one[0].get_ylabel() == "a" and one[0].get_yscale() == "linear"
    # Nothing was measured.
    assert metric_curve(SimpleNamespace(run=RunDirectory(tmp_path))) is None
    with pytest.raises(UserError, match="needs a trained run"):
        metric_curve(SimpleNamespace(run=None))


def test_training_is_not_disturbed(straight, tmp_path):
    """The network of a run with evaluations is, bit for bit, that of one without."""
    run, _ = finish(tmp_path / "run", "monitor.every=0")
    with_, without = (checkpoint.load(r.checkpoints()[-1])["state"] for r in (straight[0], run))
    assert not run.evaluations_file.exists() and with_["ema"].keys() == without["ema"].keys()
    assert all(torch.equal(with_["ema"][name], without["ema"][name]) for name in with_["ema"])
