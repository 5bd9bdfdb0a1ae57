"""The course of a training: what is logged, saved and drawn, and when."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_cli.commands import output
from diffusion_cli.commands.ending import safe
from diffusion_cli.commands.lesson import Lesson, header, new_state, score, steps_of
from diffusion_cli.commands.monitor import RepeatedEvaluation, RepeatedSampling
from diffusion_cli.commands.sample import write_samples
from diffusion_cli.errors import RunFailed, TimeIsUp
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.ranges import Facts
from diffusion_cli.runs.directory import RUNNING, RunDirectory
from diffusion_cli.runs.resume import check_made_with, check_same
from diffusion_cli.runs.rows import Metrics
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.components import Components

log = logging.getLogger(__name__)


class PutOff(Exception):
    """What a signal keeps from being done now."""


class Training:
    """One run's course: what is logged, saved and drawn, and when."""

    def __init__(self, components: Components, run: RunDirectory, session: Session, lesson: Lesson) -> None:
        from diffusion_cli.dataset.description import description_of

        self.components, self.run, self.config, self.session = components, run, components.config, session
        # What is wrong with these is said before anything is written.
        _ = components.times
        self.logger, self.lesson = components.logger, lesson
        # for the checkpoints, where config.json should be lost
        self.record = run.record.content
        self.figures = output.wanted_figures(components)
        self.state = new_state(components)
        self.facts = description_of(components.dataset)
        log.info("%s", header(components, self.state.net, self.facts, run))
        self.started, self.first_step = time.monotonic(), 0
        self.training_seconds: float | None = None
        # whether max_minutes are over
        self.timed_out = False
        self.metrics: Facts = {}
        # step and score of the best checkpoint so far
        self.best: Facts | None = None
        if self.config["resume"] and run.checkpoints():
            self.resume()
        self.table = Metrics(run.metrics_file, since=self.state.step)
        self.monitor = RepeatedEvaluation(components, run, self.state.step, session)
        self.stages = RepeatedSampling(components, run, self.logger)

    def resume(self) -> None:
        """Goes on from the newest checkpoint that verifies; UserError where this config makes it another run."""
        from diffusion_cli.runs.restore import fit_in, newest

        saved = newest(self.run, "hydra.run.dir")
        check_same(self.config, saved["config"])
        check_made_with(self.made_with(), saved["made_with"])
        fit_in(self.state.load_state_dict, saved["state"], "hydra.run.dir", self.run)
        self.best = saved.get("best")
        self.first_step = self.state.step
        log.info("resumed at step %d", self.state.step)

    def train(self) -> None:
        config, state, stop, group = self.config, self.state, self.session.stop, self.components.group
        self.started = time.monotonic()
        self.save_stage(self.session.bar)
        self.write_summary(RUNNING)
        batches, self.scored = self.lesson.batches(self.components, state, self.run, self.session)
        self.monitor.prepare(state.ema)
        self.evaluate_again()
        if group.size == 1 and stop.signum is not None:
            # A step now would leave behind what the signal has put off.
            self.stop()
        group.release()
        group.equalize(batches.handed)
        group.agree(self.say)
        # A signal is looked at where the step can be saved.
        with self.session.bar(config["steps"], state.step, stops=False) as progress:
            for _ in steps_of(self.components, state, batches):
                last = state.step == config["steps"]
                if last or state.step % config["log_every"] == 0:
                    row = self.log_row()
                    self.logger.log(state.step, row)
                    progress.set_postfix_str(f"loss {row['loss']:.4g}", refresh=False)
                progress.update()
                signum, pause = group.agree(self.say)
                stop.signum = stop.signum or signum
                if not signum:
                    self.evaluate_again()
                self.save_stage()
                # in a group the processes speak of it again at the next step
                left = group.size == 1 and stop.signum is not None
                stopping = self.timed_out or signum is not None or left
                if last or stopping or state.step % config["checkpoint"]["every"] == 0:
                    self.save_checkpoint()
                if stopping:
                    self.stop()
                if self.timed_out and not last:
                    raise TimeIsUp(f"max_minutes={config['max_minutes']:g}")
                if pause:
                    group.release()
        self.training_seconds = time.monotonic() - self.started

    def say(self) -> tuple[int | None, bool]:
        """What there is to agree of: a signal, and whether something other than training follows. A group asks in the middle
        of a step."""
        limit, coming = self.config["max_minutes"], self.state.step + 1
        self.timed_out = limit is not None and time.monotonic() - self.started > 60 * limit
        return self.session.stop.signum, self.timed_out or self.stages.due(coming) or self.monitor.due(coming)

    def stop(self) -> None:
        """Raises Interrupted where a signal has come, unless a launcher wants the run to go on: then what the signal has put
        off is made up for."""
        self.session.stop.check()
        self.evaluate_again()
        self.save_stage()

    def log_row(self) -> dict[str, float]:
        """Closes the log interval. Raises RunFailed when the loss or the gradient is not finite any more."""
        state = self.state
        row = state.log()
        # a noise level that was not drawn is nan by right
        if not math.isfinite(row["loss"] + row["grad_norm"]):
            raise self.diverged(f"loss {row['loss']}, gradient norm {row['grad_norm']}")
        self.table.add({"step": state.step, **row})
        return row

    def evaluate_again(self) -> None:
        """A row of evaluations.csv, where one is due; one that a signal puts off is due when the run goes on."""
        state = self.state
        if self.monitor.due(state.step):
            self.refuse_divergence()
            with contextlib.suppress(PutOff):
                self.logger.log(state.step, self.monitor.evaluate(state.ema, state.step, self.put_off))

    def save_stage(self, progress: Progress = silent) -> None:
        """Samples of the network as it is now, where they are due; those that a signal puts off are due as such a row is."""
        state = self.state
        if self.stages.due(state.step):
            self.run.check_place()
            self.refuse_divergence()
            with contextlib.suppress(PutOff):
                self.stages.draw(state.ema, state.step, self.put_off, progress)

    def diverged(self, how: str) -> RunFailed:
        step, lr = self.state.step, self.state.lr
        return RunFailed(f"diverged by step {step} ({how}, lr {lr:.3g}); {safe(self.run)}")

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
        from diffusion_cli.dataset.remembered import memory_of
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
            "data": memory_of(self.components.dataset),
            "best": self.best,
        }
        if self.components.teacher is not None:
            content["teacher"] = self.components.teacher.remembered
        checkpoint.save(self.run.checkpoint_file(state.step), content)
        self.run.prune(kept["keep"], self.best["step"] if self.best else None)

    def made_with(self) -> Facts:
        """What the bits of this run depend on beside its config; resume.check_made_with compares it."""
        import torch

        about = output.describe(self.components.device)
        versions = about.pop("versions")
        return about | {
            "torch": versions["torch"],
            "diffusion_cli": versions["diffusion_cli"],
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "compile": self.config["compile"],
            "precision": self.components.network_denoiser(self.state.net).precision_name,
            "data": self.components.dataset.fingerprint,
        }

    def put_off(self) -> None:
        """Raises PutOff where a signal has come; not in a group, whose processes are in the middle of it together."""
        if self.session.stop.signum is not None and self.components.group.size == 1:
            raise PutOff

    def finish(self) -> None:
        """Samples, evaluation and figures of the finished network."""
        finished = replace(self.components, net=self.state.ema, run=self.run, tick=self.session.stop.check)
        phase = self.session.phase
        if finished.objective.generates:
            with phase(f"sampling {self.config['n']:,}"):
                finished = write_samples(finished, self.run, self.session.bar).components
        if output.is_evaluated(self.config):
            with phase("evaluating") as tick:
                self.metrics = output.evaluate(replace(finished, tick=tick), self.session.bar)
            output.log_metrics(finished, self.metrics)
        if not self.figures:
            return
        from diffusion_cli.figures.draw import drawable

        figures = drawable(self.figures, finished.dataset)
        with phase(f"drawing {', '.join(figures)}") as tick:
            for name, graphic in output.draw_figures(figures, replace(finished, tick=tick)):
                file = graphic.save(self.run.figures / f"{name}{graphic.suffix}")
                if self.logger.wants_pictures and file.suffix == ".png":
                    self.logger.picture(self.state.step, f"figures/{name}", file.read_bytes())

    def write_summary(self, status: str, error: BaseException | None = None) -> None:
        seconds = time.monotonic() - self.started if self.training_seconds is None else self.training_seconds
        done = self.state.step - self.first_step
        # as it is written: a resumed run knows no more digits
        loss = float(self.table.rows[-1]["loss"]) if self.table.rows else math.nan
        self.run.write_summary(
            status=status,
            **({} if error is None else {"error": str(error) or type(error).__name__}),
            steps=self.state.step,
            seconds=round(seconds, 3),
            steps_per_second=round(done / seconds, 3) if seconds else None,
            loss=loss if math.isfinite(loss) else None,
            metrics=self.metrics,
            data=self.facts,
            seed=self.components.seed,
            processes=self.components.group.size,
            **output.describe(self.components.device),
        )
