"""Studies of quality: of each sampler over its network calls, of what a network predicts and is trained for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_cli.components import Components, trained
from diffusion_cli.denoiser import Label, Time
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.figures import quality
from diffusion_cli.figures.recipes.material import sampler_of
from diffusion_cli.metrics.catalogue import label_of
from diffusion_cli.metrics.measurement import Measurement, mean_and_spread, measurements
from diffusion_cli.metrics.protocol import Evaluation
from diffusion_cli.objective import Objective
from diffusion_cli.prediction import Prediction
from diffusion_cli.ranges import Count, Many, Steps, checked
from diffusion_cli.runs import comparison, ranking
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.results import OF_THE_LOSS, Result
from diffusion_cli.sampler import DDPM, Sampler
from diffusion_cli.schedule import Schedule

# The weighting of a loss -> its name in the papers.
LOSSES = {"simple": "L simple", "vlb": "L", "min_snr": "min-SNR"}
# In the order of Ho et al. 2020, table 2; others after them.
PARAMETERIZATIONS = ("mean", "eps", "x0", "v")

# Among names of samplers: that of the run.
OWN = "own"

Variance = Literal["posterior", "beta", "analytic", "learned"]


@checked
def sampler_study(
    components: Components,
    samplers: Sequence[str] = ("own", "ddim", "dpmpp", "heun"),
    steps: Sequence[Steps] = (5, 10, 20, 50),
    metric: str | None = None,
    n: Many | None = None,
    draws: Count = 1,
    exact: bool = True,
) -> Figure:
    """A metric of several samplers over network calls, as a ratio to the floor of true samples where there is one.

    samplers: their names, as in sampler=NAME; own: that of the run.
    steps: network steps of each sampler.
    metric: of the run's evaluation; null: its first.
    n: samples of each point of the curves; null: as many as the evaluation has.
    draws: independent sets of them.
    exact: whether also with the exact denoiser, where the data have one.
    """
    chosen = {
        name: [
            components.varied(sampler={"steps": count}).sampler
            if name == OWN
            else sampler_of(components, name, steps=count)
            for count in steps
        ]
        for name in samplers
    }
    measure = Measure(metric and [metric], n, draws)

    def line(one: Components, name: str) -> quality.CallsLine:
        calls = [network_calls(sampler, one.schedule) for sampler in chosen[name]]
        return quality.CallsLine(
            calls, [measure(one, sampler)[measure.first].value for sampler in chosen[name]]
        )

    lines, best = {name: line(components, name) for name in samplers}, {}
    if exact and components.run is not None and components.dataset.density is not None:
        best = {name: line(replace(components, net=None), name) for name in samplers}
    return quality.over_calls(
        lines, best, measure.name(measure.first), measure.floors[measure.first] is not None
    )


@checked
def objective_table(
    results: Sequence[Result],
    variances: Sequence[Literal["posterior", "beta", "analytic"]] = ("beta", "posterior", "analytic"),
    metrics: Sequence[str] = ("sliced_w2", "distance_mean"),
    n: Many | None = 5000,
    draws: Count = 1,
) -> Figure:
    """Metrics of a sweep over parameterization (rows), loss and variance of the sampler (columns): means over seeds with
    their standard errors.

    Runs of objective=hybrid have a variance of their own, which is learned. The rows of Ho et al. 2020, table 2, are
    parameterization=mean and eps with objective.weighting=vlb (L) and simple, and L with a learned variance is
    objective=hybrid objective.weighting=vlb objective.vlb=1. Runs that differ in anything else are refused.

    variances: of the sampler, for the other runs.
    metrics: of the runs' evaluation, a table each.
    n: samples in each cell; null: as many as the evaluation has.
    draws: independent sets of them.
    """
    runs = finished(results)
    refuse_others([key for key in comparison.varied(runs) if key.partition(".")[0] not in OF_THE_LOSS[1:]])
    cells: dict[tuple[str, tuple[str, str]], list[Result]] = {}
    found: dict[tuple[str, tuple[str, str]], list[dict[str, Number]]] = {}
    measure = Measure(metrics, n, draws)
    for result in runs:
        one = trained(result.config, RunDirectory(result.path))
        objective = one.objective
        if not isinstance(objective, Objective):
            raise UserError("sweep", str(result.path), "was trained by another loss than that of noise")
        learned = objective.outputs > 1
        simple = objective.weighting == "simple"
        loss = "L hybrid" if learned and simple else LOSSES[objective.weighting]
        chosen: Sequence[Variance] = ["learned"] if learned else variances
        for variance in chosen:
            own = one.sampler
            sampler = replace(own, variance=variance) if isinstance(own, DDPM) else DDPM(variance=variance)
            cell = str(result.keys.get("parameterization")), (loss, variance)
            cells.setdefault(cell, []).append(result)
            refuse_others(comparison.varied(cells[cell]))
            found.setdefault(cell, []).append(measure(one, sampler))
    named = {row for row, _ in found}
    rows = [*(name for name in PARAMETERIZATIONS if name in named), *sorted(named - {*PARAMETERIZATIONS})]
    losses, kinds = [*LOSSES.values(), "L hybrid"], [*variances, "learned"]
    columns = sorted({column for _, column in found}, key=lambda c: (losses.index(c[0]), kinds.index(c[1])))
    tables = {
        measure.name(metric): averaged_table(
            [[[each[metric] for each in found.get((row, column), [])] for column in columns] for row in rows]
        )
        for metric in metrics
    }
    return quality.number_tables(rows, [c[1] for c in columns], tables, [c[0] for c in columns])


def refuse_others(others: Sequence[str]) -> None:
    """UserError where runs differ in what a table has no place for."""
    if others:
        reason = f"the runs differ in {', '.join(others)} too, over which no mean is taken; choose some by runs=[DIR,DIR]"
        raise UserError("sweep", ..., reason)


def averaged_table(cells: Sequence[Sequence[Sequence[Number]]]) -> quality.NumberTable:
    """Means over the runs of each cell; their standard errors, of a single run its own; and the cell that is clearly best."""
    values = np.full((len(cells), len(cells[0])), np.nan)
    errors, costs, places = values.copy(), [], []
    for place in np.ndindex(values.shape):
        numbers = cells[place[0]][place[1]]
        if not numbers:
            continue
        mean, std = mean_and_spread([number.value for number in numbers])
        error = numbers[0].error if std is None else std / math.sqrt(len(numbers))
        values[place], errors[place] = mean, math.nan if error is None else error
        if math.isfinite(mean):
            costs.append((ranking.cost(mean, numbers[0].better), error))
            places.append(place)
    best = ranking.clear_best(costs)
    return quality.NumberTable(values, errors, None if best is None else places[best])


def finished(results: Sequence[Result]) -> list[Result]:
    """The finished runs among these; UserError where there is none."""
    found = [result for result in results if result.status == "finished"]
    if not found:
        raise UserError("sweep", ..., "has no finished run")
    return found


class Number(NamedTuple):
    """A metric of one set of samples; its standard error, or None; and which way it is better."""

    value: float
    error: float | None
    better: str | float


class Measure:
    """Some metrics of a run's own evaluation, as ratios to the floor where there is one, which is measured once.

    metrics: their names; None: the first that the evaluation has.
    n: samples in each of so many draws; None: as many as the evaluation has.
    """

    def __init__(self, metrics: Sequence[str] | None, n: int | None, draws: int) -> None:
        self.metrics = metrics
        self.sizes = {"draws": draws} | ({} if n is None else {"n": n})
        self.floors: dict[str, float | None] = {}
        self.evaluation: Evaluation | None = None

    @property
    def first(self) -> str:
        return next(iter(self.floors))

    def name(self, metric: str) -> str:
        return label_of(metric) + (" / floor" if self.floors[metric] else "")

    def __call__(self, components: Components, sampler: Sampler) -> dict[str, Number]:
        """metric -> value with this sampler."""
        if self.evaluation is None:
            node = components.config["evaluation"]
            sizes = {key: size for key, size in self.sizes.items() if key in node}
            self.evaluation = components.varied(evaluation=sizes).evaluation
        report = replace(components, sampler=sampler, evaluation=self.evaluation).evaluate()
        entries = measurements(report)
        if not entries:
            raise UserError("evaluation", ..., "measures nothing of this run that could be compared")
        for metric in self.metrics or ():
            if metric not in entries:
                raise ArgumentError("metric", metric, "is not measured by this evaluation", entries)
        if not self.floors:
            for metric in self.metrics or list(entries)[:1]:
                entry = entries[metric]
                self.floors[metric] = entry.get("floor") if entry.get("ratio") else None
        return {metric: self.number(entries[metric], floor or 1.0) for metric, floor in self.floors.items()}

    def number(self, entry: Measurement, unit: float) -> Number:
        value, error = entry["value"], ranking.error_of(entry)
        better = entry["better"] / unit if isinstance(entry["better"], float) else entry["better"]
        return Number(
            math.nan if value is None else value / unit, None if error is None else error / unit, better
        )


def network_calls(sampler: Sampler, schedule: Schedule) -> int:
    """How often a sampler asks the network for one sample, counted."""
    counter = CallCounter(schedule)
    for _ in sampler(counter, torch.zeros(1, 1), None, lambda: torch.zeros(1, 1)):
        pass
    return counter.calls


class CallCounter:
    """A denoiser that predicts nothing and counts its calls."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.calls = schedule, 0

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        self.calls += 1
        return Prediction(torch.zeros_like(x_t), x_t, torch.zeros_like(x_t))
