"""Studies of quality: of each sampler over its network calls, of what a network predicts and is trained for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diffusion_cli import sampler as samplers_of
from diffusion_cli.components import trained
from diffusion_cli.errors import UserError
from diffusion_cli.figures import quality
from diffusion_cli.metrics.catalogue import label_of
from diffusion_cli.metrics.measurement import measurements
from diffusion_cli.prediction import Prediction
from diffusion_cli.runs import results as gather
from diffusion_cli.runs.directory import Run

if TYPE_CHECKING:
    from diffusion_cli.components import Components

SAMPLERS = {
    "ddpm": samplers_of.DDPM,
    "ddim": samplers_of.DDIM,
    "dpmpp": samplers_of.DPMpp,
    "heun": samplers_of.Heun,
}
LOSSES = {"simple": "L simple", "vlb": "L", "min_snr": "min-SNR"}  # weighting -> as the papers call it
PARAMETERIZATIONS = ("mean", "eps", "x0", "v")  # in the order of Ho et al. 2020, table 2; others after them


def sampler_study(
    components: Components,
    samplers: list[str],
    steps: list[int],
    metric: str,
    n: int,
    draws: int,
    exact: bool,
) -> Any:
    """A metric of each sampler over its network calls, as a ratio to the floor of true samples where there is one."""
    unknown = [name for name in samplers if name not in SAMPLERS]
    if unknown:
        raise UserError("figure.samplers", unknown[0], "no such sampler", SAMPLERS)
    measure = Measure([metric], n, draws)

    def line(one: Components, name: str) -> quality.Line:
        chosen = [SAMPLERS[name](steps=count, clip=one.sampler.clip) for count in steps]
        calls = [network_calls(sampler, one.schedule) for sampler in chosen]
        return quality.Line(calls, [measure(one, sampler)[metric] for sampler in chosen])

    lines, best = {name: line(components, name) for name in samplers}, {}
    if exact and components.run is not None and components.dataset.density is not None:
        best = {name: line(replace(components, net=None), name) for name in samplers}
    return quality.over_calls(lines, best, measure.name(metric), measure.floors[metric] is not None)


def objective_table(
    results: Sequence[gather.Result], variances: list[str], metrics: list[str], n: int, draws: int
) -> Any:
    """What networks of a sweep predict (rows), for which loss they were trained and with which variance they are
    sampled (columns): a table for each metric, means over seeds. Runs of objective=hybrid have a variance of their own,
    which is learned; the others are sampled with each of `variances`."""
    found: dict[tuple[str, tuple[str, str]], list[dict[str, float]]] = {}
    measure = Measure(metrics, n, draws)
    for result in finished(results):
        one = trained(result.config, Run(result.path))
        learned = one.objective.outputs > 1
        loss = "L hybrid" if learned else LOSSES[one.objective.weighting]
        for variance in ["learned"] if learned else variances:
            sampler = samplers_of.DDPM(clip=one.sampler.clip, variance=variance)
            row = str(result.keys.get("parameterization"))
            found.setdefault((row, (loss, variance)), []).append(measure(one, sampler))
    known = [name for name in PARAMETERIZATIONS if name in {row for row, _ in found}]
    rows = [*known, *sorted({row for row, _ in found} - set(known))]
    losses, kinds = [*LOSSES.values(), "L hybrid"], [*variances, "learned"]
    columns = sorted({column for _, column in found}, key=lambda c: (losses.index(c[0]), kinds.index(c[1])))
    tables = {
        measure.name(metric): np.array(
            [[mean(found.get((row, column), []), metric) for column in columns] for row in rows]
        )
        for metric in metrics
    }
    return quality.number_tables(rows, [c[1] for c in columns], tables, [c[0] for c in columns])


def mean(reports: list[dict[str, float]], metric: str) -> float:
    return float(np.mean([report[metric] for report in reports])) if reports else float("nan")


def finished(results: Sequence[gather.Result]) -> Iterator[gather.Result]:
    """The finished runs among these; UserError where there is none."""
    found = [result for result in results if result.status == "finished"]
    if not found:
        raise UserError("sweep", ..., "has no finished run")
    yield from found


class Measure:
    """Some metrics of the components' own evaluation, with n samples in each of so many draws, as ratios to the floor of
    the first where there is one."""

    def __init__(self, metrics: list[str], n: int, draws: int):
        self.metrics, self.sizes = metrics, {"n": n, "draws": draws}
        self.floors: dict[str, float | None] = {}
        self.evaluation: Any = None

    def name(self, metric: str) -> str:
        return label_of(metric) + (" / floor" if self.floors[metric] else "")

    def __call__(self, components: Components, sampler: Any) -> dict[str, float]:
        """metric -> value with this sampler."""
        if self.evaluation is None:
            node = components.config["evaluation"]
            sizes = {key: size for key, size in self.sizes.items() if key in node}
            self.evaluation = components.varied(evaluation=sizes).evaluation
        report = replace(components, sampler=sampler, evaluation=self.evaluation).evaluate()
        entries = measurements(report)
        for metric in self.metrics:
            if metric not in entries:
                raise UserError("figure.metric", metric, "is not measured by this evaluation", entries)
        if not self.floors:
            self.floors = {m: entries[m]["floor"] if entries[m].get("ratio") else None for m in self.metrics}
        return {metric: entries[metric]["value"] / (self.floors[metric] or 1.0) for metric in self.metrics}


def network_calls(sampler: Any, schedule: Any) -> int:
    """How often a sampler asks the network for one sample, counted."""
    counter = Counter(schedule)
    for _ in sampler(counter, torch.zeros(1, 1), None, lambda: torch.zeros(1, 1)):
        pass
    return counter.calls


class Counter:
    """A denoiser that knows only how often it was asked."""

    def __init__(self, schedule: Any):
        self.schedule, self.calls = schedule, 0

    def __call__(self, x_t: torch.Tensor, t: float, label: torch.Tensor | None = None) -> Prediction:
        self.calls += 1
        return Prediction(torch.zeros_like(x_t), x_t)
