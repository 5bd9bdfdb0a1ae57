"""A sweep (`-m`) that survives: all its jobs are judged before one begins, a failed one does not stop the others, a
signal stops them all after saving, and the same line with the same `hydra.sweep.dir` does what is missing.

Hydra composes, orders and launches the jobs, perhaps in other processes. What is ours happens at three places: in the
process that launches, before and after (`plan`, `begin`, `guard`); and around each job, whose directory is found by its
configuration (see job.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.cli import job
from diffusion_cli.cli.job import key_of
from diffusion_cli.cli.messages import explain
from diffusion_cli.cli.plain import current, is_said, line_words, say_more, set_hydra
from diffusion_cli.errors import Interrupted, RunFailed, UserError
from diffusion_cli.runs import jobs, tables
from diffusion_cli.runs import results as gather
from diffusion_cli.runs.directory import FINISHED, RunDirectory
from diffusion_cli.runs.session import Heartbeat
from diffusion_cli.runs.signals import CAUGHT

log = logging.getLogger(__name__)
BASIC = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"

_sweep: Sweep | None = None  # the one that this process launches


# Before: what the line asks for.


def plan(config: DictConfig, judge: Callable[[DictConfig], object]) -> None:
    """Sets the threads of jobs that run side by side, then composes every job of the line and has it judged.

    judge(job's config) raises UserError. Sweepers that choose values as they go are not judged ahead. Raises
    UserError, too, where two jobs have the same configuration.
    """
    _share_cores(config)
    job.planned = None
    if config.hydra.sweeper.get("_target_") != BASIC:
        return
    loader = GlobalHydra.instance().config_loader()
    keys, folders = set(), set()
    for number, line in enumerate(_lines(config)):
        composed = loader.load_sweep_config(config, line)
        set_hydra(composed, "job.id", number)
        set_hydra(composed, "job.num", number)
        # keys may refer to it
        set_hydra(composed, "runtime.output_dir", os.path.abspath(f"{config.hydra.sweep.dir}/{number}"))
        if {*_of_files(composed)} - {*_of_files(config)}:
            raise UserError(" ".join(line), ..., "holds a grid of its own; name it alone")
        with current(composed):
            key = key_of(composed)
            judge(composed)
            if key in keys:
                raise UserError(" ".join(line), ..., "twice in this sweep")
            keys.add(key)
            if not job.is_found(composed):
                folder = str(OmegaConf.select(composed, "hydra.sweep.subdir"))
                if folder in folders:
                    raise UserError("hydra.sweep.subdir", folder, "is the directory of more than one job")
                folders.add(folder)
    job.planned = len(keys), time.monotonic()


def _of_files(config: DictConfig) -> list[str]:
    """What the sweep goes through by a file's grid, as words of a line."""
    return [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]


def _lines(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, as the basic sweeper makes them."""
    line = [*_of_files(config), *line_words(config)]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    (lines,) = BasicSweeper.split_arguments(parser.parse_overrides(line), None)
    return lines


def line_of(config: DictConfig) -> list[str]:
    """The line as such: its overrides in one order, whatever theirs and that of the values; without `resume`."""
    line = []
    for override in OverridesParser.create().parse_overrides([*_of_files(config), *line_words(config)]):
        name = override.get_key_element()
        if name == "resume":
            continue
        if override.is_sweep_override() and override.is_discrete_sweep():
            line.append(f"{name}={','.join(sorted(map(str, override.sweep_string_iterator())))}")
        else:
            line.append(str(override.input_line))
    return sorted(line)


def earlier(config: DictConfig, directory: str) -> str | None:
    """For resume=true with a directory named by the time: the newest sweep beside it that this same line began."""
    found = jobs.newest_sweep(Path(directory).parent, config.hydra.job.name, line_of(config))
    if found is None:
        log.info("no sweep of this line is in %s yet", Path(directory).parent)
    return str(found) if found else None


def _share_cores(config: DictConfig) -> None:
    """Jobs side by side get as many threads as there are cores for each, unless the line says `threads=`: two threads
    each on two cores are several times slower than one."""
    cores, many = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 0
    name = str(config.hydra.launcher.get("_target_", "")).rpartition(".")[2]
    if name == "JoblibLauncher":
        asked_for = config.hydra.launcher.n_jobs
        many = asked_for if asked_for > 0 else max(1, cores + 1 + asked_for)
    elif name in ("LocalLauncher", "RayLauncher"):  # as many at once as there are, or as there are cores
        many = cores
    if not many or "threads" not in config:
        return
    if not is_said(config, "threads"):
        say_more(config, f"threads={max(1, cores // many)}")
    elif isinstance(config.threads, int) and config.threads * many > cores:
        log.warning(
            "%d jobs of %d threads at once on %d cores disturb each other", many, config.threads, cores
        )


# In the process that launches: signals, and what is said in the end.


class Sweep:
    """A sweep as the process sees it that launches its jobs.

    folder: hydra.sweep.dir. outside: whether jobs run in processes of their own.
    """

    def __init__(self, folder: Path, command: str, line: list[str], outside: bool):
        self.folder = folder
        self.signum: int | None = None
        try:
            lock = RunDirectory(folder).lock()
        except UserError as error:
            reason = error.reason.replace("trained", "swept")
            raise UserError("hydra.sweep.dir", str(folder), reason) from None
        halt = folder / jobs.HALT
        halt.unlink(missing_ok=True)
        jobs.write_line(folder, command, line)
        self.before = jobs.tickets(folder)
        self.ending = contextlib.ExitStack()
        self.ending.callback(lock.release)
        self.ending.callback(halt.unlink, missing_ok=True)
        if outside:
            # what the jobs say may be in files of their own
            self.ending.enter_context(Heartbeat("the sweep"))
        with contextlib.suppress(ValueError):  # not in the main thread: signals are not ours to take
            for number in CAUGHT:
                self.ending.callback(signal.signal, number, signal.signal(number, self._note))

    def _note(self, signum: int, frame: FrameType | None) -> None:
        """No further job begins, and those in processes of their own save and stop; a second signal leaves at once."""
        for number in CAUGHT:
            signal.signal(number, signal.SIG_DFL)
        self.signum = signum
        jobs.halt(self.folder, signum)

    def begun(self) -> list[str]:
        """The directories of the jobs that have been started by this line."""
        then = {name: ticket.started for name, ticket in self.before.items()}
        return [name for name, now in jobs.tickets(self.folder).items() if now.started > then.get(name, 0)]

    def conclude(self, error: BaseException | None) -> None:
        """Says how the jobs ended, and raises what that means for the command."""
        begun = self.begun()
        if error is not None and not begun:
            raise error
        results = [gather.read_result(self.folder / name, name) for name in begun]
        print(tables.terminal(results), flush=True)
        if self.signum is not None:
            error = Interrupted(self.signum)
        if error is not None and not isinstance(error, Exception):
            if isinstance(error, (Interrupted, KeyboardInterrupt)):
                print(f"the same line with hydra.sweep.dir={self.folder} goes on", flush=True)
            raise error
        undone = [result for result in results if result.status != FINISHED]
        said = []
        if undone:
            which = f"job {undone[0].name}: {undone[0].error or undone[0].status}"
            if len(undone) > 1:
                which = "jobs " + ", ".join(result.name for result in undone)
            said.append(f"{len(undone)} of {len(results)} jobs failed: {which}")
        if error is not None:
            said.append(f"the sweep ended early: {explain(error)}")
        if said:
            raise RunFailed("; ".join(said)) from error


def begin(config: DictConfig, folder: str) -> None:
    """Takes the sweep's directory for this process alone: UserError where another one sweeps there."""
    global _sweep
    outside = not str(config.hydra.launcher.get("_target_", "")).startswith("hydra._internal.")
    _sweep, job.here = Sweep(Path(folder), config.hydra.job.name, line_of(config), outside), True


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Around a command: where it was a sweep, its end is reported and judged whatever Hydra makes of it."""
    global _sweep
    caught: BaseException | None = None
    try:
        yield
    except BaseException as error:
        caught = error
    sweep, _sweep, job.here = _sweep, None, False
    if sweep is not None:
        sweep.ending.close()
        sweep.conclude(caught)
    elif caught is not None:
        raise caught
