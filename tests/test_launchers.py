"""Launchers and sweepers of others, each run for real: all jobs done, and what came of them the same as one by one."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

import pytest
import yaml

from diffusion_cli.__main__ import main
from diffusion_cli.runs import results as gather
from diffusion_cli.runs.directory import RunDirectory

ROOT = Path(__file__).parents[1]
TINY = ["steps=10", "batch_size=16", "model.depth=1", "model.width=8", "log_every=5", "stages.every=0", "device=cpu",
        "plots=false", "optimizer.warmup=0", "optimizer.clip=null"]  # fmt: skip
RATES = "optimizer.lr=1e-3,1e30"  # the second job fails


def needs(plugin):
    there = importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(
        f"hydra_plugins.hydra_{plugin}"
    )
    return pytest.mark.skipif(not there, reason=f"hydra-{plugin.replace('_', '-')} is not installed")


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )  # of the workers

    def run(*line):
        capfd.readouterr()
        code = main(["train", "-m", *TINY, *line, "hydra.sweep.dir=sweep"])
        return code, *capfd.readouterr()

    return run


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["joblib", "hydra.launcher.n_jobs=2"], marks=needs("joblib_launcher"), id="joblib"),
        pytest.param(
            ["submitit_local", "hydra.launcher.timeout_min=5"],
            marks=needs("submitit_launcher"),
            id="submitit",
        ),
        pytest.param(["ray", "+hydra.launcher.ray.init.num_cpus=2"], marks=needs("ray_launcher"), id="ray"),
    ],
)
def test_a_launcher(cli, launcher):
    """Jobs in processes of their own: own directories, own status, a share of the cores each, and a failure is told."""
    line = ["dataset=dinohead", RATES, f"hydra/launcher={launcher[0]}", *launcher[1:]]
    code, out, err = cli(*line)
    assert code == 1 and err.splitlines()[-1].startswith(
        "error: 1 of 2 jobs failed: job 1: diverged by step 5"
    ), err
    assert [result.status for result in gather.find("sweep")] == ["finished", "failed"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert RunDirectory("sweep/0").summary["threads"] == (
        max(1, cores // 2) if launcher[0] == "joblib" else 1
    )
    assert "diverged" in Path("sweep/1/train.log").read_text()
    assert out.splitlines()[-1].startswith("job 1 (optimizer.lr=1e+30, seed=0): diverged by step 5")

    first = Path("sweep/0/metrics.csv").read_bytes()
    threads = f"threads={RunDirectory('sweep/0').summary['threads']}"
    assert (
        main(
            ["train", "-m", *TINY, "dataset=dinohead", "optimizer.lr=1e-3", threads, "hydra.sweep.dir=alone"]
        )
        == 0
    )
    assert Path("alone/0/metrics.csv").read_bytes() == first


@needs("optuna_sweeper")
def test_a_search_by_metric(cli, monkeypatch):
    """The search is told the number that `optimize=` names; a failed job is a failed trial and stops nothing."""
    search = [
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.n_trials=3",
    ]
    # Optuna walks the grid at random, and its sweeper writes no results where a failed trial comes last.
    monkeypatch.setattr(random, "choice", max)
    code, _, err = cli(*search, "optimize=loss", "optimizer.lr=1e30,1e-4,1e-1")
    assert code == 1 and "1 of 3 jobs failed" in err
    results = {result.keys["optimizer.lr"]: result for result in gather.find("sweep")}
    assert results[1e30].status == "failed"
    best = min((results[1e-4], results[1e-1]), key=lambda result: result.numbers["loss"])
    found = yaml.safe_load(Path("sweep/optimization_results.yaml").read_text())
    assert found["best_value"] == best.numbers["loss"]
    assert float(found["best_params"]["optimizer.lr"]) == best.keys["optimizer.lr"]


@needs("optuna_sweeper")
def test_a_search_for_a_number_that_is_not_there_ends_at_once(cli):
    code, _, err = cli("hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=3", "optimize=los",
                       "optimizer.lr=interval(1e-4,1e-2)")  # fmt: skip
    assert code == 2 and "error: optimize=los: no such number in summary.json; did you mean loss?" in err
    assert [path.name for path in Path("sweep").iterdir() if path.is_dir()] == ["0"]
