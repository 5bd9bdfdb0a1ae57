"""Samples during training, always from the same noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.runs.directory import RunDirectory

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.model.network import Network
    from diffusion_cli.runs.logger import Logger


class RepeatedSampling:
    """Draws the stages that are due, and not there: a run that goes on makes up for what a signal has put off."""

    def __init__(self, components: Components, run: RunDirectory, logger: Logger) -> None:
        self.components, self.run, self.logger = components, run, logger
        wanted = components.objective.generates
        self.every, self.n = (
            (components.config["stages"]["every"] or 0) * wanted,
            components.config["stages"]["n"],
        )

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
