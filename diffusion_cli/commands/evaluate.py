"""`diffusion evaluate`: how far the samples of a run are from the truth."""

from __future__ import annotations

import logging

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.cli.app import command
from diffusion_cli.cli.inherit import EXACT, inherit
from diffusion_cli.commands.output import describe, evaluate
from diffusion_cli.runs.directory import Run, write_json

log = logging.getLogger(__name__)
prepare = inherit


@command
def main(config: DictConfig) -> None:
    from diffusion_cli.components import Experiment

    plain = OmegaConf.to_container(config, resolve=True)
    experiment = Experiment(plain, None if config.run == EXACT else Run(config.run))
    out = Run(HydraConfig.get().runtime.output_dir)
    report = {
        "run": config.run,
        "sampler": plain["sampler"],
        "guidance": plain["guidance"],
        "label": plain["label"],
        "seed": config.seed,
        "metrics": evaluate(experiment),
        **describe(experiment.device),
    }
    write_json(out.evaluation_file, report)
    log.info("%s", out.evaluation_file)
