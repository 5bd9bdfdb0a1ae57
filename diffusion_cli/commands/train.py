"""`diffusion train`: a network, from nothing or from where it stopped, and then its samples, figures and evaluation."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.cli.app import command
from diffusion_cli.cli.claim import leave_to_its_owner
from diffusion_cli.cli.inherit import read_config, without_hydra
from diffusion_cli.cli.job import value_of
from diffusion_cli.commands.monitor import Monitor
from diffusion_cli.commands.output import bar, describe, draw_figures, evaluate
from diffusion_cli.errors import Interrupted, RunFailed, UserError
from diffusion_cli.runs.directory import FINISHED, Metrics, Run
from diffusion_cli.runs.resume import check_made_with, check_same
from diffusion_cli.runs.signals import Stop

log = logging.getLogger(__name__)


@command
def main(config: DictConfig) -> float | None:
    run, hydra = Run(HydraConfig.get().runtime.output_dir), HydraConfig.get()
    train(OmegaConf.to_container(config, resolve=True), run, wait=hydra.mode == RunMode.MULTIRUN)
    return value_of(run, config.optimize)


def train(config: dict[str, Any], run: Run, wait: bool = False) -> None:
    """Trains in `run`, resuming where `resume` asks for it; a finished run is left as it is.

    wait: for another process that trains here, which is the same job left over from a sweep that was killed.
    """
    try:
        lock = run.lock(wait)
    except UserError:
        leave_to_its_owner()
        raise
    with lock:
        if run.status == FINISHED:
            log.info("%s is finished already", run.path)
            return
        from diffusion_cli.components import Experiment

        run.sweep_up()
        with Stop() as stop:
            experiment = Experiment(config)
            story = Story(experiment, run)
            try:
                story.train(stop)
                if config["plots"]:
                    story.finish()
            except BaseException as error:
                if isinstance(error, UserError) and not run.checkpoints():
                    raise  # nothing has happened yet, and nothing is left behind
                stopped = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)
                story.write_summary("interrupted" if stopped else "failed", error)
                raise
            story.write_summary(FINISHED)
    log.info("finished: %s", run.path)


class Story:
    """One run's course: what is logged, saved and drawn, and when."""

    def __init__(self, experiment: Any, run: Run):
        self.experiment, self.run, self.config = experiment, run, experiment.config
        # What is wrong with them is said before anything is written.
        _ = experiment.guidance, experiment.evaluation, experiment.times
        self.state = experiment.new_state()
        self.started, self.first_step = time.monotonic(), 0
        self.training_seconds: float | None = None
        self.loss = math.nan
        self.metrics: dict[str, Any] = {}
        self.best: dict[str, Any] | None = None  # step and score of the best checkpoint so far
        if self.config["resume"] and run.checkpoints():
            from diffusion_cli.runs.restore import fit_in

            saved = experiment.continue_from(run)
            check_made_with(self.made_with(), saved["made_with"])
            fit_in(self.state, saved["state"], "hydra.run.dir", run)
            self.best = saved.get("best")
            self.first_step = self.state.step
            log.info("resumed at step %d", self.state.step)
        self.table = Metrics(run.metrics_file, since=self.state.step)
        self.monitor = Monitor(experiment, run, self.state.step)
        if self.table.rows:
            self.loss = float(self.table.rows[-1]["loss"])

    def train(self, stop: Stop) -> None:
        config, state = self.config, self.state
        every = config["stages"]["every"] if self.experiment.objective.generates else 0
        logger = self.experiment.logger
        logger.open(self.run.path, config)
        if every and state.step == 0:
            self.save_stage()
        self.write_summary("running")
        self.monitor.prepare(state)
        if self.monitor.due(state.step):
            self.evaluate_again(logger)
        with stop.finishing_steps(), contextlib.closing(logger), bar(config["steps"], state.step) as progress:
            for _ in self.experiment.fit(state):
                last = state.step == config["steps"]
                if last or state.step % config["log_every"] == 0:
                    row = self.log_row()
                    logger.log(state.step, row)
                    progress.set_postfix_str(f"loss {row['loss']:.4g}", refresh=False)
                progress.update()
                if self.monitor.due(state.step) and not stop.signum:
                    self.evaluate_again(logger)
                if every and state.step % every == 0:
                    self.save_stage()  # before the checkpoint, from which a resumed run would leave it out
                if last or stop.signum or state.step % config["checkpoint"]["every"] == 0:
                    self.save_checkpoint()
                if stop.signum:
                    stop.obey()
        self.training_seconds = time.monotonic() - self.started

    def log_row(self) -> dict[str, float]:
        """Closes the log interval. Raises RunFailed when the loss or the gradient is not finite any more."""
        state = self.state
        lr = self.experiment.optimizer.lr_at(state.step - 1, self.config["steps"])
        row = {**state.log(), "lr": lr}
        if not math.isfinite(
            row["loss"] + row["grad_norm"]
        ):  # a noise level that was not drawn is nan by right
            raise self.diverged(f"loss {row['loss']}, gradient norm {row['grad_norm']}")
        self.loss = row["loss"]
        self.table.add({"step": state.step, **row})
        return row

    def evaluate_again(self, logger: Any) -> None:
        """A row of evaluations.csv."""
        self.refuse_divergence()
        logger.log(self.state.step, self.monitor.evaluate(self.state))

    def diverged(self, how: str) -> RunFailed:
        step, last = self.state.step, self.run.checkpoints()[-1:]
        lr = self.experiment.optimizer.lr_at(step - 1, self.config["steps"])
        good = f"the last good checkpoint is {last[0]}" if last else "there is no checkpoint yet"
        return RunFailed(f"diverged by step {step} ({how}, lr {lr:.3g}); {good}")

    def refuse_divergence(self) -> None:
        """Nothing is saved or drawn of a network that is not finite any more: RunFailed instead."""
        state = self.state
        if state.since_log and not math.isfinite(float(state.total_loss) + float(state.total_norm)):
            self.log_row()
        if not all(bool(p.isfinite().all()) for net in (state.net, state.ema) for p in net.parameters()):
            raise self.diverged("weights that are not finite")

    def save_checkpoint(self) -> None:
        """The metrics first: a checkpoint never knows of a row that is not on disk.

        Only those of regular steps compete for the best, so that it is the same however often a run is interrupted.
        """
        from diffusion_cli.runs import checkpoint

        state, kept = self.state, self.config["checkpoint"]
        self.refuse_divergence()
        if state.step % kept["every"] == 0 or state.step == self.config["steps"]:
            score = self.experiment.score(state.ema)
            if math.isfinite(score) and (self.best is None or score < self.best["score"]):
                self.best = {"step": state.step, "score": score}
        self.table.write()
        content = {
            "state": state.state_dict(),
            "config": self.config,
            "made_with": self.made_with(),
            "best": self.best,
        }
        checkpoint.save(self.run.checkpoint_file(state.step), content)
        self.run.prune(kept["keep"], self.best and self.best["step"])

    def made_with(self) -> dict[str, Any]:
        """What the bits of this run depend on beside its config; resume.check_made_with compares it."""
        import torch

        about = describe(self.experiment.device)
        return {
            "torch": about["versions"]["torch"],
            "diffusion_cli": about["versions"]["diffusion_cli"],
            "device": about["device"],
            "threads": about["threads"],
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "compile": self.config["compile"],
            "precision": str(self.experiment.network_denoiser(self.state.net).precision).removeprefix(
                "torch."
            ),
            "data": getattr(self.experiment.dataset, "fingerprint", None),
        }

    def save_stage(self) -> None:
        """Samples of the network as it is now, always from the same noise."""
        self.refuse_divergence()
        x, _ = self.experiment.arrays(
            self.experiment.denoise_with(self.state.ema), self.config["stages"]["n"]
        )
        self.run.write_stage(self.state.step, x)

    def finish(self) -> None:
        """Samples, evaluation and figures of the finished network."""
        experiment = self.experiment
        experiment.run = self.run
        if experiment.objective.generates:
            self.run.write_samples(*experiment.samples)
        self.metrics = evaluate(experiment)
        figures = self.config["figures"]
        if not experiment.objective.generates:
            figures = {"loss": figures["loss"]}
        draw_figures(experiment, figures, self.run.figures)

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
            seed=self.experiment.seed,
            **describe(self.experiment.device),
        )


def prepare(config: DictConfig) -> None:
    """Before Hydra writes its files: a run that goes on must be the run that was begun."""
    if str(config.optimize).startswith("metrics.") and not config.plots:
        raise UserError("optimize", config.optimize, "is measured at the end, which plots=false leaves out")
    folder = OmegaConf.select(config, "hydra.run.dir")
    saved = Path(folder, ".hydra", "config.yaml") if folder and config.resume else None
    if saved and saved.is_file() and Run(folder).checkpoints():  # killed before that, it may be half written
        now, before = without_hydra(config), read_config(saved)
        check_same(*(OmegaConf.to_container(c, resolve=True) for c in (now, before)), quiet=True)
