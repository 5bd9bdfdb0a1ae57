"""Runs killed at a random moment, then resumed: the end must be, bit for bit, the straight run's."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
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
        "loss": str(run.summary.get("loss")),
        **{name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(files.items())},
    }


def run(
    n: int, seed: int, folder: Path, line: list[str] = LINE, numbers: Sequence[int] = (signal.SIGKILL,)
) -> dict[str, Any]:
    """numbers: signals, of which each trial sends one."""
    from diffusion_cli.runs import checkpoint
    from diffusion_cli.runs.directory import FINISHED, INTERRUPTED, RunDirectory

    rng = random.Random(seed)
    straight = folder / "straight"
    straight.mkdir()
    end = Child(line, straight).wait()
    if end.code:
        return {"broken": [f"the straight run: exit {end.code}: {end.err}"]}
    truth, broken, found, late = essence(straight), [], [], 0
    statuses: Counter[str] = Counter()
    while len(found) < n:
        trial = len(found)
        home = folder / f"killed-{trial}-{late}"
        home.mkdir()
        child, number = Child(line, home), rng.choice(numbers)
        time.sleep(rng.uniform(0, end.seconds))
        over = child.over()
        if not over:
            child.kill(number)
        ended = child.wait()
        run = RunDirectory(home / "run")
        if over or (ended.code == 0 and run.status == FINISHED):  # it was done before its time had come
            late += 1
            shutil.rmtree(home)
            continue
        found.append(len(run.checkpoints()))
        sent = f"trial {trial}, {signal.Signals(number).name}"
        statuses[str(run.status)] += 1
        if ended.code not in (-number, 128 + number):
            broken.append(f"{sent}: exit {ended.code}: {ended.err[-300:]}")
        if run.status not in (None, INTERRUPTED):
            broken.append(f"{sent}: exit {ended.code}, status {run.status}")
        if "Traceback" in ended.err or "Exception ignored" in ended.err:
            broken.append(f"{sent}: {ended.err[-500:]}")
        for file in run.checkpoints():
            try:
                checkpoint.load(file)
            except checkpoint.Damaged as damage:
                broken.append(f"{sent}: {damage}")
        again = Child(line, home).wait()
        if again.code or "Traceback" in again.err:
            broken.append(f"{sent}: resumed: exit {again.code}: {again.err[-500:]}")
            continue
        other = essence(home)
        broken += [f"{sent}: {key} differs" for key in truth if other.get(key) != truth[key]]
        broken += [f"{sent}: {f} is left" for f in run.path.rglob("*.part*")]
        shutil.rmtree(home)
    return {
        "tried": n,
        "before the first checkpoint": sum(count == 0 for count in found),
        "statuses before going on": dict(statuses),
        "too late": late,
        "seconds of the straight run": round(end.seconds, 2),
        "broken": broken,
    }
