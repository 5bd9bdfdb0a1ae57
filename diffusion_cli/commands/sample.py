"""`diffusion sample`: points from a trained run, which says everything itself."""

from __future__ import annotations

import logging
import time

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.commands.app import command
from diffusion_cli.commands.inherit import EXACT, inherit
from diffusion_cli.commands.output import describe, draw_figures
from diffusion_cli.run import FINISHED, Run

log = logging.getLogger(__name__)
prepare = inherit


@command
def main(config: DictConfig) -> None:
    from diffusion_cli.experiment import Experiment

    plain = OmegaConf.to_container(config, resolve=True)
    source = None if config.run == EXACT else Run(config.run)
    out = Run(HydraConfig.get().runtime.output_dir)
    experiment = Experiment(plain, source)
    started = time.monotonic()
    x, label = experiment.samples
    seconds = time.monotonic() - started
    out.write_samples(x, label)
    if config.plots:
        draw_figures(experiment, {"samples": plain["figures"]["samples"]}, out.figures)
    out.write_summary(
        status=FINISHED,
        run=config.run,
        n=config.n,
        seconds=round(seconds, 3),
        sampler=plain["sampler"],
        guidance=plain["guidance"],
        label=plain["label"],
        seed=config.seed,
        **describe(experiment.device),
    )
    log.info("%d samples in %.1f s: %s", config.n, seconds, out.path)
