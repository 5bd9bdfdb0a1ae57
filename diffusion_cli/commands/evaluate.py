"""`diffusion evaluate`: how far the samples of a run are from the truth."""

from __future__ import annotations

import logging
from typing import Any

from diffusion_cli.commands.output import bars, describe, evaluate, prepare_process
from diffusion_cli.runs.atomic import write_json
from diffusion_cli.runs.directory import Run

log = logging.getLogger(__name__)


def check(config: dict[str, Any], directory: str | None) -> None:
    """Nothing beyond the keys themselves."""


def main(config: dict[str, Any], run: Run, alone: bool) -> None:
    from diffusion_cli.components import of

    prepare_process(config["threads"])
    components = of(config)
    report = {
        **{key: config[key] for key in ("run", "sampler", "guidance", "label", "seed")},
        "metrics": evaluate(components, bars(alone)),
        **describe(components.device),
    }
    write_json(run.evaluation_file, report)
    log.info("%s", run.evaluation_file)
