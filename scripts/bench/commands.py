"""Whole commands on one thread: the time to the first step beside imports alone, and the default training on the circle.

Seconds of the processor, which on an idle machine are those of the clock; the largest memory is that of the process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.turns import heading, row

TRAIN = ["-m", "diffusion_cli", "train", "dataset=circle", "device=cpu"]
# nothing but the step
SHORT = ["steps=1", "plots=false", "stages.every=0"]
# seconds
MOST_AT_ALL, MOST_AFTERWARDS, MOST_TO_THE_STEP = 21, 5, 1.2


def seconds(words: list[str]) -> tuple[float, float]:
    """Of one process: seconds of the processor, and its largest memory in MB."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)  # fmt: skip
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)}: exit {child.returncode}")
    # Linux counts kilobytes, macOS bytes.
    return used.ru_utime + used.ru_stime, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main(threads: int, rounds: int) -> None:
    imports, first = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(max(rounds // 3, 2)):
            imports.append(seconds(["-c", "import torch, hydra"])[0])
            first.append(seconds([*TRAIN, *SHORT, f"hydra.run.dir={folder}/{turn}"])[0])
        begun = time.perf_counter()
        whole, memory = seconds([*TRAIN, f"hydra.run.dir={folder}/whole"])
        clock = time.perf_counter() - begun
        training = json.loads(Path(folder, "whole", "summary.json").read_text())["seconds"]
    start, step = statistics.median(imports), statistics.median(first)
    heading("", "seconds", "at most")
    row("import torch, hydra", f"{start:.2f}", "")
    row("train dataset=circle, one step and its checkpoint", f"{step:.2f}", f"{MOST_TO_THE_STEP * start:.2f}")
    row("train dataset=circle, whole", f"{whole:.1f}", f"{MOST_AT_ALL}")
    # Both on the clock, for the run itself has no other.
    row("of it samples, evaluation and figures", f"{clock - training - step:.1f}", f"{MOST_AFTERWARDS}")
    print(f"\nLargest memory of the training: {memory:,.0f} MB.")
