"""`diffusion plot`: one figure, of a run, of many runs, or of a dataset and a schedule alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_cli.commands.output import components_of, draw_figures
from diffusion_cli.commands.sample import check_image
from diffusion_cli.errors import UserError
from diffusion_cli.options.check import TARGET, check_config
from diffusion_cli.options.signature import read
from diffusion_cli.ranges import Config
from diffusion_cli.runs import comparison, results, tables
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.figures.graphic import Graphic

log = logging.getLogger(__name__)
COMPARED = ("sweep", "runs", "x", "y", "hue")


def check(config: Config, directory: str | None) -> None:
    """For a figure of many runs: whether they have what it shows. For another: that none are named."""
    check_image(config)
    many = wanted_results(config)
    for result in many.results if isinstance(many, comparison.Comparison) else many or ():
        # perhaps a stranger's
        check_config(result.config)


def main(config: Config, run: RunDirectory, session: Session) -> None:
    many = wanted_results(config)
    name = run_config.read_record(run.path).choices["figure"]
    graphic = draw_one(name, config, session, many)
    graphic.save(file := run.path / f"{name}{graphic.suffix}")
    if many is not None:
        tables.write_tables(results.results_of(config["sweep"], config["runs"]), run.path, name)
    log.info("open %s", file)


def draw_one(name: str, config: Config, session: Session, many: comparison.Compared | None = None) -> Graphic:
    """The figure that the config means.

    name: the option's.
    many: the runs that it compares, see `wanted_results`.
    """
    components = components_of(config, session)
    with session.phase(f"drawing {name}") as tick:
        for _, graphic in draw_figures({name: config["figure"]}, replace(components, tick=tick), many):
            return graphic
    raise UserError("figure", name, "this run has nothing of it to draw")


def wanted_results(config: Config) -> comparison.Compared | None:
    """The runs that the figure compares, as its argument `results` wants them; None for a figure of one run."""
    signature = read(config["figure"][TARGET])
    wanted = signature.arguments.get("results") if signature else None
    annotation = wanted.annotation if wanted else ""
    given = [key for key in COMPARED if config[key] is not None]
    allowed = COMPARED if annotation == "Comparison" else COMPARED[:2] if wanted else ()
    for key in given:
        if key not in allowed:
            choices = ("figure=sweep", "figure=sweep_grid")
            raise UserError(key, config[key], "is for figures of many runs", choices)
    if annotation == "Comparison":
        return comparison.Comparison(config)
    many = wanted is not None and (wanted.default is not None or bool(given))
    return results.results_of(config["sweep"], config["runs"]) if many else None
