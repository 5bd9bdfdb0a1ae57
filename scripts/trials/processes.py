"""One training by 1, 2 and 4 processes, and by 4 of which one is killed, then by 2 of which one is killed while a checkpoint
is written, then by 1: weights, averages, metrics.csv, samples and evaluation must be the same, bit for bit."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEFAULT = 1
LINE = ("train device=cpu threads=1 shards=4 steps=120 batch_size=32 log_every=10 checkpoint.every=4 stages.every=60 stages.n=20 "
        "n=64 plots=false evaluate=true resume=true")  # fmt: skip
POINTS = "n=200 evaluation.n=200 evaluation.draws=2 evaluation.floor_draws=2"
KINDS = {
    "circle": f"dataset=circle {POINTS}",
    "mixture": f"dataset=gmm2px guidance=cfg {POINTS}",
    "sets": "dataset=stars dataset.n=24 dataset.test=8 dataset.size=64 dataset.points=32 dataset.sample_points=32 n=8 "
    "evaluation.n=8 evaluation.points=32 evaluation.emd_points=16",
    "digits": "dataset=mnist dataset.source=bundled model.width=16 sampler.steps=5 evaluation.n=64 evaluation.floor_draws=2",
    "classifier": "dataset=gmm2px objective=classifier",
}
LONGEST = 300.0  # seconds for one command


class Command:
    """A command line in a process of its own, as a user starts it."""

    def __init__(self, folder: Path, words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "diffusion_cli", *words.split(), f"hydra.run.dir={folder}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def others(self) -> list[int]:
        """The processes that it has started."""
        pid = self.process.pid
        return [int(k) for k in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def wait_for(self, done: Callable[[], bool]) -> bool:
        """False where the command ends before."""
        until = time.monotonic() + LONGEST
        while not done():
            if self.process.poll() is not None or time.monotonic() > until:
                return False
        return True

    def end(self) -> tuple[int, str]:
        """Exit code and the last line of errors."""
        try:
            _, errors = self.process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return -1, "did not end"
        return self.process.returncode, (errors.strip().splitlines() or [""])[-1]


def essence(folder: Path) -> dict[str, str]:
    """Digests of all that a training has made."""
    import numpy as np

    from diffusion_cli.runs import checkpoint
    from diffusion_cli.runs.directory import RunDirectory

    run = RunDirectory(folder)
    found = {"weights, averages": checkpoint.digest(checkpoint.load(run.checkpoints()[-1])["state"])}
    found["metrics.csv"] = hashlib.sha256(run.metrics_file.read_bytes()).hexdigest()
    found["evaluation"] = repr(run.summary.get("metrics"))
    if run.samples_file.exists():
        with np.load(run.samples_file) as arrays:
            found["samples"] = hashlib.sha256(arrays["x0"].tobytes()).hexdigest()
    return found


def newest(folder: Path) -> str:
    return max((file.name for file in folder.glob("checkpoints/step_*")), default="")


def is_saving(folder: Path) -> bool:
    """Whether a checkpoint has its temporary name."""
    return any(name.startswith(".step_") for name in os.listdir(folder / "checkpoints"))


def killed(folder: Path, words: str, rng: random.Random) -> list[str]:
    """What went wrong of a training by 4, 2 and 1 processes, the first two of which lose one."""
    wrong = []
    command = Command(folder, f"{words} processes=4")
    if not command.wait_for(lambda: newest(folder) != ""):
        return [f"4 processes ended: {command.end()}"]
    # it waits while another comes
    command.process.send_signal(signal.SIGSTOP)
    second = Command(folder, f"{words} processes=2").end()
    if second[0] != 2 or "is being trained by process" not in second[1]:
        wrong.append(f"a second launcher: {second}")
    os.kill(rng.choice(command.others), signal.SIGKILL)
    command.process.send_signal(signal.SIGCONT)
    if (end := command.end())[0] != 1 or "ended by SIGKILL" not in end[1]:
        wrong.append(f"one of 4 killed: {end}")

    before = newest(folder)
    command = Command(folder, f"{words} processes=2")
    # a file under its temporary name: process 0 is in the middle of a save
    if command.wait_for(lambda: newest(folder) != before) and command.wait_for(lambda: is_saving(folder)):
        os.kill(command.others[0], signal.SIGKILL)
        reached = newest(folder)
        if (end := command.end())[0] != 1:
            wrong.append(f"1 of 2 killed during a save: {end}")
        if newest(folder) < reached:
            wrong.append(f"a checkpoint is lost: {reached}")
    else:
        wrong.append(f"no save was caught: {command.end()}")
    if (end := Command(folder, words).end())[0]:
        wrong.append(f"resumed by 1: {end}")
    return wrong


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """n: how often each kind is tried. Prints a line for each run."""
    broken, rng = [], random.Random(seed)
    for trial in range(n):
        for kind, words in KINDS.items():
            place, line, ends = folder / f"{kind}{trial}", f"{LINE} {words} seed={seed + trial}", {}
            for processes in (1, 2, 4):
                started = time.monotonic()
                if (end := Command(place / str(processes), f"{line} processes={processes}").end())[0]:
                    broken.append(f"{kind}: {processes} processes: {end}")
                ends[str(processes)] = place / str(processes), time.monotonic() - started
            started = time.monotonic()
            broken += [f"{kind}: {what}" for what in killed(place / "killed", line, rng)]
            ends["4, killed, 2, killed, 1"] = place / "killed", time.monotonic() - started
            straight = essence(ends["1"][0])
            for name, (run, seconds) in ends.items():
                ours = essence(run)
                other = [what for what in straight if ours.get(what) != straight[what]]
                broken += [f"{kind}: {name}: other {what}" for what in other]
                sha = ours["weights, averages"][:12]
                print(f"{kind:<12}{name:<26}{sha}  {'other ' + ', '.join(other) if other else 'equal':<20}{seconds:6.0f} s",
                      file=sys.stderr, flush=True)  # fmt: skip
            shutil.rmtree(place)
    return {"kinds": list(KINDS), "trials": n, "broken": broken}
