"""The page of a run: its figures, metrics and configuration, and its reverse process under a slider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from diffusion_cli.components import trained
from diffusion_cli.figures.page import Page, Table, pictures
from diffusion_cli.figures.plane import limits_of
from diffusion_cli.figures.reverse import Process, kind_of
from diffusion_cli.runs import results as gather
from diffusion_cli.runs.directory import FINISHED, Run
from diffusion_cli.runs.results import Result

if TYPE_CHECKING:
    from diffusion_cli.components import Components

MOST = {"line": 20_000, "plane": 5_000, "sets": 9, "images": 16}  # samples that a page holds
WEIGHT = 800_000  # bytes of one view of the chain
LINE_CELLS = 300  # of a density on a line
BLUR = 0.6  # of a cell's side: width of the Gaussian that keeps a thin density from falling between the cells
NOTE = "The true density is that of x_t at each time."


def report(
    components: Components, n: int, frames: int, density: int, results: Sequence[Result] | None = None
) -> Page:
    """The page of a run, or of many (`sweep=DIR`, `runs=[DIR,DIR]`). n: samples, frames: states of their chain, at most.
    density: cells along each side of the true one."""
    if results is not None:
        return of_many(results, components.config["sweep"], n, frames, density)
    run = components.run
    summary = {} if run is None else run.summary
    about = name_of(components.config)
    environment = {key: summary[key] for key in ("device", "threads", "versions") if key in summary}
    return Page(
        title=f"{about}: exact denoiser" if run is None else f"{about}: {run.path.name}",
        subtitle=[*training(summary), f"{components.schedule.name} schedule, T = {components.schedule.T}",
                  f"{type(components.sampler).__name__}, {components.sampler.steps or components.schedule.T} steps",
                  f"seed {components.seed}"],
        process=process(components, n, frames, density) if components.objective.generates else None,
        tables=tables(summary.get("metrics")),
        pictures=pictures({words(file.stem): file for file in sorted(run.figures.glob("*.png"))}) if run else {},
        details={"configuration": dump(components.config)} | ({"environment": dump(environment)} if environment else {}),
    )  # fmt: skip


def of_many(results: Sequence[Result], sweep: str | None, n: int, frames: int, density: int) -> Page:
    """The page of many runs: what each was asked for and what came of it, the samples of each, and the reverse process
    of the best by their first metric."""
    keys, numbers = [*gather.varied(results), "seed"], gather.metrics(results)
    done = [result for result in results if result.status == FINISHED]
    first = next((name for name in numbers if name != "loss"), "loss")
    ranked = sorted((r for r in done if first in r.numbers), key=lambda r: r.cost(first))
    head = ["run", *keys, "status", *(words(name.removeprefix("metrics.")) for name in numbers)]
    rows = [
        [r.name, *(gather.show(r.keys.get(key)) for key in keys), r.status or "not begun",
         *(text(r.numbers.get(name)) for name in numbers)]
        for r in results
    ]  # fmt: skip
    best = ranked[0] if ranked else None
    chain, told = None, [f"{len(done)} of {len(results)} runs finished"]
    if best is not None:
        told.append(
            f"the best by {words(first.removeprefix('metrics.'))}, whose samples follow, is run {best.name}"
        )
        one = trained(best.config | {"device": "cpu"}, Run(best.path))
        chain = process(one, n, frames, density) if one.objective.generates else None
    return Page(
        title=f"{', '.join(dict.fromkeys(name_of(r.config) for r in results))}: {sweep or f'{len(results)} runs'}",
        subtitle=told,
        process=chain,
        tables=[Table(head, rows)],
        pictures=pictures(
            {
                ", ".join([f"run {r.name}", *(f"{key}={gather.show(r.keys.get(key))}" for key in keys)]): file
                for r in ranked or done
                if (file := Run(r.path).figures / "samples.png").is_file()
            }
        ),
        details={f"configuration of run {best.name}": dump(best.config)} if best is not None else {},
    )


def name_of(config: dict[str, Any]) -> str:
    return str(config["dataset"]["_target_"]).rpartition(".")[2]


def training(summary: dict[str, Any]) -> list[str]:
    """What a summary tells of the training, in words."""
    named = {"steps": "{} training steps", "seconds": "{} s", "loss": "loss {}", "status": "{}"}
    return [form.format(text(summary[key])) for key, form in named.items() if summary.get(key) is not None]


def process(components: Components, n: int, frames: int, cells: int) -> Process:
    """`frames` states of the chains of n samples, what the denoiser took for x0 in each, and the truth where known."""
    shape, dataset = components.dataset.shape, components.dataset
    kind = "sets" if len(shape) == 2 else kind_of(shape)
    n = min(n, MOST[kind])
    label = components.labels(n)
    size = n * int(np.prod(shape)) * (1 if kind == "images" else 2)
    times, x, x0 = states(components, n, label, max(2, min(frames, WEIGHT // size)))
    like = torch.zeros(1, dtype=torch.float64)
    levels = [components.schedule.level(time, like=like) for time in times]
    limits, law, outline = (-1.0, 1.0), None, []
    if kind != "images":
        flat = x.reshape(len(times), -1, shape[-1])
        box = limits_of([flat[0], flat[-1]])
        limits = (-max(map(abs, box[: 2 * shape[-1]])), max(map(abs, box[: 2 * shape[-1]])))
    if dataset.density is not None and kind in ("line", "plane") and cells:
        law = densities(dataset.density, levels, limits, LINE_CELLS if kind == "line" else cells, shape[0])
        outline = [line.numpy() for line in dataset.density.outline() or ()]
    return Process(
        times=times,
        T=components.schedule.T,
        noise=[float(level.sigma / level.alpha) for level in levels],
        x=x,
        x0=x0,
        label=None if label is None or kind == "sets" else label.cpu().numpy(),
        names=getattr(dataset, "class_names", ()) or [str(k) for k in range(components.num_classes)],
        limits=limits,
        density=law,
        outline=outline,
        note=NOTE if law is not None else "",
    )


def states(
    components: Components, n: int, label: torch.Tensor | None, frames: int
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Times (K,), x_t (K, n, *shape) and the denoiser's x0 from each x_t, of at most `frames` states, the first and the
    last among them; the last x0 is the sample itself."""
    total = (components.sampler.steps or components.schedule.T) + 1
    chosen = set(np.linspace(0, total - 1, min(frames, total)).round().astype(int).tolist())
    times, x, x0 = [], [], []
    for k, state in enumerate(components.walk(n, label=label)):
        if k - 1 in chosen:
            x0.append(state.prediction.x0.float().cpu().numpy())
        if k in chosen:
            times.append(float(state.t))
            x.append(state.x.float().cpu().numpy())
    return times, np.stack(x), np.stack([*x0, x[-1]])


def densities(law: Any, levels: list[Any], limits: tuple[float, float], cells: int, d: int) -> np.ndarray:
    """q(x_t) at each level on the cells of a grid, (K, cells) or (K, cells, cells), row 0 at the bottom; blurred by a
    Gaussian of the size of a cell, which is exact: its variance adds to the noise's."""
    low, high = limits
    side = (high - low) / cells
    axis = torch.linspace(low + side / 2, high - side / 2, cells, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).flip(1) if d == 2 else axis[:, None]
    grids = [
        law.log_prob(grid, level.alpha, torch.sqrt(level.sigma**2 + (BLUR * side) ** 2)).exp()
        for level in levels
    ]
    return torch.stack(grids).view(len(levels), *[cells] * d).numpy()


def tables(metrics: Any) -> list[Table]:
    """The metrics of a summary: measured ones with value, floor and ratio in one table, lists in one each, the rest."""
    if not isinstance(metrics, dict) or not metrics:
        return []
    measured = {name: entry for name, entry in metrics.items() if isinstance(entry, dict)}
    lists = {
        name: entry
        for name, entry in metrics.items()
        if isinstance(entry, list) and entry and all(isinstance(row, dict) for row in entry)
    }
    plain = {name: entry for name, entry in metrics.items() if name not in measured | lists}
    result = []
    if measured:
        keys = list(dict.fromkeys(key for entry in measured.values() for key in entry if key != "label"))
        rows = [
            [entry.get("label") or words(name), *(text(entry.get(key, "")) for key in keys)]
            for name, entry in measured.items()
        ]
        result.append(Table(["metric", *map(words, keys)], rows))
    for name, entries in lists.items():
        keys = list(dict.fromkeys(key for entry in entries for key in entry))
        rows = [[str(k), *(text(entry.get(key, "")) for key in keys)] for k, entry in enumerate(entries)]
        result.append(Table([words(name), *map(words, keys)], rows))
    if plain:
        result.append(
            Table(["metric", "value"], [[words(name), text(value)] for name, value in plain.items()])
        )
    return result


def words(name: Any) -> str:
    return str(name).replace("_", " ")


def text(value: Any) -> str:
    """A value of a summary for a reader: numbers with four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(map(text, value))
    return str(value)


def dump(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
