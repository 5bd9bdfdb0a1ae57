"""`diffusion plot`: one figure, of a run or of a dataset and a schedule alone."""

from __future__ import annotations

import logging

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_cli.cli.app import command
from diffusion_cli.cli.inherit import EXACT, inherit
from diffusion_cli.commands.output import draw_figures
from diffusion_cli.errors import UserError
from diffusion_cli.runs import results as gather
from diffusion_cli.runs import tables
from diffusion_cli.runs.directory import Run

log = logging.getLogger(__name__)
COMPARING = "diffusion_cli.figures.recipes.sweep."  # figures of many runs over x, y and hue
TABLE = "diffusion_cli.figures.recipes.quality.objective_table"  # of many runs
PAGE = "diffusion_cli.figures.recipes.report.report"  # of one run, or of many


def prepare(config: DictConfig) -> None:
    """Completes the config by its run; for a figure of many, looks whether they have what it is to show."""
    target = str(config.figure.get("_target_"))
    compares = target.startswith(COMPARING)
    refused = ("sweep", "runs", "x", "y", "hue")
    if compares or target in (TABLE, PAGE):
        refused = () if compares else refused[2:]
    for key in refused:
        if config[key] is not None:
            raise UserError(
                key, config[key], "is for figures of many runs", ("figure=sweep", "figure=sweep_grid")
            )
    if not compares and target != TABLE and config.sweep is None and config.runs is None:
        return inherit(config)
    config.run = EXACT  # no network is needed, or those of the many
    inherit(config)
    asked = OmegaConf.to_container(OmegaConf.masked_copy(config, ["sweep", "runs", "x", "y", "hue"]))
    if compares:
        gather.Comparison(asked)
    else:
        gather.asked(asked["sweep"], asked["runs"])
    config.hydra.runtime.choices.dataset = "sweep"  # in the name of the directory


@command
def main(config: DictConfig) -> None:
    from diffusion_cli.components import Experiment

    plain = OmegaConf.to_container(config, resolve=True)
    hydra = HydraConfig.get()
    out = Run(hydra.runtime.output_dir)
    experiment = Experiment(plain, None if config.run == EXACT else Run(config.run))
    name = hydra.runtime.choices.figure
    if not draw_figures(experiment, {name: plain["figure"]}, out.path) and not (config.sweep or config.runs):
        raise UserError("figure", name, "this run has nothing of it to draw")
    if config.sweep or config.runs:
        tables.write(gather.asked(plain["sweep"], plain["runs"]), out.path, hydra.runtime.choices.figure)
    log.info("%s", out.path)
