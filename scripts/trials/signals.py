"""Signals at a random moment of any phase, from the start to the figures: none is lost, the exit code is its own, and the run
goes on as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from trials import kills
from trials.writes import LEFT_OUT

DEFAULT = 100
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
LINE = ["train", "dataset=circle", "steps=200", "batch_size=32", "model.width=16", "threads=1", "device=cpu", "log_every=7",
        "checkpoint.every=40", "checkpoint.keep=2", "stages.every=100", "stages.n=20", "n=200", "sampler.steps=10",
        "evaluation.n=200", "evaluation.draws=2", "evaluation.floor_draws=2", "resume=true", "hydra.run.dir=run",
        *(f"~figures.{name}" for name in LEFT_OUT)]  # fmt: skip


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    return kills.run(n, seed, folder, LINE, SIGNALS)
