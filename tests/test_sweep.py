"""Sweeps: jobs keep their directory by their configuration, fail alone, and survive signals and kill -9."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffusion_cli.__main__ import main
from diffusion_cli.errors import UserError
from diffusion_cli.runs import jobs
from diffusion_cli.runs.directory import RunDirectory

ROOT = Path(__file__).parents[1]
TINY = ["steps=20", "batch_size=16", "model.depth=1", "model.width=8", "log_every=5", "stages.every=0", "device=cpu",
        "checkpoint.every=5", "plots=false"]  # fmt: skip


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def run(*line):
        capfd.readouterr()
        code = main(["train", "-m", *TINY, *line])
        return code, *capfd.readouterr()

    return run


def table(out):
    """Rows of the table that a sweep ends with, by the name of the job."""
    lines = out[out.index("job  ") :].splitlines()
    return {row.split()[0]: row.split() for row in lines[1:] if row[:1].isdigit()}


# Directories.


def test_a_job_keeps_its_directory_whatever_its_number(tmp_path):
    assert [jobs.claim_job(tmp_path, key, n, []) for n, key in enumerate("abc")] == ["0", "1", "2"]
    assert jobs.claim_job(tmp_path, "c", 0, []) == "2"
    assert jobs.claim_job(tmp_path, "d", 1, []) == "3"  # 1 is b's, 2 is c's
    (tmp_path / "4" / "something").mkdir(parents=True)
    assert jobs.claim_job(tmp_path, "e", 4, []) == "5"
    assert {name: ticket.key for name, ticket in jobs.tickets(tmp_path).items()} == dict(
        zip("01235", "abcde", strict=True)
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_many_processes_never_share_a_directory(tmp_path):
    script = "import sys; from pathlib import Path; from diffusion_cli.runs import jobs\n" \
        "for n in range(20): print(jobs.claim_job(Path(sys.argv[1]), f'{sys.argv[2]}-{n}', n, []))"  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path, name], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for name in "abc"
    ]
    names = [name for worker in workers for name in worker.communicate()[0].split()]
    assert sorted(map(int, names)) == list(range(60))
    assert len(jobs.tickets(tmp_path)) == 60


def test_a_directory_named_by_the_user_is_one_job_s(tmp_path):
    jobs.start(tmp_path, "a", ["seed=0"])
    jobs.start(tmp_path, "a", ["seed=0"])
    assert jobs.read_ticket(tmp_path).started == 2
    with pytest.raises(UserError, match="another job"):
        jobs.start(tmp_path, "b", ["seed=1"])


# What is judged before a job begins.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["seed=0,1", "schedule.T=5,0"], "schedule.T=0: must be a whole number in 1..1000000"),
        (["optimizer.lr=1e-3,fast"], "optimizer.lr=fast: must be a number > 0"),
        (["dataset=circle,point"], "dataset=point: no such option; did you mean points?"),
        (["model.width=8,16", "model.widht=3"], "model.widht=3: no such key; did you mean model.width?"),
        (["seed=0,0"], "seed=0: twice in this sweep"),
        (["seed=0,1", "hydra.sweep.subdir=x"], "hydra.sweep.subdir=x: is the directory of more than one job"),
        (["seed=0,1", "optimize=metrics.sliced_w2"], "optimize=metrics.sliced_w2: is measured at the end"),
        (["seed=0,1", "optimize=3"], "optimize=3: must be a name or a path, or null"),
    ],
)
def test_a_bad_value_is_refused_before_any_job(cli, line, message):
    code, _, err = cli(*line, "hydra.sweep.dir=sweep")
    assert code == 2 and err.count("\n") == 1 and message in err
    assert list(Path().iterdir()) == []


# The course of a sweep.


def test_a_failed_job_stands_in_its_own_log_and_stops_no_other(cli):
    line = ["optimizer.lr=1e30,1e-3", "optimizer.clip=null", "optimizer.warmup=0", "hydra.sweep.dir=s",
            "hydra.sweeper.max_batch_size=1"]  # fmt: skip
    code, out, err = cli(*line)
    assert code == 1
    assert [RunDirectory(f"s/{n}").status for n in range(2)] == ["failed", "finished"]
    assert (
        "diverged by step" in Path("s/0/train.log").read_text()
        and "diverged" in RunDirectory("s/0").summary["error"]
    )
    assert "diverged" not in Path("s/1/train.log").read_text()
    assert re.findall(r"^job \d of .*", out, re.MULTILINE)[0] == "job 1 of 2"
    assert re.search(r"^job 2 of 2, about \d+ (s|min) left$", out, re.MULTILINE)
    assert err.splitlines()[-1].startswith("error: 1 of 2 jobs failed: job 0: diverged by step 5")
    rows = table(out)
    assert list(rows) == ["0", "1"] and rows["0"][:4] == ["0", "1e+30", "0", "failed"]
    assert re.search(r"^job 0 \(optimizer.lr=1e\+30, seed=0\): diverged by step", out, re.MULTILINE)


def test_the_same_line_does_what_is_missing(cli):
    """In another order and with one value more: what is finished stays as it is, what failed is done again."""
    assert cli("dataset=circle,square", "hydra.sweep.dir=s")[0] == 0
    metrics = [Path(f"s/{n}/metrics.csv") for n in range(2)]
    times, text = [file.stat().st_mtime_ns for file in metrics], metrics[1].read_text()
    RunDirectory("s/1").write_summary(
        **(RunDirectory("s/1").summary | {"status": "failed", "error": "no reason"})
    )
    for file in Path("s/1").glob("checkpoints/*"):
        file.unlink()
    code, out, _ = cli("dataset=twopoint,square,circle", "hydra.sweep.dir=s")
    assert code == 0 and sorted(path.name for path in Path("s").iterdir() if path.is_dir()) == list("012")
    assert [file.stat().st_mtime_ns == time for file, time in zip(metrics, times, strict=True)] == [
        True,
        False,
    ]
    assert metrics[1].read_text() == text and RunDirectory("s/1").status == "finished"
    assert {name: row[1:3] for name, row in table(out).items()} == {
        "0": ["circle", "0"], "1": ["square", "0"], "2": ["twopoint", "0"]
    }  # fmt: skip


def test_resume_alone_finds_the_newest_sweep_of_its_line(cli):
    assert cli("seed=1", "resume=true")[0] == 0  # none in outputs/multirun yet
    (first,) = Path("outputs/multirun").iterdir()
    log = (first / "0" / "train.log").read_text()
    code, out, _ = cli("resume=true", "seed=1")
    assert code == 0 and [path.name for path in Path("outputs/multirun").iterdir()] == [first.name]
    assert (first / "0" / "train.log").read_text().startswith(log) and out.count("is finished already") == 1
    assert (
        cli("seed=3", "resume=true", "steps=1")[0] == 0 and len(list(Path("outputs/multirun").iterdir())) == 2
    )


def test_two_processes_do_not_sweep_in_one_directory(cli):
    Path("s").mkdir()
    with RunDirectory("s").lock():
        code, _, err = cli("seed=0,1", "hydra.sweep.dir=s")
    assert code == 2 and re.match(r"error: hydra.sweep.dir=s: is being swept by process \d+ on ", err)
    assert not [path for path in Path("s").iterdir() if path.is_dir()]


# Signals, as processes.


def start(folder, *line):
    command = [sys.executable, "-m", "diffusion_cli", "train", "-m", *line, "hydra.sweep.dir=sweep"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def wait_for(condition, process, seconds=1200):  # a busy machine is no failure
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)


def results(folder):
    """job's overrides -> bytes of metrics.csv and of the samples."""
    found = {}
    for name, ticket in jobs.tickets(folder).items():
        run = RunDirectory(folder / name)
        if run.status == "finished":
            samples = np.load(run.samples_file)["x0"].tobytes() if run.samples_file.is_file() else b""
            found[tuple(sorted(ticket.overrides))] = run.metrics_file.read_bytes(), samples
    return found


DRAWN = ["n=50", "evaluation.n=50", "evaluation.draws=1", "evaluation.floor_draws=2",
         *(f"~figures.{name}" for name in ("loss", "samples", "stages", "forward_strip", "reverse_strip",
                                           "trajectories", "metric_curve"))]  # fmt: skip
LONG = pytest.mark.skipif(
    "DIFFUSION_CLI_LONG_TESTS" not in os.environ, reason="half a minute: DIFFUSION_CLI_LONG_TESTS=1"
)


@pytest.mark.parametrize("count", [5, pytest.param(12, marks=LONG)])
def test_a_sweep_with_a_failing_job_is_killed_in_the_middle(tmp_path, monkeypatch, capfd, count):
    """The same command does exactly what is missing; what comes of it is what an undisturbed sweep gives, to the bit."""
    monkeypatch.chdir(tmp_path)
    small = [word for word in TINY if not word.startswith("plots")]
    line = [*small, *DRAWN, "optimizer.clip=null", "optimizer.warmup=0"]
    rates = [f"{k}e-3" for k in range(1, count + 1)]
    rates[1] = "1e30"  # the job that fails
    middle = count // 2  # the job in which the process is killed
    process = start(tmp_path, *line, f"optimizer.lr={','.join(rates)}")
    wait_for((tmp_path / f"sweep/{middle}/checkpoints/step_00000010.safetensors").is_file, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ended = ["finished", "failed", *["finished"] * (middle - 2)]
    assert [RunDirectory(f"sweep/{n}").status for n in range(count)] == [
        *ended,
        "interrupted",
        *[None] * (count - middle - 1),
    ]
    before = {n: Path(f"sweep/{n}/metrics.csv").stat().st_mtime_ns for n in range(middle) if n != 1}

    assert main(["train", "-m", *line, f"optimizer.lr={','.join(rates)}", "hydra.sweep.dir=sweep"]) == 1
    out, err = capfd.readouterr()
    status = [row[3] for row in table(out).values()]
    assert status == ["finished", "failed", *["finished"] * (count - 2)]
    assert err.splitlines()[-1].startswith(f"error: 1 of {count} jobs failed: job 1: diverged by step")
    assert {n: Path(f"sweep/{n}/metrics.csv").stat().st_mtime_ns for n in before} == before
    assert "resumed at step 10" in Path(f"sweep/{middle}/train.log").read_text()
    started = [ticket.started for ticket in jobs.tickets(Path("sweep")).values()]
    assert started == [2] * (middle + 1) + [1] * (count - middle - 1)
    found = results(Path("sweep"))
    assert len(found) == count - 1 == len(set(found.values())) and all(
        samples for _, samples in found.values()
    )

    again = [rates[middle], rates[-1]] if count < 12 else [rate for rate in rates if rate != "1e30"]
    assert main(["train", "-m", *line, f"optimizer.lr={','.join(again)}", "hydra.sweep.dir=straight"]) == 0
    straight = results(Path("straight"))
    assert len(straight) == len(again) and straight.items() <= found.items()


JOBLIB = pytest.mark.skipif(
    importlib.util.find_spec("joblib") is None, reason="hydra-joblib-launcher is not installed"
)


@pytest.mark.parametrize(
    "launcher", [[], pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"], marks=JOBLIB)]
)
def test_a_signal_saves_the_job_and_starts_no_other(tmp_path, launcher):
    """In this process, and in one of its own, which the launching one tells."""
    line = [word for word in TINY if not word.startswith(("steps", "checkpoint"))]
    process = start(tmp_path, *line, "steps=1000000", "seed=0,1", *launcher)
    wait_for((tmp_path / "sweep/0/metrics.csv").is_file, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM and err.splitlines()[-1] == "interrupted by SIGTERM"
    assert "hydra.sweep.dir=sweep goes on" in out and list(table(out)) == ["0"]
    run = RunDirectory(tmp_path / "sweep" / "0")
    assert run.status == "interrupted" and run.checkpoints()
    left = {path.name for path in (tmp_path / "sweep").iterdir()}
    assert left == {".lock", ".owner", ".sweep", "0", "multirun.yaml"}


# In a file.


GRID = """# @package _global_
defaults:
  - override /dataset: square
grid:
  model.width: [8, 16]
  seed: [0, 1]
"""


@pytest.fixture
def options(tmp_path):
    """A folder of options: write(text) makes its experiment `mine`."""

    def write(text):
        folder = tmp_path / "mine" / "experiment"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.yaml").write_text(text)
        return ["experiment=mine", "--config-dir", str(tmp_path / "mine")]

    return write


def test_a_grid_in_a_file_is_swept_and_a_key_of_the_line_takes_its_place(cli, options, tmp_path):
    # TINY says a width, which the file would otherwise sweep
    line = [*options(GRID), "hydra.sweep.dir=s", "steps=2"]
    code, out, _ = cli(*line)
    assert code == 0
    rows = table(out)
    assert [row[1] for row in rows.values()] == ["0", "1"]
    record = RunDirectory(tmp_path / "s" / "1").record
    assert (record.current["seed"], record.current["model"]["width"]) == (1, 8)
    assert record.choices["dataset"] == "square" and "grid" not in record.current
    # and the same line again has nothing left to do
    assert "finished already" in "".join(cli(*line)[1:])


def test_a_grid_needs_multirun_and_lists_of_values(cli, options, capfd, tmp_path):
    line = options(GRID)
    assert main(["train", *line]) == 2
    assert "is needed for the grid of model.width, seed" in capfd.readouterr().err
    code, _, err = cli("experiment=mine,digits", *line[1:])
    assert code == 2 and "a grid of its own" in err
    for grid, said in (
        ("grid: 3", "grid=3: holds keys"),
        ("grid: {seed: 3}", "grid.seed=3: must be a list"),
        ("grid: {seed: []}", "grid.seed=[]: must be a list"),
        ("grid: {seed: [abc]}", "seed=abc"),
        ("grid: {model.widht: [1, 2]}", "no such key"),
    ):
        code, _, err = cli(*options(f"# @package _global_\n{grid}\n"))
        assert code == 2 and said in err and err.count("\n") == 1, err
    assert not (tmp_path / "outputs").exists()
