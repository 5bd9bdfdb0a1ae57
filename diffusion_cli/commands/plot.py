"""`diffusion plot`: one figure, of a run or of a dataset and a schedule alone."""

from __future__ import annotations

import logging

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.commands.app import command
from diffusion_cli.commands.inherit import EXACT, inherit
from diffusion_cli.commands.output import draw_figures
from diffusion_cli.run import Run

log = logging.getLogger(__name__)
prepare = inherit


@command
def main(config: DictConfig) -> None:
    from diffusion_cli.experiment import Experiment

    plain = OmegaConf.to_container(config, resolve=True)
    hydra = HydraConfig.get()
    out = Run(hydra.runtime.output_dir)
    experiment = Experiment(plain, None if config.run == EXACT else Run(config.run))
    draw_figures(experiment, {hydra.runtime.choices.figure: plain["figure"]}, out.path)
    log.info("%s", out.path)
