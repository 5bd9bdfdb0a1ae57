"""The share of training time that checkpoints take: every 500 steps of the default training on the circle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from trials.child import load

DEFAULT = 1


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """n: trainings, one after another, whose times are added up."""
    load()
    from diffusion_cli.__main__ import main
    from diffusion_cli.commands.course import Training
    from diffusion_cli.runs.directory import RunDirectory

    spent: list[float] = []
    save = Training.save_checkpoint

    def timed(training: Training) -> None:
        started = time.perf_counter()
        save(training)
        spent.append(time.perf_counter() - started)

    Training.save_checkpoint = timed  # type: ignore[method-assign]
    try:
        seconds = 0.0
        for k in range(n):
            code = main(["train", "dataset=circle", "checkpoint.every=500", "stages.every=0", "plots=false",
                         f"seed={seed + k}", f"hydra.run.dir={folder}/{k}"])  # fmt: skip
            if code:
                return {"broken": [f"exit {code}"]}
            seconds += RunDirectory(folder / str(k)).summary["seconds"]
    finally:
        Training.save_checkpoint = save  # type: ignore[method-assign]
    share = sum(spent) / seconds
    return {
        "seconds of training": round(seconds, 2),
        "checkpoints": len(spent),
        "milliseconds each": round(1000 * sum(spent) / len(spent), 2),
        "share": round(share, 5),
        "broken": [] if share < 0.02 else [f"{share:.2%} of the time went into checkpoints"],
    }
