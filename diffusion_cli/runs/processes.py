"""The processes of one command: which of them this one is, and how one process starts the others. (No torch here.)"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Config

# What torchrun sets for each process, srun, and submitit without a cluster: rank, size, and rank on this machine.
VARIABLES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID"),
)
# By what the jobs of a cluster differ, for ports of their own.
JOBS = ("SLURM_JOB_ID", "SUBMITIT_LOCAL_JOB_ID")
PATIENCE = 5.0  # seconds that the others have to leave once all is over


class Member(NamedTuple):
    """One of the processes of a command.

    rank: its number; process 0 owns the directory and the output.
    size: how many there are.
    local: its number among those of this machine, by which it takes a GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0


def member(environment: Mapping[str, str] = os.environ) -> Member:
    """Which of the processes that torchrun, srun or submitit has started this one is."""
    for names in VARIABLES:
        values = [environment.get(name, "") for name in names]
        if all(value.isdecimal() for value in values) and int(values[1]) > 1:
            return Member(*map(int, values))
    return Member()


def several() -> bool:
    """Whether a command that runs here has other processes."""
    return member().size > 1 or Others.running > 0


def meeting_place(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables by which torch finds process 0: those that are set, else made of the cluster's."""
    here = member(environment)
    job = next((int(environment[name]) for name in JOBS if environment.get(name, "").isdecimal()), 0)
    found = {
        "RANK": str(here.rank),
        "WORLD_SIZE": str(here.size),
        "MASTER_ADDR": first_host(environment.get("SLURM_STEP_NODELIST", "127.0.0.1")),
        "MASTER_PORT": str(20_000 + job % 40_000),
    }
    return found | {name: environment[name] for name in found if name in environment}


def first_host(hosts: str) -> str:
    """The first of a list of hosts as SLURM writes it.

    >>> first_host("node[007-012,20],other")
    'node007'
    """
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", re.split(r",(?![^\[]*\])", hosts)[0])


def size_of(config: Config) -> int:
    """How many processes a command has: those that were started, or as many as the key `processes` says."""
    started, given = member().size, config.get("processes")
    if started > 1 and given not in (None, started):
        raise UserError("processes", given, f"{started} have been started; leave it out")
    return started if started > 1 else given or 1


def settled(config: Config, before: Config | None = None) -> Config:
    """A training's configuration with its number of shards: the given one, that of the run which it continues, or one
    for each process. UserError where it does not suit the processes or the batch.

    before: the configuration of the run that goes on.
    """
    size = size_of(config)
    shards = config["shards"] or (before or {}).get("shards") or (1 if before is not None else size)
    if shards % size:
        reason = f"must be a multiple of the {size} processes, each of which takes as many of them"
        raise UserError("shards", shards, reason)
    if config["batch_size"] < shards:
        raise UserError("shards", shards, f"is more than batch_size={config['batch_size']}")
    if size > 1 and str(config["device"]).startswith("cuda:"):
        reason = "is one GPU; of several processes each takes its own: device=cuda"
        raise UserError("device", config["device"], reason)
    return config | {"shards": shards}


class Others:
    """Processes 1, 2, ... of a command, started here by process 0, as torchrun would. They take their task from it.

    port: at which process 0 is found.
    """

    # of which there are some now
    running: ClassVar[int] = 0

    def __init__(self, size: int, port: int) -> None:
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "diffusion_cli"],
                env=os.environ | shared | {"RANK": str(k), "LOCAL_RANK": str(k), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
            )
            for k in range(1, size)
        ]
        Others.running += 1

    def ended(self) -> str | None:
        """Which of them has ended, and how; one that was killed before one that only followed it."""
        codes = {k: process.poll() for k, process in enumerate(self.processes, 1)}
        for k, code in sorted(codes.items(), key=lambda item: item[1] or 0):
            if code is not None:
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                return f"process {k} {how}"
        return None

    def end(self) -> None:
        """Waits a little until they have left, and ends those that do not."""
        Others.running -= 1
        until = time.monotonic() + PATIENCE
        for process in self.processes:
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
