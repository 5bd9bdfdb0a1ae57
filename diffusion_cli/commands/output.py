"""What the commands have in common to show: a progress bar, the evaluation's table, figures, versions."""

from __future__ import annotations

import logging
import platform
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from diffusion_cli.runs.resume import fingerprint

log = logging.getLogger(__name__)


def bar(total: int, done: int = 0, unit: str = "step"):
    """A progress bar with rate and remaining time; silent in a sweep and where stderr is no terminal."""
    from tqdm import tqdm

    quiet = HydraConfig.get().mode == RunMode.MULTIRUN or not sys.stderr.isatty()
    return tqdm(total=total, initial=done, unit=unit, disable=quiet, dynamic_ncols=True, mininterval=0.5)


def evaluate(experiment: Any) -> dict[str, Any]:
    """The experiment's metrics, logged as a table; {} where there are none."""
    report = experiment.evaluate(progress=bar)
    if report:
        log.info("%s, seed %d\n%s", experiment.sampler, experiment.seed, experiment.evaluation.table(report))
    return report


def draw_figures(experiment: Any, nodes: dict[str, Any], folder: Path) -> list[Path]:
    """Draws the figures configured in `nodes`, name -> figure; the files of those of which there is something."""
    from diffusion_cli.build import build
    from diffusion_cli.figures.files import save, suffixes

    files = []
    for name, node in nodes.items():
        if node is None:  # a config has left this one out
            continue
        figure = build({"figure": node}, "figure", experiment=experiment)
        if figure is not None:
            files.append(save(figure, folder / f"{name}{suffixes(figure)[0]}", facts(experiment)))
    return files


def facts(experiment: Any) -> dict[str, str]:
    """What a figure file says of itself: version, run, seed, and a hash of the whole config."""
    from diffusion_cli import __version__

    many = experiment.config.get("sweep") or ",".join(experiment.config.get("runs") or ())
    return {
        "Software": f"diffusion_cli {__version__}",
        "run": str(experiment.run.path) if experiment.run else many or "exact",
        "seed": str(experiment.seed),
        "config": fingerprint(experiment.config),
    }


def describe(device: Any) -> dict[str, Any]:
    """What a result depends on beside its config."""
    import numpy as np
    import torch

    from diffusion_cli import __version__

    versions = {"diffusion_cli": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions | {"python": platform.python_version()},
    }
