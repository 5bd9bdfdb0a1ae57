"""Jobs per minute of a sweep under joblib beside Hydra's basic launcher, whole commands, start and all.

Both sweeps have the same jobs (an eighth of the circle's training, a small evaluation and all figures), one thread each,
and take turns; the ratio is that of the medians. What both spend once (imports, the check of all jobs) counts for more
the shorter the jobs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.turns import Turns, heading, row

ROOT = Path(__file__).resolve().parents[2]
SHORT = [
    "dataset=circle",
    "steps=1000",
    "n=1000",
    "evaluation.n=1000",
    "evaluation.draws=1",
    "threads=1",
    "device=cpu",
]


def seconds(folder: str, jobs: int, line: list[str]) -> float:
    """Wall time of one sweep over so many seeds, in a new directory."""
    command = [sys.executable, "-m", "diffusion_cli", "train", "-m", f"seed=range({jobs})", *line]
    begun = time.perf_counter()
    done = subprocess.run([*command, f"hydra.sweep.dir={folder}"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - begun


def main(threads: int, rounds: int, jobs: int = 8, workers: int = 2) -> None:
    launchers = {"basic": [], "joblib": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"]}
    taken: dict[str, list[float]] = {name: [] for name in launchers}
    for _ in range(max(rounds // 6, 1)):
        for name, launcher in launchers.items():
            with tempfile.TemporaryDirectory() as folder:
                taken[name].append(seconds(folder, jobs, [*SHORT, *launcher]))
    turns = Turns(taken)
    heading("launcher", "jobs per minute", "times as many")
    for name in launchers:
        times = turns.seconds("basic") / turns.seconds(name)
        row(name, f"{jobs / turns.seconds(name) * 60:.1f}", f"{times:.2f}")
