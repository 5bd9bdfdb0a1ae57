"""`diffusion train`: a network, from nothing or from where it stopped, and then its samples, figures and evaluation."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_cli.commands.ending import explained, safe
from diffusion_cli.commands.header import header
from diffusion_cli.commands.monitor import RepeatedEvaluation
from diffusion_cli.commands.output import (
    describe,
    evaluate,
    log_metrics,
    prepare_process,
    save_figures,
    warn_of_outliers,
)
from diffusion_cli.commands.sample import write_samples
from diffusion_cli.errors import Interrupted, RunFailed, TimeIsUp, UserError
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.config import length
from diffusion_cli.runs.directory import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    Metrics,
    RunDirectory,
    step_of,
)
from diffusion_cli.runs.processes import settled
from diffusion_cli.runs.results import value_of
from diffusion_cli.runs.resume import check_made_with, check_same
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffusion_cli.components import Components
    from diffusion_cli.metrics.progress import Progress
    from diffusion_cli.model.network import Network
    from diffusion_cli.runs.group import Processes
    from diffusion_cli.trainer import Batches, BatchSource, TrainState

log = logging.getLogger(__name__)

SCORE_BATCHES = 4
# The figures to look at first.
SHOWN = ("samples", "loss")


def check(config: dict[str, Any], directory: str | None) -> None:
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


def is_evaluated(config: dict[str, Any]) -> bool:
    """Whether samples are measured at the end."""
    return config["plots"] if config["evaluate"] is None else config["evaluate"]


def main(config: dict[str, Any], run: RunDirectory, session: Session) -> float | None:
    train_run(config, run, session)
    return value_of(run, config["optimize"])


def train_run(
    config: dict[str, Any],
    run: RunDirectory,
    session: Session,
    make: Callable[[dict[str, Any]], Components] | None = None,
    lessons: Lessons | None = None,
) -> None:
    """Trains in `run`, resuming where `resume` says so; a finished run goes on where more steps are asked for.

    make: config -> components; None: components.build.
    lessons: what is learned; None: the data.

    A job of a sweep waits for another process that trains here: the same job, left over from a sweep that was killed.
    """
    run.place = session.lock or run.lock(wait=None if session.alone else session.stop.check)
    with run.place:
        if run.status == FINISHED and not extend(run, *length(config)):
            log.info("%s is finished already", run.path)
            return
        from diffusion_cli.components import build
        from diffusion_cli.runs.group import together

        run.sweep_up()
        with together(config, session.stop) as group:
            prepare_process(config["threads"])
            components = in_steps((make or build)(config))
            finished = train_with(group, components, config, run, session, lessons)
    if finished:
        shown = [file for file in sorted(run.figures.glob("*")) if file.stem in SHOWN]
        log.info("finished: %s%s", run.path, "".join(f"\n  open {file}" for file in shown))


def train_with(
    group: Processes | None,
    components: Components,
    config: dict[str, Any],
    run: RunDirectory,
    session: Session,
    lessons: Lessons | None,
) -> bool:
    """The training of process 0, with others where there is a group; false where its time is up before it is finished."""
    from diffusion_cli.components import READ

    if group:
        components = replace(components, group=group)
    components.refuse_too_many("n", config["n"], READ)
    for key, n in (
        ("stages.n", config["stages"]["n"]),
        ("evaluation.n", components.evaluation.n),
    ):
        components.refuse_too_many(key, n)
    training = Training(components, run, session, lessons)
    warn_of_outliers(components)
    if group:
        group.begin(config, components.device)
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
                "saved at step %d; the same line with hydra.run.dir=%s resume=true goes on",
                step,
                run.path,
            )
        if isinstance(error, TimeIsUp):
            return False
        if reason is not error:
            raise reason from None
        raise
    return True


def follow(components: Components, group: Processes) -> None:
    """The part of another process than 0 in a training: its shards of each step, and of the samples that are drawn."""
    components = in_steps(components)
    # the weights come from process 0
    state = new_state(replace(components, config=components.config | {"init": None}))
    equalize(state, group)
    averaged = replace(components, net=state.ema)
    group.serve(averaged)
    for _ in steps_of(components, state, batches_of(components)):
        if group.agree(group.stop.take())[1]:
            group.serve(averaged)
    group.serve(averaged)


def equalize(state: TrainState, group: Processes) -> None:
    """Makes the state of each process that of process 0."""
    import torch

    step = torch.tensor(state.step)
    vectors = state.weights.values, state.averages.values, *state.optimizer.state_dict().values()
    group.equalize([step, *vectors, *state.net.buffers()])
    state.step = int(step)


def extend(run: RunDirectory, unit: str, more: int) -> bool:
    """Records that a finished run is trained for more steps (or epochs) than before; false where they are not more."""
    record = run.record
    before = record.current[unit]
    if more <= before:
        return False
    extension = {unit: more, "before": before, "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    run_config.write_record(run.path, record._replace(extensions=[*record.extensions, extension]))
    log.info(
        "continued from %d to %d %s: the learning rate follows the longer plan from here on",
        before,
        more,
        unit,
    )
    return True


def in_steps(components: Components) -> Components:
    """The same with what its config says in epochs said in steps; UserError for data without end."""
    config, count = components.config, components.dataset.count
    epochs = config["epochs"]
    if epochs is None:
        return components
    if count is None:
        reason = "this dataset draws fresh points without end, so that an epoch of it has none; say steps=N"
        raise UserError("epochs", epochs, reason)
    each = -(-count // config["batch_size"])
    log.info("%d epochs of %d steps", epochs, each)
    every = {
        section: config[section] | {"every": (config[section]["every"] or 0) * each}
        for section in ("checkpoint", "stages")
    }
    return replace(components, config=config | every | {"steps": epochs * each, "epochs": None})


def new_state(components: Components) -> TrainState:
    """The state of training before its first step."""
    from torch import nn

    from diffusion_cli.runs.restore import start_from
    from diffusion_cli.trainer import TrainState

    config = components.config
    net = components.new_net()
    if config["init"]:
        start_from(net, config["init"], config["init_weights"])
    if config["shards"] > 1 and any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules()
    ):
        reason = "batch normalization would see a shard, and not the batch; take another normalization, or shards=1"
        raise UserError("shards", config["shards"], reason)
    state = TrainState.start(net, components.optimizer, config["loss_levels"] or ())
    if config["compile"]:
        state.net.compile()
    return state


def of_data(training: Training) -> tuple[BatchSource, BatchSource]:
    """The batches of training, and those by which checkpoints are compared."""
    batches = batches_of(training.components)
    return batches, compared_on(batches)


def compared_on(batches: Batches) -> Batches:
    """The batches by which networks that learn from `batches` are compared: of held-out data, where there are any."""
    from diffusion_cli.noise import Stream

    return replace(batches, label_dropout=0.0, stream=Stream.SCORE, held_out=True, shards=1)


def batches_of(c: Components) -> Batches:
    """The batches of training."""
    from diffusion_cli.trainer import Batches

    given = (c.dataset, c.schedule, c.objective, c.config["batch_size"], c.seed)
    # a classifier needs every label
    dropout = c.guidance.label_dropout if c.objective.generates else 0.0
    return Batches(*given, label_dropout=dropout, device=c.device, shards=c.config["shards"])


def steps_of(components: Components, state: TrainState, batches: BatchSource) -> Iterator[TrainState]:
    """The generator that trains; see trainer.fit."""
    from diffusion_cli.trainer import fit

    denoiser, config = components.network_denoiser(state.net), components.config
    return fit(state, denoiser, batches, config["steps"], config["ema"]["decay"], components.group)


def score(components: Components, net: Network, batches: BatchSource) -> float:
    """The mean loss of a network on a few fixed batches, the same at every step. Training is not touched: no random state
    is shared."""
    import torch

    c = components
    with torch.no_grad():
        denoiser = c.network_denoiser(net.eval())
        losses = [c.objective(denoiser, *batches(k)).mean() for k in range(SCORE_BATCHES)]
        return float(torch.stack(losses).mean())


class PutOff(Exception):
    """What a signal keeps from being done now."""


class Training:
    """One run's course: what is logged, saved and drawn, and when."""

    def __init__(
        self, components: Components, run: RunDirectory, session: Session, lessons: Lessons | None = None
    ) -> None:
        from diffusion_cli.dataset.description import description_of

        self.components, self.run, self.config, self.session = components, run, components.config, session
        # What is wrong with these is said before anything is written.
        _ = components.times, self.config["logger"]
        self.logger, self.lessons = components.logger, lessons or of_data
        # for the checkpoints, where config.json should be lost
        self.record = run.record.content
        self.figures = self.chosen_figures()
        self.state = new_state(components)
        self.facts = description_of(components.dataset)
        log.info("%s", header(components, self.state.net, self.facts, run))
        self.started, self.first_step = time.monotonic(), 0
        self.training_seconds: float | None = None
        self.loss = math.nan
        self.metrics: dict[str, Any] = {}
        # step and score of the best checkpoint so far
        self.best: dict[str, Any] | None = None
        if self.config["resume"] and run.checkpoints():
            self.resume()
        self.table = Metrics(run.metrics_file, since=self.state.step)
        self.monitor = RepeatedEvaluation(components, run, self.state.step, session)
        if self.table.rows:
            self.loss = float(self.table.rows[-1]["loss"])

    def chosen_figures(self) -> dict[str, Any]:
        """The figures drawn at the end; UserError for one that does not draw this kind of data."""
        from diffusion_cli.figures.draw import drawable

        if not self.config["plots"]:
            return {}
        nodes = self.config["figures"]
        if not self.components.objective.generates:
            nodes = {name: node for name, node in nodes.items() if name == "loss"}
        return drawable(nodes, self.components.dataset)

    def resume(self) -> None:
        """Goes on from the newest checkpoint that verifies; UserError where this config makes it another run."""
        from diffusion_cli.runs.restore import fit_in, newest

        saved = newest(self.run, "hydra.run.dir")
        check_same(self.config, saved["config"])
        check_made_with(self.made_with(), saved["made_with"])
        fit_in(self.state, saved["state"], "hydra.run.dir", self.run)
        self.best = saved.get("best")
        self.first_step = self.state.step
        log.info("resumed at step %d", self.state.step)

    @property
    def averaged(self) -> Components:
        """The components with the averaged network as it is now."""
        return replace(self.components, net=self.state.ema)

    def train(self) -> None:
        config, state, stop = self.config, self.state, self.session.stop
        self.started = time.monotonic()
        limit = config["max_minutes"]
        logger = self.logger
        group = self.components.group
        self.save_stage(self.session.bar)
        self.write_summary(RUNNING)
        batches, self.scored = self.lessons(self)
        self.monitor.prepare(state.ema)
        if self.monitor.due(state.step):
            self.evaluate_again(logger)
        if group.size == 1 and stop.signum is not None:
            # A step now would leave behind what the signal has put off.
            stop.check()
            self.save_stage()
            if self.monitor.due(state.step):
                self.evaluate_again(logger)
        group.release()
        # A signal is looked at where the step can be saved.
        bar = self.session.bar(config["steps"], state.step, stops=False)
        with bar as progress:
            for _ in steps_of(self.components, state, batches):
                last = state.step == config["steps"]
                if last or state.step % config["log_every"] == 0:
                    row = self.log_row()
                    logger.log(state.step, row)
                    progress.set_postfix_str(f"loss {row['loss']:.4g}", refresh=False)
                progress.update()
                timed_out = limit is not None and time.monotonic() - self.started > 60 * limit
                due = self.monitor.due(state.step)
                signum, pause = group.agree(stop.signum, self.stage_due() or due or timed_out)
                stop.signum = stop.signum or signum
                if due and not signum:
                    self.evaluate_again(logger)
                self.save_stage()
                # in a group the processes speak of it again at the next step
                left = group.size == 1 and stop.signum is not None
                stopping = timed_out or signum is not None or left
                if last or stopping or state.step % config["checkpoint"]["every"] == 0:
                    self.save_checkpoint()
                if stopping:
                    stop.check()
                    # a launcher wants the run to go on
                    if self.monitor.due(state.step):
                        self.evaluate_again(logger)
                    self.save_stage()
                if timed_out and not last:
                    raise TimeIsUp(f"max_minutes={limit:g}")
                if pause:
                    group.release()
        self.training_seconds = time.monotonic() - self.started

    def log_row(self) -> dict[str, float]:
        """Closes the log interval. Raises RunFailed when the loss or the gradient is not finite any more."""
        state = self.state
        row = state.log()
        # a noise level that was not drawn is nan by right
        if not math.isfinite(row["loss"] + row["grad_norm"]):
            raise self.diverged(f"loss {row['loss']}, gradient norm {row['grad_norm']}")
        self.table.add({"step": state.step, **row})
        # as it is written: a resumed run knows no more digits
        self.loss = float(self.table.rows[-1]["loss"])
        return row

    def evaluate_again(self, logger: Any) -> None:
        """A row of evaluations.csv."""
        self.refuse_divergence()
        # a row that a signal puts off is due when the run goes on
        with contextlib.suppress(PutOff):
            logger.log(self.state.step, self.monitor.evaluate(self.state.ema, self.state.step, self.put_off))

    def diverged(self, how: str) -> RunFailed:
        how = f"diverged by step {self.state.step} ({how}, lr {self.state.lr:.3g})"
        return RunFailed(f"{how}; {safe(self.run)}")

    def refuse_divergence(self) -> None:
        """Nothing is saved or drawn of a network that is not finite any more: RunFailed instead."""
        state = self.state
        if not state.totals.finite():
            self.log_row()
        if not all(bool(p.isfinite().all()) for net in (state.net, state.ema) for p in net.parameters()):
            raise self.diverged("weights that are not finite")

    def save_checkpoint(self) -> None:
        """The metrics first: a checkpoint never knows of a row that is not on disk.

        Only those of regular steps compete for the best, so that it is the same however often a run is interrupted.
        """
        from diffusion_cli.runs import checkpoint

        state, kept = self.state, self.config["checkpoint"]
        self.run.check_place()
        self.refuse_divergence()
        if state.step % kept["every"] == 0 or state.step == self.config["steps"]:
            value = score(self.components, state.ema, self.scored)
            if math.isfinite(value) and (self.best is None or value < self.best["score"]):
                self.best = {"step": state.step, "score": value}
        self.table.write()
        content = {
            "state": state.state_dict(),
            "config": self.config,
            "record": self.record,
            "made_with": self.made_with(),
            "data": self.data(),
            "best": self.best,
        }
        if self.components.teacher is not None:
            content["teacher"] = self.components.teacher.remembered
        checkpoint.save(self.run.checkpoint_file(state.step), content)
        self.run.prune(kept["keep"], self.best["step"] if self.best else None)

    def data(self) -> dict[str, Any]:
        """What sampling needs of the data."""
        from diffusion_cli.dataset.remembered import memory_of

        return memory_of(self.components.dataset)

    def made_with(self) -> dict[str, Any]:
        """What the bits of this run depend on beside its config; resume.check_made_with compares it."""
        import torch

        about = describe(self.components.device)
        return {
            "torch": about["versions"]["torch"],
            "diffusion_cli": about["versions"]["diffusion_cli"],
            "device": about["device"],
            "threads": about["threads"],
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "compile": self.config["compile"],
            "precision": str(self.components.network_denoiser(self.state.net).precision).removeprefix(
                "torch."
            ),
            "data": self.components.dataset.fingerprint,
        }

    def put_off(self) -> None:
        """Raises PutOff where a signal has come; not in a group, whose processes are in the middle of it together."""
        if self.session.stop.signum is not None and self.components.group.size == 1:
            raise PutOff

    def stage_due(self) -> bool:
        """Whether samples of this step are wanted and not there."""
        every, step = self.config["stages"]["every"], self.state.step
        wanted = self.components.objective.generates and every and step % every == 0
        return bool(wanted) and not self.run.stage_file(step).exists()

    def save_stage(self, progress: Progress | None = None) -> None:
        """Samples of the network as it is now, always from the same noise, where they are due and not there. A signal puts
        them off until the run goes on."""
        if not self.stage_due():
            return
        self.run.check_place()
        self.refuse_divergence()

        shown: dict[str, Any] = {} if progress is None else {"progress": progress}
        try:
            drawn = replace(self.averaged, tick=self.put_off).draw(self.config["stages"]["n"], **shown)
        except PutOff:
            return
        x0 = self.components.units.array(drawn.x0)
        self.run.write_stage(self.state.step, x0)
        if self.logger.wants_pictures:
            self.show(x0)

    def show(self, x0: NDArray[Any]) -> None:
        """The samples of a stage, as a picture for the logger."""
        from diffusion_cli.figures.files import encoded
        from diffusion_cli.figures.pictures import GRID
        from diffusion_cli.figures.recipes.material import view_of

        view = view_of(self.components)
        figure = view.grid(x0[:GRID] if view.panels else x0)
        self.logger.picture(self.state.step, "samples", encoded(figure, ".png"))

    def finish(self) -> None:
        """Samples, evaluation and figures of the finished network."""
        finished = replace(self.averaged, run=self.run, tick=self.session.stop.check)
        phase = self.session.phase
        if finished.objective.generates:
            with phase(f"sampling {self.config['n']:,}"):
                finished = write_samples(finished, self.run, self.session.bar).components
        if is_evaluated(self.config):
            with phase("evaluating") as tick:
                self.metrics = evaluate(replace(finished, tick=tick), self.session.bar)
            log_metrics(finished, self.metrics)
        if not self.figures:
            return
        with phase(f"drawing {', '.join(self.figures)}") as tick:
            for file in save_figures(self.figures, self.run.figures, replace(finished, tick=tick)):
                if self.logger.wants_pictures and file.suffix == ".png":
                    self.logger.picture(self.state.step, f"figures/{file.stem}", file.read_bytes())

    def write_summary(self, status: str, error: BaseException | None = None) -> None:
        seconds = time.monotonic() - self.started if self.training_seconds is None else self.training_seconds
        done = self.state.step - self.first_step
        self.run.write_summary(
            status=status,
            **({} if error is None else {"error": str(error) or type(error).__name__}),
            steps=self.state.step,
            seconds=round(seconds, 3),
            steps_per_second=round(done / seconds, 3) if seconds else None,
            loss=self.loss if math.isfinite(self.loss) else None,
            metrics=self.metrics,
            data=self.facts,
            seed=self.components.seed,
            processes=self.components.group.size,
            **describe(self.components.device),
        )


# Called once a training has begun: what it learns, and by what its checkpoints are compared.
Lessons = Callable[[Training], tuple["BatchSource", "BatchSource"]]
