"""How each command meets Hydra: where the options lie, and what becomes of an error of its task."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from diffusion_cli.cli import gate, sweep
from diffusion_cli.cli.callback import check, prepare
from diffusion_cli.cli.job import Job
from diffusion_cli.cli.messages import explain, is_config_error
from diffusion_cli.cli.places import CONFIGS
from diffusion_cli.errors import RunFailed, UserError, one_line

log = logging.getLogger(__name__)


def command(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
    """Make `task(config)` of the module `commands/NAME.py` the command NAME, configured by `configs/NAME.yaml`.

        @command
        def main(config: DictConfig) -> None: ...

    The configuration has passed `schema.check` and the module's own `prepare(config)` (see `callback.prepare`), where
    it has one, before `task` is called. Job, log file and help carry the module's name; what `task` returns is the
    job's value. The command raises `UserError` where the task finds the user's input bad, and `RunFailed` for any
    other exception, its traceback being in the job's log. In a sweep either is a failed job, whose value is None; when
    all have ended, the command raises `RunFailed`.
    """

    @functools.wraps(task)
    def job(config: DictConfig) -> Any:
        current = HydraConfig.get()
        place = Job(current) if current.mode == RunMode.MULTIRUN else None
        try:
            if place is not None:
                return _of_sweep(place, config, task)
            check(config)  # again: a line or a file of the user's may have taken the callback away
            return task(config)
        except BrokenPipeError:
            raise  # whoever read our output went away: no failure of the run
        except Exception as error:
            error = explain(error) if is_config_error(error) else error
            expected = isinstance(error, (UserError, RunFailed))
            line = one_line(str(error)) if expected else describe(error)
            if place is not None:
                log.error("job %s failed: %s", place.name, line)
            _log_to_file(line, None if expected else error)
            if place is not None:
                return place.failed(line)
            if expected:
                raise error from error.__cause__
            raise RunFailed(line) from error

    name = task.__module__.rpartition(".")[2]
    entry = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(job)

    @functools.wraps(entry)
    def guarded(*passed: DictConfig) -> Any:
        with gate.closed(), sweep.guard():
            return entry(*passed)

    return guarded


def _of_sweep(place: Job, config: DictConfig, task: Callable[[DictConfig], Any]) -> Any:
    """The value of a job of a sweep; None where a signal has ended it. What a single run prepares before its directory
    is made (see callback.py) has been judged before the sweep began, and is done again for the job's own use."""
    if not place.goes_ahead:
        return place.give_back()
    with open_dict(config):
        config.hydra = copy.deepcopy(place.hydra)
    with place.running(config):
        with open_dict(config):
            prepare(config, task.__module__)
            del config["hydra"]
            if "resume" in config:  # what the job has done so far is its own, by its key
                config.resume = True
        check(config)
        value = task(config)
        place.finished()
        return value
    return None


def describe(error: BaseException) -> str:
    """An exception in one line: its type's name and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(type(error).__name__ + (f": {lines[0]}" if lines else ""))


def _log_to_file(line: str, error: Exception | None) -> None:
    """Write a line, and the traceback of `error`, to the job's own log; the console gets one line from `__main__`."""
    exc_info = error and (type(error), error, error.__traceback__)
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, line, (), exc_info)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
