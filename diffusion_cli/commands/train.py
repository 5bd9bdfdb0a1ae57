"""`diffusion train`: a network, from nothing or from where it stopped, and then its samples, figures and evaluation."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_cli.commands.course import Training
from diffusion_cli.commands.ending import explained
from diffusion_cli.commands.lesson import Lesson, equalize, in_steps, new_state, steps_of
from diffusion_cli.commands.output import is_evaluated, prepare_process, warn_of_outliers
from diffusion_cli.errors import Interrupted, TimeIsUp, UserError
from diffusion_cli.ranges import Config
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.config import length
from diffusion_cli.runs.directory import FAILED, FINISHED, INTERRUPTED, RunDirectory, step_of
from diffusion_cli.runs.processes import settled
from diffusion_cli.runs.results import value_of
from diffusion_cli.runs.resume import check_same
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.runs.group import Processes

log = logging.getLogger(__name__)

# The figures to look at first.
SHOWN = ("samples", "loss")


def check(config: Config, directory: str | None) -> None:
    """Before anything is written: a run that goes on must be the run that was begun."""
    settled(config)
    if length(config)[1] is None:
        raise UserError("steps", ..., "a number is needed, or epochs=N")
    if str(config["optimize"]).startswith("metrics.") and not is_evaluated(config):
        reason = "is measured at the end, which evaluate=true does and plots=false alone leaves out"
        raise UserError("optimize", config["optimize"], reason)
    if directory and config["resume"] and run_config.is_recorded(Path(directory)):
        run = RunDirectory(directory)
        record = run_config.read_record(run.path, "hydra.run.dir")
        command = "distill" if "calls" in config else "train"
        if record.command != command:
            reason = f"holds what `{record.command}` left, which is nothing that `{command}` goes on with"
            raise UserError("hydra.run.dir", directory, reason)
        before = record.current
        check_same(settled(config, before), before, quiet=True)
        (key, value), (unit, done) = length(config), length(before)
        if key != unit:
            raise UserError(key, value, f"the run was begun with {unit}={done}; more of them continue it")
        if run.status == FINISHED and value < done:
            raise UserError(key, value, f"the run has been trained for {done}; more of them continue it")


def main(config: Config, run: RunDirectory, session: Session) -> float | None:
    train_run(config, run, session, Lesson())
    return value_of(run, config["optimize"])


def train_run(config: Config, run: RunDirectory, session: Session, lesson: Lesson) -> None:
    """Trains in `run`, resuming where `resume` says so; a finished run goes on where more steps are asked for.

    lesson: what is trained.

    A job of a sweep waits for another process that trains here: the same job, left over from a sweep that was killed.
    """
    run.place = session.lock or run.lock(wait=None if session.alone else session.stop.check)
    with run.place:
        if run.status == FINISHED and not extend(run, *length(config)):
            log.info("%s is finished already", run.path)
            return
        from diffusion_cli.runs.meeting import together

        run.sweep_up()
        with together(config, session.stop) as group:
            prepare_process(config["threads"])
            components = in_steps(lesson.components(config))
            finished = train_with(group, components, config, run, session, lesson)
    if finished:
        shown = [file for file in sorted(run.figures.glob("*")) if file.stem in SHOWN]
        log.info("finished: %s%s", run.path, "".join(f"\n  open {file}" for file in shown))


def train_with(
    group: Processes | None,
    components: Components,
    config: Config,
    run: RunDirectory,
    session: Session,
    lesson: Lesson,
) -> bool:
    """The training of process 0, with others where there is a group; false where its time is up before it is finished."""
    from diffusion_cli.components import READ

    if group:
        components = replace(components, group=group)
    components.refuse_too_many("n", config["n"], READ)
    components.refuse_too_many("stages.n", config["stages"]["n"])
    components.refuse_too_many("evaluation.n", components.evaluation.n)
    training = Training(components, run, session, lesson)
    warn_of_outliers(components)
    if group:
        group.begin(config, components.device, components.dataset.fingerprint, trains=True)
        equalize(training.state, group)
    session.stop.at_once = lambda signum: training.write_summary(INTERRUPTED, Interrupted(signum))
    try:
        training.logger.open(run.path, components.config)
        with contextlib.closing(training.logger):
            training.train()
            if config["plots"] or is_evaluated(config):
                training.finish()
        run.check_place()
        training.write_summary(FINISHED)
    except BaseException as error:
        if isinstance(error, UserError) and not run.summary_file.exists():
            # nothing has happened yet, and nothing is left behind
            raise
        stopped = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit | TimeIsUp)
        reason = explained(error, run)
        with contextlib.suppress(OSError):
            training.write_summary(INTERRUPTED if stopped else FAILED, reason)
        if stopped and (run.checkpoints() or run.paths_file(0).exists()):
            step = step_of(run.checkpoints()[-1]) if run.checkpoints() else 0
            log.info(
                "saved at step %d; the same line with hydra.run.dir=%s resume=true goes on", step, run.path
            )
        if isinstance(error, TimeIsUp):
            return False
        if reason is not error:
            raise reason from None
        raise
    return True


def follow(components: Components, group: Processes, lesson: Lesson) -> None:
    """The part of another process than 0 in a training: its shards of each step, and of the samples that are drawn."""
    components = in_steps(components)
    # the weights come from process 0
    state = new_state(replace(components, config=components.config | {"init": None}))
    equalize(state, group)
    averaged = replace(components, net=state.ema)
    group.serve(averaged)
    batches = lesson.followed(components, state)
    group.equalize(batches.handed)

    def say() -> tuple[int | None, bool]:
        return group.stop.take(), False

    group.agree(say)
    for _ in steps_of(components, state, batches):
        if group.agree(say)[1]:
            group.serve(averaged)
    group.serve(averaged)


def extend(run: RunDirectory, unit: str, more: int) -> bool:
    """Records that a finished run is trained for more steps (or epochs) than before; false where they are not more."""
    record = run.record
    before = record.current[unit]
    if more <= before:
        return False
    extension = {unit: more, "before": before, "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    run_config.write_record(run.path, record._replace(extensions=[*record.extensions, extension]))
    plan = "the learning rate follows the longer plan from here on"
    log.info("continued from %d to %d %s: %s", before, more, unit, plan)
    return True
