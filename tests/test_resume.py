"""A run killed at any moment and resumed is, bit for bit, the run that was never killed."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from diffusion_cli.__main__ import main
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.errors import UserError
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.resume import check_made_with, check_same
from diffusion_cli.runs.rows import Metrics

LINE = ["train", "dataset=circle", "steps=900", "batch_size=32", "model.width=16", "threads=1", "device=cpu",
        "log_every=7", "checkpoint.every=40", "checkpoint.keep=2", "stages.every=0", "plots=false", "resume=true",
        "loss_levels=[0.1,1,10]"]  # fmt: skip


OF_A_START = ("train.log", ".lock", ".owner")
TINY = ["train", "dataset=circle", "steps=20", "batch_size=16", "model.width=8", "model.depth=1", "device=cpu", "log_every=5",
        "checkpoint.every=10", "stages.every=0", "plots=false", "optimizer.warmup=0"]  # fmt: skip


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "diffusion_cli", *LINE, f"hydra.run.dir={folder}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(folder):
    process = start(folder)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return RunDirectory(folder)


def essence(run):
    """sha256 of all that training changed, and of metrics.csv."""
    state = checkpoint.load(run.checkpoints()[-1])["state"]
    return state["step"], checkpoint.digest(state), hashlib.sha256(run.metrics_file.read_bytes()).hexdigest()


def written(folder):
    """Bytes and date of each file but the log and the lock's."""
    files = [file for file in Path(folder).rglob("*") if file.is_file() and file.name not in OF_A_START]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("straight") / "run")


def test_killed_with_sigkill_and_resumed(tmp_path, straight):
    rng = random.Random(0)
    run = RunDirectory(tmp_path / "run")
    kills = 0
    for _ in range(2):
        process = start(run.path)
        before = run.checkpoints()[-1:]
        deadline = time.monotonic() + 60
        while run.checkpoints()[-1:] == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        process.stderr.close()
    assert kills, "the run was over before it could be killed"
    assert essence(finish(run.path)) == essence(straight)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_saves_says_so_and_goes_on(tmp_path, straight, number, code):
    run = RunDirectory(tmp_path / "run")
    process = start(run.path)
    while not run.checkpoints() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors and run.status == "interrupted"
    assert run.summary["steps"] == checkpoint.load(run.checkpoints()[-1])["state"]["step"]
    assert essence(finish(run.path)) == essence(straight)


def test_a_finished_run_is_left_as_it_is(straight):
    before = written(straight.path)
    assert {"config.json", "config.yaml", "summary.json", "metrics.csv", "step_00000900.safetensors"} <= {
        file.name for file in before
    }
    finish(straight.path)
    assert before == written(straight.path)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, straight):
    run = RunDirectory(tmp_path / "run")
    process = start(run.path)
    while len(run.checkpoints()) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    process.stderr.close()
    newest = run.checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert essence(finish(run.path)) == essence(straight)


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def run(*line):
        capfd.readouterr()
        code = main([*TINY, *line])
        return code, *capfd.readouterr()

    return run


def test_a_finished_run_goes_on_with_more_steps_and_with_no_fewer(cli):
    assert cli("hydra.run.dir=run")[0] == 0
    run = RunDirectory("run")
    before, config = written("run/.hydra"), run.record.config
    code, out, _ = cli("hydra.run.dir=run", "resume=true", "steps=30")
    assert code == 0 and "continued from 20 to 30 steps" in out and "resumed at step 20" in out
    assert (run.status, run.summary["steps"]) == ("finished", 30)
    assert [row["step"] for row in Metrics(run.metrics_file, since=99).rows][-1] == "30"
    # what was begun stays as it is; what it was continued by is beside it
    assert written("run/.hydra") == before and run.record.config == config and config["steps"] == 20
    (extension,) = run.record.extensions
    assert (extension["before"], extension["steps"], run.record.current["steps"]) == (20, 30, 30)

    before = written("run")
    code, _, err = cli("hydra.run.dir=run", "resume=true", "steps=25")
    assert code == 2 and err == (
        "error: steps=25: the run has been trained for 30; more of them continue it\n"
    )
    code, out, _ = cli("hydra.run.dir=run", "resume=true", "steps=30")
    assert code == 0 and "is finished already" in out
    assert written("run") == before


def test_epochs_of_finite_data_instead_of_steps(cli, capfd):
    line = [word for word in TINY if not word.startswith(("steps=", "checkpoint.every="))]

    def train(*more):
        capfd.readouterr()
        code = main([*line, "dataset.n=40", *more])
        return code, *capfd.readouterr()

    # 40 points in batches of 16: three steps, as long and with the same bits as these
    assert train("hydra.run.dir=plain", "steps=6")[0] == 0
    code, out, err = train("hydra.run.dir=run", "epochs=2", "checkpoint.every=1", "checkpoint.keep=9")
    run, plain = RunDirectory("run"), RunDirectory("plain")
    assert code == 0 and "2 epochs of 3 steps" in out, err
    config = run.record.config
    assert (config["epochs"], config["steps"], config["checkpoint"]["every"]) == (2, None, 1)
    assert [file.name for file in run.checkpoints()] == [
        "step_00000003.safetensors",
        "step_00000006.safetensors",
    ]
    assert essence(run) == essence(plain)
    code, out, err = train("hydra.run.dir=run", "resume=true", "epochs=3", "checkpoint.every=1")
    assert code == 0 and "continued from 2 to 3 epochs" in out and "resumed at step 6" in out, err
    assert (run.summary["steps"], run.record.current["epochs"]) == (9, 3)

    for more, message in (
        (["epochs=2", "steps=9"], "epochs=2: is instead of steps; leave one of them out"),
        (["epochs=0"], "epochs=0: must be a whole number >= 1, or null"),
        (["steps=null"], "steps: a number is needed, or epochs=N"),
        (["epochs=1", "dataset.n=null"], "epochs=1: this dataset draws fresh points without end"),
        (["epochs=2", "resume=true", "hydra.run.dir=run"], "epochs=2: the run has been trained for 3; more"),
        (["steps=99", "resume=true", "hydra.run.dir=run"], "steps=99: the run was begun with epochs=3; more of them"),
    ):  # fmt: skip
        code, _, err = train(*more)
        assert code == 2 and message in err.splitlines()[-1], err


@pytest.mark.parametrize(("words", "length"), [
    ([], (200, None, 5, 50)),
    (["epochs=10"], (10, None, 5, 50)),
    (["steps=2000"], (None, 2000, 50, 500)),
    (["steps=2000", "stages.every=7"], (None, 2000, 50, 7)),
])  # fmt: skip
def test_what_every_counts_keeps_its_fraction_of_the_training(cli, capfd, words, length):
    capfd.readouterr()
    assert main(["train", "experiment=cifar10", "--cfg", "job", *words]) == 0
    config = yaml.safe_load(capfd.readouterr().out)
    found = (config["epochs"], config["steps"], config["checkpoint"]["every"], config["stages"]["every"])
    assert found == length


def test_a_run_whose_time_is_up_is_saved_and_goes_on_as_if_nothing_had_happened(cli):
    assert cli("hydra.run.dir=straight")[0] == 0
    code, out, _ = cli("max_minutes=1e-9")
    assert code == 0 and "saved at step 1; the same line with hydra.run.dir=" in out
    (folder,) = Path("outputs/train/circle").iterdir()
    assert (RunDirectory(folder).status, RunDirectory(folder).summary["error"]) == (
        "interrupted",
        "max_minutes=1e-09",
    )
    # without a directory: the newest unfinished run of the same line, whatever its time
    code, out, _ = cli("resume=true", "max_minutes=5")
    assert (
        code == 0
        and "resumed at step 1" in out
        and essence(RunDirectory(folder)) == essence(RunDirectory("straight"))
    )


def test_resume_without_a_directory_takes_no_other_line_s_run_and_no_finished_one(cli):
    assert cli()[0] == 0
    assert cli("seed=1", "max_minutes=1e-9")[0] == 0
    for line in ([], ["seed=2"], ["seed=1", "steps=30"]):
        code, out, _ = cli("resume=true", *line)
        assert (
            code == 0 and "no unfinished run of this line is in outputs/train/circle: it starts anew" in out
        )
    assert len(list(Path("outputs/train/circle").iterdir())) == 5
    assert "resumed at step 1" in cli("resume=true", "seed=1")[1]


def test_a_network_starts_from_the_weights_of_another_run(cli):
    assert cli("hydra.run.dir=first")[0] == 0
    code, out, err = cli("hydra.run.dir=second", "init=first", "steps=1", "optimizer.lr=1e-12", "ema.decay=0")
    assert code == 0 and "started from the weights of first" in out, err
    theirs = checkpoint.load(RunDirectory("first").checkpoints()[-1])["state"]["ema"]
    ours = checkpoint.load(RunDirectory("second").checkpoints()[-1])["state"]["ema"]
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in theirs)
    for line, message in (
        (["init=nowhere"], "init=nowhere: no such directory"),
        (["init=first", "init_weights=7"], "init_weights=7: "),
    ):
        code, _, err = cli("hydra.run.dir=third", *line)
        assert code == 2 and message in err.splitlines()[-1] and not Path("third").exists()
    code, out, _ = cli("hydra.run.dir=wider", "init=first", "model.width=9")
    assert code == 0 and "weights do not fit and start at random: " in out


def test_one_trainer_per_directory(tmp_path):
    run = RunDirectory(tmp_path)
    with run.lock(), pytest.raises(UserError, match=f"is being trained by process {os.getpid()}"):
        RunDirectory(tmp_path).lock()
    with RunDirectory(tmp_path).lock():
        pass


def test_half_a_last_line_of_metrics_is_dropped(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss,lr\n10,0.5,0.1\n20,0.4,0.1\n30,0.")
    table = Metrics(file, since=40)
    table.add({"step": 30, "loss": 0.25, "lr": 0.1})
    table.write()
    assert file.read_text() == "step,loss,lr\n10,0.5,0.1\n20,0.4,0.1\n30,0.25,0.1\n"


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss\n10,0.5\n20,0.4\n30,0.3\n")
    assert [row["step"] for row in Metrics(file, since=20).rows] == ["10", "20"]
    assert Metrics(file, since=0).rows == []


def test_what_a_resumed_run_may_change(caplog):
    old = {
        "seed": 0,
        "steps": 10,
        "plots": True,
        "threads": None,
        "optimizer": {"lr": 0.1},
        "sampler": {"steps": 5},
    }
    check_same(old | {"plots": False, "sampler": {"steps": 9}}, old)
    assert not caplog.records
    check_same(old | {"threads": 2}, old)
    assert "threads=2, but the run was begun with null" in caplog.text
    for key, new in (("optimizer.lr", {"optimizer": {"lr": 0.2}}), ("seed", {"seed": 1})):
        with pytest.raises(UserError) as error:
            check_same(old | new, old)
        assert error.value.key == key


MADE = {"torch": "2.13.0", "diffusion_cli": "0.1.0", "device": "cpu", "threads": 1, "cpu": "AVX2", "precision": "float32",
        "compile": False, "data": None}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "now"),
    [("torch", "2.14.0"), ("threads", 2), ("device", "cuda"), ("precision", "bfloat16"), ("cpu", "AVX512")],
)
def test_what_a_checkpoint_was_made_with_is_compared_by_name(caplog, name, now):
    check_made_with(MADE, dict(MADE))
    assert not caplog.records
    check_made_with(MADE | {name: now}, MADE)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{name}={now}, but the checkpoint was made with {MADE[name]}: ")


def test_other_data_under_the_same_name_are_refused(tmp_path):
    file = tmp_path / "points.csv"
    prints = []
    for text in ("0,1\n1,0\n", "0,1\n1,0.5\n", "0,1\n1,0\n"):
        file.write_text(text)
        prints.append(PointCloud(str(file)).fingerprint)
    assert prints[0] == prints[2] != prints[1]
    check_made_with(MADE | {"data": prints[0]}, MADE | {"data": prints[2]})
    with pytest.raises(UserError, match=r"^dataset: its data have changed since the run was begun"):
        check_made_with(MADE | {"data": prints[1]}, MADE | {"data": prints[0]})
