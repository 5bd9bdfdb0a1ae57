"""`diffusion evaluate`: how far the samples of a run are from the truth."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from diffusion_cli.commands.output import describe, evaluate, prepare_process, warn_of_outliers
from diffusion_cli.runs.atomic import write_json
from diffusion_cli.runs.directory import Run
from diffusion_cli.runs.session import Session

log = logging.getLogger(__name__)


def check(config: dict[str, Any], directory: str | None) -> None:
    """Nothing beyond the keys themselves."""


def main(config: dict[str, Any], run: Run, session: Session) -> None:
    from diffusion_cli.components import of

    prepare_process(config["threads"])
    components = replace(of(config), tick=session.stop.check)
    if components.net is not None:
        warn_of_outliers(components)
    components.refuse_too_many("evaluation.n", components.evaluation.n)
    report = {
        **{key: config[key] for key in ("run", "sampler", "guidance", "label", "seed")},
        "metrics": evaluate(components, session.bar),
        **describe(components.device),
    }
    write_json(run.evaluation_file, report)
    log.info("%s", run.evaluation_file)
