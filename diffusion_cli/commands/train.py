"""`diffusion train`: a network, from nothing or from where it stopped, and then its samples, figures and evaluation."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.commands.app import command
from diffusion_cli.commands.inherit import read_config, without_hydra
from diffusion_cli.commands.output import bar, describe, draw_figures, evaluate
from diffusion_cli.errors import Interrupted, RunFailed, UserError
from diffusion_cli.resume import check_same
from diffusion_cli.run import FINISHED, Metrics, Run
from diffusion_cli.signals import Stop

log = logging.getLogger(__name__)


@command
def main(config: DictConfig) -> None:
    train(OmegaConf.to_container(config, resolve=True), Run(HydraConfig.get().runtime.output_dir))


def train(config: dict[str, Any], run: Run) -> None:
    """Trains in `run`, resuming where `resume` asks for it; a finished run is left as it is."""
    if run.status == FINISHED:
        log.info("%s is finished already", run.path)
        return
    from diffusion_cli.experiment import Experiment

    with run.lock():
        experiment = Experiment(config)
        story = Story(experiment, run)
        try:
            story.train()
            if config["plots"]:
                story.finish()
        except BaseException as error:
            if isinstance(error, UserError) and not run.checkpoints():
                raise  # nothing has happened yet, and nothing is left behind
            stopped = isinstance(error, Interrupted | KeyboardInterrupt)
            story.write_summary("interrupted" if stopped else "failed", error)
            raise
        story.write_summary(FINISHED)
    log.info("finished: %s", run.path)


class Story:
    """One run's course: what is logged, saved and drawn, and when."""

    def __init__(self, experiment: Any, run: Run):
        self.experiment, self.run, self.config = experiment, run, experiment.config
        _ = experiment.guidance  # whatever is wrong with it is said before anything is written
        self.state = experiment.new_state()
        self.started, self.first_step = time.monotonic(), 0
        self.training_seconds: float | None = None
        self.loss = math.nan
        self.metrics: dict[str, Any] = {}
        if self.config["resume"] and run.checkpoints():
            self.state.load_state_dict(experiment.continue_from(run)["state"])
            self.first_step = self.state.step
            log.info("resumed at step %d", self.state.step)
        self.table = Metrics(run.metrics_file, since=self.state.step)
        if self.table.rows:
            self.loss = float(self.table.rows[-1]["loss"])

    def train(self) -> None:
        config, state = self.config, self.state
        every = config["stages"]["every"] if self.experiment.objective.generates else 0
        logger = self.experiment.logger
        logger.open(self.run.path, config)
        if every and state.step == 0:
            self.save_stage()
        self.write_summary("running")
        with Stop() as stop, bar(config["steps"], state.step) as progress:
            for _ in self.experiment.fit(state):
                last = state.step == config["steps"]
                if last or state.step % config["log_every"] == 0:
                    row = self.log_row()
                    logger.log(state.step, row)
                    progress.set_postfix_str(f"loss {row['loss']:.4g}", refresh=False)
                progress.update()
                if last or stop.signum or state.step % config["checkpoint"]["every"] == 0:
                    self.save_checkpoint()
                if every and state.step % every == 0:
                    self.save_stage()
                if stop.signum:
                    logger.close()
                    raise Interrupted(stop.signum)
        logger.close()
        self.training_seconds = time.monotonic() - self.started

    def log_row(self) -> dict[str, float]:
        """Closes the log interval. Raises RunFailed when the loss or the gradient is not finite any more."""
        state = self.state
        lr = self.experiment.optimizer.lr_at(state.step - 1, self.config["steps"])
        row = {**state.log(), "lr": lr}
        if not math.isfinite(row["loss"] + row["grad_norm"]):  # a noise level that was not drawn is nan by right
            last = self.run.checkpoints()[-1:]
            good = f"the last good checkpoint is {last[0]}" if last else "there is no checkpoint yet"
            raise RunFailed(
                f"diverged by step {state.step} (loss {row['loss']}, gradient norm {row['grad_norm']}, lr {lr:.3g}); {good}"
            )
        self.loss = row["loss"]
        self.table.add({"step": state.step, **row})
        return row

    def save_checkpoint(self) -> None:
        """The metrics first: a checkpoint never knows of a row that is not on disk."""
        from diffusion_cli import checkpoint

        state = self.state
        if not math.isfinite(float(state.total_loss) + float(state.total_norm)):
            self.log_row()
        self.table.write()
        content = {
            "state": state.state_dict(),
            "config": self.config,
            "made_with": describe(self.experiment.device),
        }
        checkpoint.save(self.run.checkpoint_file(state.step), content)
        self.run.prune(self.config["checkpoint"]["keep"])

    def save_stage(self) -> None:
        """Samples of the network as it is now, always from the same noise."""
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
    folder = OmegaConf.select(config, "hydra.run.dir")
    saved = Path(folder, ".hydra", "config.yaml") if folder and config.resume else None
    if saved and saved.is_file():
        now, before = without_hydra(config), read_config(saved)
        check_same(*(OmegaConf.to_container(c, resolve=True) for c in (now, before)))
