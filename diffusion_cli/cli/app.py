"""How each command meets Hydra: where the options lie, and what becomes of an error of its task."""

from __future__ import annotations

import copy
import functools
import importlib
import logging
import os
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from diffusion_cli.cli import claim, gate, sweep
from diffusion_cli.cli.before_torch import set_before_torch
from diffusion_cli.cli.callback import checked_config, refuse
from diffusion_cli.cli.job import Job
from diffusion_cli.cli.messages import explain, is_config_error
from diffusion_cli.cli.plain import tree
from diffusion_cli.cli.streams import speak_plainly
from diffusion_cli.commands import follow
from diffusion_cli.errors import RunFailed, UserError, one_line
from diffusion_cli.options.files import CONFIGS
from diffusion_cli.ranges import Config
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.processes import member, settled
from diffusion_cli.runs.session import Heartbeat, Session
from diffusion_cli.runs.signals import Stop

log = logging.getLogger(__name__)


def entry(module: str) -> Callable[..., object]:
    """The command NAME, for a module cli.entries.NAME: configured by configs/NAME.yaml, done by commands.NAME.

    The command's module has `check(config, directory)`, which refuses what a job cannot do (see callback.refuse), and
    `main(config, run, session)`, whose value is the job's; config is plain and checked, run the output directory. A
    command raises UserError where the user's input is bad, and RunFailed for any other exception of its task, whose
    traceback is in the job's log. In a sweep either is a failed job, whose value is None; when all have ended, the
    command raises RunFailed.
    """
    name = module.rpartition(".")[2]

    def main(config: DictConfig) -> object:
        # A launcher's worker on another machine has not inherited it.
        set_before_torch(os.environ)
        speak_plainly()
        current = HydraConfig.get()
        if member().rank > 0:
            # of a launcher that starts several processes for a job
            follow.main()
            return None
        place = Job(current) if current.mode == RunMode.MULTIRUN else None
        try:
            with Stop() as stop, Heartbeat(name):
                if place is not None:
                    return run_job(name, config, stop, place)
                return run_task(name, config, Session(stop, lock=claim.held()))
        except Exception as error:
            error = explain(error) if is_config_error(error) else error
            expected = isinstance(error, (UserError, RunFailed))
            line = one_line(str(error)) if expected else one_line_of(error)
            if place is not None:
                log.error("job %s failed: %s", place.name, line)
            log_to_file(line, None if expected else error)
            if place is not None:
                place.failed(line)
                return None
            if expected:
                raise error from error.__cause__
            raise RunFailed(line) from error

    # Hydra names the job after the module, and launchers find the function by these names.
    main.__module__, main.__qualname__ = module, "main"
    composed = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(main)

    @functools.wraps(main)
    def guarded(*passed: DictConfig) -> object:
        with gate.closed(), sweep.guard():
            return composed(*passed)

    return guarded


def run_task(name: str, config: DictConfig, session: Session) -> object:
    """Checks the configuration once more (a line or a file of the user's may have taken the callback away), records it
    in a new directory, and calls the command."""
    current = HydraConfig.get()
    plain, run = checked_config(config), RunDirectory(current.runtime.output_dir)
    trains = name in run_config.TRAININGS
    begun = trains and run_config.is_recorded(run.path)
    if trains:
        plain = settled(plain, run_config.read_record(run.path).current if begun else None)
    # a training that goes on is what it was begun as; the others begin anew, also in a directory that they had before
    if begun:
        run_config.restore(run.path)
    else:
        chosen = tree(current.runtime.choices).items()
        choices = {key: option for key, option in chosen if isinstance(option, str) and "/" not in key}
        line = [str(word) for word in current.overrides.task]
        paths = absolute_paths(plain)
        run_config.write_record(run.path, run_config.Record(plain, name, choices, line, [], paths))
    return importlib.import_module(f"diffusion_cli.commands.{name}").main(plain, run, session)


def absolute_paths(config: Config) -> dict[str, str]:
    """The files of the data, wherever a later command is run."""
    return {
        f"dataset.{key}": os.path.abspath(os.path.expanduser(place))
        for key in run_config.DATA_PLACES
        if isinstance(place := config["dataset"].get(key), str)
    }


def run_job(name: str, config: DictConfig, stop: Stop, place: Job) -> object:
    """The value of a job of a sweep; None where a signal has ended it. What a single run refuses before its directory
    is made has been judged before the sweep began, and is judged again for what has changed since."""
    if not place.goes_ahead:
        place.give_back()
        return None
    with open_dict(config):
        config.hydra = copy.deepcopy(place.hydra)
    with place.running(config):
        refuse(config)
        with open_dict(config):
            del config["hydra"]
            if "resume" in config:
                # what the job has done so far is its own, by its key
                config.resume = True
        value = run_task(name, config, Session(stop, alone=False))
        place.finished()
        return value
    return None


def one_line_of(error: BaseException) -> str:
    """An exception in one line: its type's name and the first line of what it says; of the file system, which file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        safe = "what was there before is untouched: put that right, and give the line again"
        return f"{error.filename}: {error.strerror}; {safe}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(type(error).__name__ + (f": {lines[0]}" if lines else ""))


def log_to_file(line: str, error: Exception | None) -> None:
    """Write a line, and the traceback of `error`, to the job's own log; the console gets one line from `program`."""
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, line, (), exc_info)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
