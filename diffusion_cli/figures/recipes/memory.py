"""The figure of learning by heart: distances to two exact scores over training, for several numbers of training examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffusion_cli.errors import UserError
from diffusion_cli.figures.curves import score_curves
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.results import Result
from diffusion_cli.runs.rows import read_csv

EMPIRICAL, TRUTH = "empirical_score", "truth_score"


def memory_onset(results: Sequence[Result]) -> Figure:
    """Distances of a network to the empirical and to the true score over training, and when it begins to learn by heart:
    `train -m dataset.n=64,256,1024 evaluation=memory monitor.every=250`, then `plot figure=memory_onset sweep=DIR`."""
    found: dict[int, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]] = {}
    for result in results:
        file, n = RunDirectory(result.path).evaluations_file, result.keys.get("dataset.n")
        columns = read_csv(file) if file.is_file() else {}
        if isinstance(n, int) and EMPIRICAL in columns and TRUTH in columns:
            step, empirical, truth = (np.asarray(columns[name], float) for name in ("step", EMPIRICAL, TRUTH))
            found[n] = step, empirical, truth
    if not found:
        reason = (
            "holds no run with dataset.n and evaluations of evaluation=memory during training (monitor.every)"
        )
        raise UserError("sweep", ..., reason)
    ordered = dict(sorted(found.items()))
    return score_curves(ordered, {n: onset(*curves) for n, curves in ordered.items()})


def onset(
    step: NDArray[np.float64], empirical: NDArray[np.float64], truth: NDArray[np.float64]
) -> float | None:
    """The step from which on the empirical score is nearer than the true one to the end, between two rows linearly; None: it
    never is.

    >>> onset(np.array([0.0, 10.0]), np.array([2.0, 1.0]), np.array([1.0, 2.0]))
    5.0
    """
    nearer = empirical - truth
    if nearer[-1] >= 0:
        return None
    above = np.flatnonzero(nearer >= 0)
    if not len(above):
        return float(step[0])
    k = above[-1]
    part = nearer[k] / (nearer[k] - nearer[k + 1])
    return float(step[k] + part * (step[k + 1] - step[k]))
