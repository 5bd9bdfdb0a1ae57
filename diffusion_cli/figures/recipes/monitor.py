"""The figure of what was measured during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_cli.errors import UserError
from diffusion_cli.figures import curves
from diffusion_cli.figures.recipes.plane import of_run
from diffusion_cli.metrics.catalogue import label_of
from diffusion_cli.runs.directory import read_csv

if TYPE_CHECKING:
    from diffusion_cli.components import Components

FLOOR = "_floor"


def metric_curve(components: Components, metrics: list[str] | None) -> Any:
    """The metrics of evaluations.csv over steps, with their floors; None where the run has not measured any (see
    `monitor` in train.yaml). metrics: their names, in this order; None: all."""
    run = of_run(components, "metric_curve")
    columns = read_csv(run.evaluations_file) if run.evaluations_file.is_file() else {}
    if not columns:
        return None
    known = [name for name in columns if name != "step" and not name.endswith(FLOOR)]
    for name in metrics or ():
        if name not in known:
            raise UserError("figure.metrics", name, "was not measured during training", known)
    shown = {
        label_of(name): (
            columns[name],
            float(np.mean(columns[name + FLOOR])) if name + FLOOR in columns else None,
        )
        for name in metrics or known
    }
    return curves.metric_curves(columns["step"], shown)
