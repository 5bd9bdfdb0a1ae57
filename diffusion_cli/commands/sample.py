"""`diffusion sample`: points from a trained run, which says everything itself."""

from __future__ import annotations

import logging
import time
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.cli.app import command
from diffusion_cli.cli.inherit import EXACT, inherit
from diffusion_cli.commands.output import bar, describe, draw_figures, facts
from diffusion_cli.runs.directory import FINISHED, Run

log = logging.getLogger(__name__)
prepare = inherit


@command
def main(config: DictConfig) -> None:
    from diffusion_cli.completions import complete
    from diffusion_cli.components import Experiment

    plain = OmegaConf.to_container(config, resolve=True)
    source = None if config.run == EXACT else Run(config.run)
    out = Run(HydraConfig.get().runtime.output_dir)
    experiment = Experiment(plain, source)
    started = time.monotonic()
    asked = {}
    if config.inpaint is None:
        completed, (x, label) = None, experiment.samples
        out.write_samples(x, label)
    else:
        asked = {key: plain[key] for key in ("inpaint", "completions", "repaint")}
        completed = complete(experiment, config.n, bar)
        x, label, original, mask = completed
        out.write_samples(x, label, original=original, mask=mask)
    seconds = time.monotonic() - started
    if config.plots and completed:
        draw_completions(experiment, completed, out)
    elif config.plots:
        draw_figures(experiment, {"samples": plain["figures"]["samples"]}, out.figures)
    if config.export:
        experiment.export(out.weights_file)
    out.write_summary(
        status=FINISHED,
        run=config.run,
        weights=config.weights,
        n=config.n,
        seconds=round(seconds, 3),
        sampler=plain["sampler"],
        guidance=plain["guidance"],
        label=plain["label"],
        **asked,
        seed=config.seed,
        **describe(experiment.device),
    )
    log.info("%d samples in %.1f s: %s", len(x), seconds, out.path)


def draw_completions(experiment: Any, completed: Any, out: Run) -> None:
    """The figure of in-painting, where the data allow one."""
    from diffusion_cli.figures.files import save
    from diffusion_cli.figures.recipes.inpainting import show_completions

    figure = show_completions(experiment, completed)
    if figure is not None:
        save(figure, out.figures / "inpainting.png", facts(experiment))
