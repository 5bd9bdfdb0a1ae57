"""Trainings killed with SIGKILL at a random moment, then resumed: the end must be, bit for bit, the straight run's."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path
from typing import Any

from trials.child import Child

DEFAULT = 50
LINE = ["train", "dataset=circle", "steps=600", "batch_size=32", "model.width=16", "threads=1", "device=cpu",
        "log_every=7", "checkpoint.every=40", "checkpoint.keep=2", "stages.every=200", "stages.n=20", "plots=false",
        "resume=true", "hydra.run.dir=run"]  # fmt: skip


def essence(folder: Path) -> dict[str, str]:
    """Digests of all that training made: network, averages and optimizer; which checkpoint is best; the loss curve;
    the samples drawn on the way."""
    from diffusion_cli.runs import checkpoint
    from diffusion_cli.runs.directory import RunDirectory

    run = RunDirectory(folder / "run")
    content = checkpoint.load(run.checkpoints()[-1])
    files = {"metrics.csv": run.metrics_file} | {
        f"stages/{f.name}": f for f in (run.path / "stages").glob("*.npz")
    }
    return {
        "state": checkpoint.digest(content["state"]),
        "best": str(content["best"]),
        **{name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(files.items())},
    }


def run(n: int, seed: int, folder: Path, line: list[str] = LINE) -> dict[str, Any]:
    from diffusion_cli.runs import checkpoint
    from diffusion_cli.runs.directory import RunDirectory

    rng = random.Random(seed)
    straight = folder / "straight"
    straight.mkdir()
    end = Child(line, straight).wait()
    if end.code:
        return {"broken": [f"the straight run: exit {end.code}: {end.err}"]}
    truth, broken, found, late = essence(straight), [], [], 0
    while len(found) < n:
        trial = len(found)
        home = folder / f"killed-{trial}-{late}"
        home.mkdir()
        child = Child(line, home)
        time.sleep(rng.uniform(0, end.seconds))
        over = child.over()
        if not over:
            child.kill()
        child.wait()
        if over:  # the run was done before its time had come
            late += 1
            continue
        run = RunDirectory(home / "run")
        found.append(len(run.checkpoints()))
        for file in run.checkpoints():
            try:
                checkpoint.load(file)
            except checkpoint.Damaged as damage:
                broken.append(f"trial {trial}: {damage}")
        again = Child(line, home).wait()
        if again.code or "Traceback" in again.err:
            broken.append(f"trial {trial}: resumed: exit {again.code}: {again.err[-500:]}")
            continue
        other = essence(home)
        broken += [f"trial {trial}: {key} differs" for key in truth if other.get(key) != truth[key]]
        broken += [f"trial {trial}: {f} is left" for f in run.path.rglob("*.part*")]
    return {
        "kills": n,
        "killed before the first checkpoint": sum(count == 0 for count in found),
        "seconds of the straight run": round(end.seconds, 2),
        "broken": broken,
    }
