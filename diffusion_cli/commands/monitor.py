"""The evaluation repeated during training: its rows in evaluations.csv, and what it costs."""

from __future__ import annotations

import logging
import time
from typing import Any

from diffusion_cli.commands.output import bar
from diffusion_cli.runs.directory import Metrics, Run

log = logging.getLogger(__name__)


class Monitor:
    """Evaluates the averaged network every `monitor.every` steps of training, from always the same noise.

    A row depends on the network and the seed alone, and one that is due is made before anything else when a run goes
    on: a killed and resumed run has the rows, bit for bit, of one that was never killed.
    """

    def __init__(self, experiment: Any, run: Run, step: int) -> None:
        self.every = experiment.config["monitor"]["every"] or 0
        self.steps = experiment.config["steps"]
        self.table = Metrics(run.evaluations_file, since=step)
        self.started, self.first = time.monotonic(), step
        self.costs_told = not self.every
        if self.every:
            self.experiment = experiment.repeated()

    def prepare(self, state: Any) -> None:
        """What the evaluation needs once, so that it is done, and its cost known, before training begins."""
        if self.every:
            prepare = getattr(self.experiment.evaluation, "prepare", None)
            if prepare is not None:
                prepare(self.experiment.subject(state.ema, bar))
        self.started = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether this step's row is wanted and not there."""
        wanted = self.every and step and step % self.every == 0
        return bool(wanted) and all(int(row["step"]) != step for row in self.table.rows[-1:])

    def evaluate(self, state: Any) -> dict[str, float]:
        """The row of this step: name -> value, and name_floor."""
        from diffusion_cli.metrics.evaluation import numbers

        before = time.monotonic()
        row = numbers(self.experiment.evaluate(state.ema))
        if self.table.rows and list(self.table.rows[0]) != ["step", *row]:
            log.warning("%s held another evaluation's figures and begins anew", self.table.path.name)
            self.table.rows.clear()
        self.table.add({"step": state.step, **row})
        self.table.write()
        if not self.costs_told:
            self._tell_costs(state.step, time.monotonic() - before, before - self.started)
        return row

    def _tell_costs(self, step: int, seconds: float, training: float) -> None:
        """After the first one: how many there will be, how long each takes, and how much of the whole time that is."""
        if step == self.first:
            return  # a row made up for: nothing has been trained to compare it with
        self.costs_told = True
        interval = training / (step - self.first) * self.every
        log.info("evaluating every %d steps: %d times about %.1f s, %.0f %% of the time", self.every,
                 self.steps // self.every, seconds, 100 * seconds / (seconds + interval))  # fmt: skip
