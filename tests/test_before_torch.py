"""What torch reads of the environment is there before it is loaded, in every process that loads it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from diffusion_cli.cli.app import entry
from diffusion_cli.cli.before_torch import SPINS

ROOT = Path(__file__).parents[1]
NOTES = """
import os
with open(os.environ["NOTES"], "a") as notes:
    names = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "TORCH_CPP_LOG_LEVEL"
    notes.write(" ".join(str(os.environ.get(name)) for name in names) + "\\n")
raise ImportError("a torch that only notes when it is imported")
"""
MODULE = ["-m", "diffusion_cli"]
SCRIPT = ["-c", "import sys; from diffusion_cli.__main__ import main; sys.exit(main())"]
joblib = pytest.mark.skipif(not importlib.util.find_spec("joblib"), reason="joblib is not installed")


@pytest.fixture
def seen(tmp_path):
    """Runs a command with a torch in place of the real one; what that has seen of the environment when it was imported."""
    (tmp_path / "torch.py").write_text(NOTES)
    notes = tmp_path / "notes"

    def run(start, *words, **settings):
        ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "TORCH_CPP_LOG_LEVEL")
        inherited = {k: v for k, v in os.environ.items() if k not in ours}
        path = os.pathsep.join((str(tmp_path), str(ROOT)))
        environment = inherited | {"PYTHONPATH": path, "NOTES": str(notes)} | settings
        line = [sys.executable, *start, "train", "dataset=circle", *words]
        done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        return set(notes.read_text().splitlines())

    return run


@pytest.mark.parametrize("start", [MODULE, SCRIPT], ids=["module", "script"])
def test_before_torch(seen, start):
    assert seen(start) == {f"{SPINS} None ERROR"}


def test_the_users_count_wins(seen):
    assert seen(MODULE, GOMP_SPINCOUNT="7") == {"7 None ERROR"}


def test_the_users_policy_wins(seen):
    assert seen(MODULE, OMP_WAIT_POLICY="passive") == {"None passive ERROR"}


def test_the_lines_count_wins(seen):
    assert seen(MODULE, "+hydra.job.env_set.GOMP_SPINCOUNT=7") == {"7 None ERROR"}


def test_the_users_level_wins(seen):
    assert seen(MODULE, TORCH_CPP_LOG_LEVEL="INFO") == {f"{SPINS} None INFO"}


@joblib
def test_in_the_workers_of_a_launcher(seen):
    line = ["-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert seen(MODULE, *line) == {f"{SPINS} None ERROR"}


def test_a_task_sets_it_where_nothing_was_inherited(monkeypatch):
    """As in a worker on another machine: the task is called there, and not the command line."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    with pytest.raises(ValueError, match="HydraConfig was not set"):
        entry("diffusion_cli.cli.entries.train").__wrapped__(None)
    assert os.environ["GOMP_SPINCOUNT"] == SPINS
