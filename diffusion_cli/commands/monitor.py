"""What is repeated during training: the evaluation, with its rows in evaluations.csv, and samples."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.rows import Metrics
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.model.network import Network
    from diffusion_cli.runs.logger import Logger

log = logging.getLogger(__name__)
# Noise levels at which the network itself is compared with the exact denoiser, and on how many points.
ERROR_LEVELS, ERROR_POINTS = 5, 512


class RepeatedEvaluation:
    """Evaluates the averaged network every `monitor.every` steps of training, from always the same noise.

    A row depends on the network and the seed alone, and one that is due is made before anything else when a run goes
    on: a killed and resumed run has the rows, bit for bit, of one that was never killed.
    """

    def __init__(self, components: Components, run: RunDirectory, step: int, session: Session) -> None:
        self.every = components.config["monitor"]["every"] or 0
        self.steps, self.session = components.config["steps"], session
        self.table = Metrics(run.evaluations_file, since=step)
        self.started, self.first = time.monotonic(), step
        self.cost_logged = not self.every
        if self.every:
            self.components = smaller(components)

    def prepare(self, net: Network) -> None:
        """What the evaluation needs once, so that it is done, and its cost known, before training begins."""
        if self.every:
            given = replace(self.components, net=net).evaluation_input(self.session.bar)
            self.components.evaluation.prepare(given)
        self.started = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether this step's row is wanted and not there."""
        wanted = self.every and step and step % self.every == 0
        return bool(wanted) and all(int(row["step"]) != step for row in self.table.rows[-1:])

    def evaluate(self, net: Network, step: int, tick: Callable[[], None]) -> dict[str, float]:
        """The row of this step: name -> value, and name_floor. tick: called between the steps of samplers; it may raise."""
        from diffusion_cli.metrics.measurement import row_of

        before = time.monotonic()
        now = replace(self.components, net=net, tick=tick)
        row = row_of(now.evaluate()) | network_errors(now)
        if self.table.rows and list(self.table.rows[0]) != ["step", *row]:
            log.warning("%s held another evaluation's figures and begins anew", self.table.path.name)
            self.table.rows.clear()
        self.table.add({"step": step, **row})
        self.table.write()
        if not self.cost_logged:
            self._log_cost(step, time.monotonic() - before, before - self.started)
        return row

    def _log_cost(self, step: int, seconds: float, training: float) -> None:
        """After the first one: how many there will be, how long each takes, and how much of the whole time that is."""
        if step == self.first:
            # a row made up for: nothing has been trained to compare it with
            return
        self.cost_logged = True
        interval = training / (step - self.first) * self.every
        log.info("evaluating every %d steps: %d times about %.1f s, %.0f %% of the time", self.every,
                 self.steps // self.every, seconds, 100 * seconds / (seconds + interval))  # fmt: skip


def network_errors(components: Components) -> dict[str, float]:
    """error_R: the squared distance from the exact denoiser at sigma/alpha = R, of data whose density is known."""
    from diffusion_cli.metrics.network_error import velocity_errors
    from diffusion_cli.noise import NoiseStream, Stream, generator

    c, net = components, components.net
    if net is None or net.numbers or not c.objective.generates or c.dataset.density is None:
        return {}
    g = generator(c.seed, Stream.NETWORK_ERROR, device=c.device)
    data = c.dataset.draw(ERROR_POINTS, g)
    noise = NoiseStream(c.seed, ERROR_POINTS, c.dataset.shape, c.device, Stream.NETWORK_ERROR)
    times = sorted({1 + round(k * (c.schedule.T - 1) / (ERROR_LEVELS - 1)) for k in range(ERROR_LEVELS)})
    found = velocity_errors(c.network_denoiser(net.eval()), c.exact, data, noise, times)
    return {f"error_{ratio:.2g}": error for ratio, error in found.items()}


def smaller(components: Components) -> Components:
    """The components as they are evaluated during training (config `monitor`): fewer samples, one draw, fewer steps."""
    from diffusion_cli.metrics.classification import ClassifierEvaluation

    monitor = components.config["monitor"]
    if not components.objective.generates:
        return replace(components, evaluation=ClassifierEvaluation(monitor["n"]))
    sizes = {"n": monitor["n"], "draws": 1}
    known = components.config["evaluation"]
    changes = {"evaluation": {key: value for key, value in sizes.items() if key in known}}
    if monitor["steps"] is not None:
        changes["sampler"] = {"steps": monitor["steps"]}
    return components.varied(**changes)


class RepeatedSampling:
    """Draws the stages that are due, and not there, always from the same noise: a run that goes on makes up for what a signal
    has put off."""

    def __init__(self, components: Components, run: RunDirectory, logger: Logger) -> None:
        self.components, self.run, self.logger = components, run, logger
        stages = components.config["stages"]
        self.every = (stages["every"] or 0) if components.objective.generates else 0
        self.n = stages["n"]

    def due(self, step: int) -> bool:
        """Whether samples of this step are wanted and not there."""
        return bool(self.every) and step % self.every == 0 and not self.run.stage_file(step).exists()

    def draw(self, net: Network, step: int, tick: Callable[[], None], progress: Progress = silent) -> None:
        """Samples of the averaged network as it is now. tick: called between the steps of samplers; it may raise."""
        drawn = replace(self.components, net=net, tick=tick).draw(self.n, progress=progress)
        x0 = self.components.units.array(drawn.x0)
        self.run.write_stage(step, x0)
        if self.logger.wants_pictures:
            from diffusion_cli.figures.files import encoded
            from diffusion_cli.figures.pictures import GRID
            from diffusion_cli.figures.recipes.material import view_of

            view = view_of(self.components)
            figure = view.grid(x0[:GRID] if view.panels else x0)
            self.logger.picture(step, "samples", encoded(figure, ".png"))
