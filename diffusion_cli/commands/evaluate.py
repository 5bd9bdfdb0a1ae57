"""`diffusion evaluate`: how far the samples of a run are from the truth."""

from __future__ import annotations

import logging
from dataclasses import replace

from diffusion_cli.commands.output import describe, evaluate, joint_components, log_metrics
from diffusion_cli.ranges import Config
from diffusion_cli.runs.atomic import write_json
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.session import Session

log = logging.getLogger(__name__)


def check(config: Config, directory: str | None) -> None:
    """Nothing beyond the keys themselves."""


def main(config: Config, run: RunDirectory, session: Session) -> None:
    with joint_components(config, session) as components, session.phase("evaluating") as tick:
        measured = evaluate(replace(components, tick=tick), session.bar)
    log_metrics(components, measured)
    report = {
        **{key: config[key] for key in ("run", "sampler", "guidance", "label", "seed")},
        "metrics": measured,
        **describe(components.device),
    }
    write_json(run.evaluation_file, report)
    log.info("%s", run.evaluation_file)
