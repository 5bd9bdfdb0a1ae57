"""One job of a sweep, in whatever process it runs: its directory, its status, and the signals that reach it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffusion_cli.cli.plain import line_words, own, tree
from diffusion_cli.errors import Interrupted
from diffusion_cli.runs import jobs
from diffusion_cli.runs.directory import FAILED, FINISHED, RunDirectory
from diffusion_cli.runs.processes import member
from diffusion_cli.runs.resume import fingerprint

log = logging.getLogger(__name__)
RESOLVER = "job_directory"
HYDRA = ".hydra"
WATCH = 0.5  # seconds between looks whether the sweep was halted, in a job that has a process of its own

here = False  # whether this is the process that launches the sweep
# there: how many jobs the sweep has, where that is known, and when it began
planned: tuple[int, float] | None = None


def key_of(config: DictConfig) -> str:
    """A digest of what a job is: its command and its own part of a composed configuration, resolved."""
    try:
        plain = tree(own(config), resolve=True)
    except OmegaConfBaseException:
        # a value that only the running job has, such as its directory
        plain = tree(own(config))
    return fingerprint(plain | {"command": str(config.hydra.job.name)})


def directory_of(*, _root_: DictConfig) -> str:
    """The resolver `${job_directory:}` behind hydra.sweep.subdir: the job's directory, made where there is none."""
    hydra = _root_.hydra
    if hydra.mode != RunMode.MULTIRUN or OmegaConf.is_missing(hydra.job, "num"):
        return "0"  # nothing is being launched: somebody looks at the configuration
    if member().rank > 0:
        # Hydra makes a directory for every process of a job; that of process 0 is the job's
        return tempfile.mkdtemp()
    return jobs.claim_job(Path(hydra.sweep.dir), key_of(_root_), hydra.job.num, line_words(_root_))


def first_start(*, _root_: DictConfig) -> str | None:
    """The resolver `${first_start:}` behind hydra.output_subdir: where Hydra writes its files; null where they are
    already, so that a resumed run keeps those of its first start."""
    directory = OmegaConf.select(_root_, "hydra.runtime.output_dir", throw_on_missing=False)
    began = directory is not None and Path(directory, HYDRA, "config.yaml").exists()
    return None if began else HYDRA


OmegaConf.register_new_resolver(RESOLVER, directory_of, replace=True)
OmegaConf.register_new_resolver("first_start", first_start, replace=True)


def _say_place(done: int, jobs: int, began: float) -> None:
    """Which job of how many begins, and how long the rest takes at the pace so far."""
    rest = ""
    if done:
        left = (time.monotonic() - began) / done * (jobs - done)
        rest = f", about {left / 60:.0f} min left" if left > 120 else f", about {left:.0f} s left"
    log.info("job %d of %d%s", done + 1, jobs, rest)


def is_found(config: DictConfig) -> bool:
    """Whether the job's directory is found by its configuration, and not named by the user."""
    return RESOLVER in str(tree(config.hydra.sweep)["subdir"])


class Job:
    """One job of a sweep, in the process that runs it. hydra: its node of that name. It goes ahead unless a signal
    has ended the sweep."""

    def __init__(self, hydra: HydraConf):
        self.hydra = hydra
        self.run, self.folder = RunDirectory(hydra.runtime.output_dir), Path(hydra.sweep.dir)
        self.name = os.path.relpath(self.run.path, self.folder.absolute())
        self.goes_ahead, self.begun = jobs.halted(self.folder) is None, False

    @contextlib.contextmanager
    def running(self, config: DictConfig) -> Iterator[None]:
        """Around the job: its start is counted, and the signals of the sweep reach it. config: the composed one."""
        jobs.start(self.run.path, None if is_found(config) else key_of(config), line_words(config))
        self.begun = True
        if here and planned is not None:
            _say_place(self.hydra.job.num, *planned)
        with _watching(self.folder) if not here else contextlib.nullcontext():
            try:
                yield
            except (Interrupted, KeyboardInterrupt):
                if here:
                    raise
                # Across a process boundary it would make some launchers kill the others, who are still saving.

    def give_back(self) -> None:
        """The job does not begin: its directory goes, if there was nothing in it before."""
        if not self.run.summary_file.is_file():
            jobs.give_job_back(self.run.path)

    def failed(self, line: str) -> None:
        if self.begun:
            self.run.write_summary(**(self.run.summary | {"status": FAILED, "error": line}))

    def finished(self) -> None:
        if self.run.status != FINISHED:  # most commands write no summary
            kept = {key: value for key, value in self.run.summary.items() if key != "error"}
            self.run.write_summary(**(kept | {"status": FINISHED}))


@contextlib.contextmanager
def _watching(folder: Path) -> Iterator[None]:
    """Passes the signal that halts the sweep on to this process, unless it has had it already, from the terminal."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(WATCH):
            signum = jobs.halted(folder)
            if signum is not None:
                # a first signal leaves the default: see signals.Stop
                if signal.getsignal(signum) != signal.SIG_DFL:
                    os.kill(os.getpid(), signum)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
