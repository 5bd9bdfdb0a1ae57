"""What happens between Hydra's composing a configuration and its making a directory for the job.

Errors leave this module as `Passage`, which `program` opens again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffusion_cli.cli import claim, sweep
from diffusion_cli.cli.compose import command_name, parsed
from diffusion_cli.cli.plain import current, is_said, job_part, line_words, quoted, say_more, set_hydra, tree
from diffusion_cli.errors import Passage, TakenError, UserError
from diffusion_cli.options.check import check_complete, check_config
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.ranges import Config
from diffusion_cli.runs.config import TRAININGS, is_recorded, read_record
from diffusion_cli.runs.processes import member
from diffusion_cli.runs.resume import unfinished


class Checked(Callback):
    """Refuses a bad configuration, then claims the directory of the run or of the sweep."""

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        with _stopping(), current(config):
            grid = config.hydra.sweeper.get("params")
            if grid:
                reason = f"is needed for the grid of {', '.join(grid)}: diffusion train -m ..."
                raise UserError("--multirun", ..., reason)
            command = command_name()
            directory, resume = _directory(config, "run"), config.get("resume") is True
            if resume and _stamped(config, "run") and not _given(config, "run"):
                begun = unfinished(Path(directory).parent, command, line_words(config))
                if begun is not None:
                    directory = begun
                    set_hydra(config, "run.dir", directory)
            # keys may refer to it
            set_hydra(config, "runtime.output_dir", os.path.abspath(directory))
            exclusive = _stamped(config, "run") and not (resume and _given(config, "run"))

            def judge() -> None:
                # what is in a directory named by the time is another run's, which began in the same second
                refuse(config, None if exclusive else directory)
                if not exclusive and not resume:
                    _refuse_second_run(directory, command)

            judge()
            set_hydra(config, "run.dir", claim.claim_directory("hydra.run.dir", directory, exclusive))
            if command in TRAININGS and not exclusive:
                claim.hold(directory)
                try:
                    # what another process may have written there in the meantime
                    judge()
                except UserError as error:
                    raise TakenError(*error.args) from None

    def on_run_end(self, config: DictConfig, **given: object) -> None:
        job_return = given["job_return"]
        assert isinstance(job_return, JobReturn)
        if job_return.status == JobStatus.FAILED:
            try:
                # Hydra would add a line of its own
                with contextlib.redirect_stderr(io.StringIO()):
                    _ = job_return.return_value
            except Exception as error:
                raise Passage(error) from None

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        with _stopping(), current(config):
            if member().size > 1:
                reason = "does not go with torchrun or srun: say processes=N, and each job starts its own"
                raise UserError("--multirun", ..., reason)
            try:
                known = job_part(config, complete=False)
            except OmegaConfBaseException:
                # keys that refer to what only a job has: each job is checked when it starts
                known = {}
            check_config(known)
            sweep.plan(config, refuse)
            directory = _directory(config, "sweep")
            stamped = _stamped(config, "sweep")
            resumed = known.get("resume") is True and stamped and not _given(config, "sweep")
            found = sweep.earlier(config, directory) if resumed else None
            exclusive = stamped and found is None
            claimed = claim.claim_directory("hydra.sweep.dir", found or directory, exclusive)
            if claimed != directory:
                set_hydra(config, "sweep.dir", claimed)
                # of these words the jobs are composed
                say_more(config, f"hydra.sweep.dir={quoted(claimed)}", "hydra")
            sweep.begin(config, claimed)


def refuse(config: DictConfig, directory: str | None = None) -> Config:
    """Refuse a job's composed configuration, `hydra` node included, before its directory is made (in a single run) and
    before anything heavy is imported; the job's part, plain.

    A command's module has `check(config: Config, directory: str | None) -> None`, which may read files and raises
    UserError. Raises UserError, or OmegaConf's exceptions for what does not resolve.
    """
    for override in parsed(line_words(config)):
        if override.key_or_group in GROUPS and isinstance(override.value(), list):
            raise UserError(override.key_or_group, override.value(), "takes one option, not a list")
    command = importlib.import_module(f"diffusion_cli.commands.{command_name()}")
    plain = checked_config(config)
    command.check(plain, directory)
    return plain


def checked_config(config: DictConfig) -> Config:
    """The job's part of a configuration, plain; refused where a job cannot run with it."""
    known = job_part(config)
    check_config(known)
    check_complete(known, command_name())
    return known


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Passage(error) from error


def _directory(config: DictConfig, kind: str) -> str:
    """`hydra.run.dir` or `hydra.sweep.dir`."""
    key = f"hydra.{kind}.dir"
    try:
        directory = OmegaConf.select(config, key, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(key, _raw(config, kind), str(error).partition("\n")[0]) from error
    if not directory:
        raise UserError(key, directory, "must be a directory")
    return str(directory)


def _raw(config: DictConfig, kind: str) -> str:
    return str(tree(config.hydra[kind])["dir"])


def _stamped(config: DictConfig, kind: str) -> bool:
    """Whether the directory is named by the time, so that it is meant to be new."""
    return "${now:" in _raw(config, kind)


def _given(config: DictConfig, kind: str) -> bool:
    """Whether the directory was named on the command line."""
    return is_said(config, f"hydra.{kind}.dir", "hydra")


def _refuse_second_run(directory: str, command: str) -> None:
    """A training is put over nothing that was there before; and nothing over a training."""
    recorded = is_recorded(Path(directory))
    if command in TRAININGS:
        taken = recorded or Path(directory, ".hydra/config.yaml").exists()
        reason = "a run is already there; resume=true continues it, or choose another directory"
    else:
        taken = recorded and read_record(Path(directory), "hydra.run.dir").command in TRAININGS
        reason = "a trained run is there, which nothing is written over; choose another directory"
    if taken:
        raise UserError("hydra.run.dir", directory, reason)
