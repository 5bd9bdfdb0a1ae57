"""The page of a run: its figures, metrics and configuration, and its reverse process under a slider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import yaml

from diffusion_cli.components import Components, trained
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.protocol import Kind
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import shown
from diffusion_cli.figures.page import Page, Table, pictures
from diffusion_cli.figures.plane import limits_of
from diffusion_cli.figures.recipes.material import states_of
from diffusion_cli.figures.reverse import Process
from diffusion_cli.figures.space import Floats, flat
from diffusion_cli.ranges import Config, Facts, Many, Several, Whole, checked
from diffusion_cli.runs import comparison, ranking
from diffusion_cli.runs.directory import FINISHED, RunDirectory
from diffusion_cli.runs.results import Result
from diffusion_cli.schedule import Level

# Samples that a page holds.
MOST: dict[Kind, int] = {"line": 20_000, "plane": 5_000, "space": 5_000, "sets": 9, "images": 16}
# Bytes of one view of the chain.
WEIGHT = 800_000
# Of a density on a line.
LINE_CELLS = 300
# Of a cell's side: width of the Gaussian that keeps a thin density from falling between the cells.
BLUR = 0.6
FLOOR = (
    "floor: the same metric for true samples, as many of them. "
    "ratio: value / floor, 1 where samples cannot be told from the truth. "
    "spread: standard deviation over independent draws. better: which way, or the value to be near."
)
NOTE = "The true density is that of x_t at each time."


@checked
def report(
    components: Components,
    n: Many = 1500,
    frames: Several = 60,
    density: Whole = 64,
    results: Sequence[Result] | None = None,
) -> Page:
    """A page for a browser: the figures, metrics and configuration of a run, and its reverse process to drag through.

    Of many runs (sweep=DIR, runs=[DIR,DIR]): a table of them, their samples, and the process of the best.

    n: samples on the page, at most; of sets 9 and of images 16 at most.
    frames: states of the chain, at most; fewer where images would weigh too much.
    density: cells along each side of the true density; 0: leave it out.
    """
    if results is not None:
        return of_many(results, components.config["sweep"], n, frames, density)
    run = components.run
    summary = {} if run is None else run.summary
    about = dataset_of(components.config)
    details = {"configuration": dump(components.config)}
    environment = {key: summary[key] for key in ("device", "threads", "versions") if key in summary}
    return Page(
        title=f"{about}: exact denoiser" if run is None else f"{about}: {run.path.name}",
        subtitle=[
            *training(summary),
            f"{components.schedule.name} schedule, T = {components.schedule.T}",
            f"{type(components.sampler).__name__}, {len(components.times) - 1} steps",
            f"seed {components.seed}",
        ],
        process=process_of(components, n, frames, density),
        tables=tables(summary.get("metrics")),
        pictures=pictures({spaced(file.stem): file for file in sorted(run.figures.glob("*.png"))})
        if run
        else {},
        details=details | ({"environment": dump(environment)} if environment else {}),
    )


def of_many(results: Sequence[Result], sweep: str | None, n: int, frames: int, cells: int) -> Page:
    """The page of many runs: the swept keys and metrics of each, the samples of each, and the reverse process of the best
    by their first metric."""
    keys, numbers = [*comparison.varied(results), "seed"], comparison.metrics(results)
    done = [result for result in results if result.status == FINISHED]
    first = next((name for name in numbers if name != "loss"), "loss")
    costs = [(cost, run) for run in done if (cost := run.cost(first)) is not None]
    ranked = [run for _, run in sorted(costs, key=lambda entry: entry[0])]
    clear = len({run.basis(first) for run in ranked}) == 1 and 0 in ranking.leaders(ranked, first)
    others = [result for result in results if all(result is not run for run in ranked)]
    head = ["run", *keys, "status", *(spaced(name.removeprefix("metrics.")) for name in numbers)]
    rows = [
        [
            result.name + (", the best" if clear and result is ranked[0] else ""),
            *(shown(result.keys.get(key)) for key in keys),
            result.status or "not begun",
            *(text(result.numbers.get(name)) for name in numbers),
        ]
        for result in [*ranked, *others]
    ]
    subtitle, process, details = [f"{len(done)} of {len(results)} runs finished"], None, {}
    if ranked:
        best = ranked[0]
        metric = spaced(first.removeprefix("metrics."))
        which = "the best" if clear else "the first, but not clearly the best,"
        subtitle.append(f"{which} by {metric} is run {best.name}, whose samples follow")
        process = process_of(
            trained(best.config | {"device": "cpu"}, RunDirectory(best.path)), n, frames, cells
        )
        details = {f"configuration of run {best.name}": dump(best.config)}
    found = {
        ", ".join([f"run {r.name}", *(f"{key}={shown(r.keys.get(key))}" for key in keys)]): file
        for r in ranked or done
        if (file := RunDirectory(r.path).figures / "samples.png").is_file()
    }
    return Page(
        title=f"{', '.join(dict.fromkeys(dataset_of(r.config) for r in results))}: {sweep or f'{len(results)} runs'}",
        subtitle=subtitle,
        process=process,
        tables=[Table(head, rows, f"The best by {spaced(first.removeprefix('metrics.'))} first.")],
        pictures=pictures(found),
        details=details,
    )


def dataset_of(config: Config) -> str:
    return str(config["dataset"]["_target_"]).rpartition(".")[2]


def training(summary: Facts) -> list[str]:
    """The training of a summary, in words."""
    named = {"steps": "{} training steps", "seconds": "{} s", "loss": "loss {}", "status": "{}"}
    return [form.format(text(summary[key])) for key, form in named.items() if summary.get(key) is not None]


def process_of(components: Components, n: int, frames: int, cells: int) -> Process | None:
    """The chains of n samples, what the denoiser predicts for x0 in each state, and the truth where it is known.

    None for a classifier.
    """
    dataset, kind = components.dataset, components.dataset.kind
    if not components.objective.generates:
        return None
    shape, n = dataset.shape, min(n, MOST[kind])
    size = n * int(np.prod(shape)) * (1 if kind == "images" else 2)
    states = states_of(components, n, max(2, min(frames, WEIGHT // size)))
    label = components.labels(n)
    like = torch.zeros(1, dtype=torch.float64)
    levels = [components.schedule.level(time, like=like) for time in states.times]
    limits, density, outline = (-1.0, 1.0), None, []
    x, x0 = states.x, states.x0
    if kind != "images":
        x, x0 = flat(x), flat(x0)
        places = x.reshape(len(levels), -1, x.shape[-1])
        reach = max(map(abs, limits_of([places[0], places[-1]])[: 2 * x.shape[-1]]))
        limits = (-reach, reach)
    if dataset.density is not None and kind in ("line", "plane") and cells:
        size = LINE_CELLS if kind == "line" else cells
        density = densities(dataset.density, levels, limits, size, shape[0], components.units)
        outline = [components.units.array(line) for line in dataset.density.outline() or ()]
    return Process(
        kind=kind,
        times=states.times,
        T=components.schedule.T,
        ratios=[float(level.sigma / level.alpha) for level in levels],
        x=x,
        x0=x0,
        label=None if label is None or kind == "sets" else label.cpu().numpy(),
        names=dataset.class_names,
        limits=limits,
        density=density,
        outline=outline,
        note="" if density is None else NOTE,
    )


def densities(
    density: Density,
    levels: Sequence[Level],
    limits: tuple[float, float],
    cells: int,
    d: int,
    units: Units,
) -> Floats:
    """q(x_t) at each level on the cells of a grid, (K, cells) or (K, cells, cells), row 0 at the bottom.

    It is blurred by a Gaussian of the size of a cell, which is exact: the variances of Gaussians add.
    """
    low, high = limits
    side = (high - low) / cells
    axis = torch.linspace(low + side / 2, high - side / 2, cells, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).flip(1) if d == 2 else axis[:, None]
    grid, side = units.inward(grid), side / units.scale
    grids = [
        density.log_prob(grid, level.alpha, torch.sqrt(level.sigma**2 + (BLUR * side) ** 2)).exp()
        for level in levels
    ]
    return torch.stack(grids).view(len(levels), *[cells] * d).numpy()


def tables(metrics: object) -> list[Table]:
    """The metrics of a summary: measured ones with value, floor and ratio in one table, lists in one each, then the rest."""
    if not isinstance(metrics, dict) or not metrics:
        return []
    measured = {
        name: entry for name, entry in metrics.items() if isinstance(entry, dict) and "value" in entry
    }
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
            [entry.get("label") or spaced(name), *(text(entry.get(key, "")) for key in keys)]
            for name, entry in measured.items()
        ]
        result.append(Table(["metric", *map(spaced, keys)], rows, FLOOR if "floor" in keys else ""))
    for name, entries in lists.items():
        keys = list(dict.fromkeys(key for entry in entries for key in entry))
        rows = [[str(k), *(text(entry.get(key, "")) for key in keys)] for k, entry in enumerate(entries)]
        result.append(Table([spaced(name), *map(spaced, keys)], rows))
    if plain:
        result.append(
            Table(["metric", "value"], [[spaced(name), text(value)] for name, value in plain.items()])
        )
    return result


def spaced(name: object) -> str:
    return str(name).replace("_", " ")


def text(value: object) -> str:
    """A value of a summary for a reader: numbers with four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(map(text, value))
    if isinstance(value, dict):
        return ", ".join(f"{spaced(name)} {text(item)}" for name, item in value.items())
    return str(value)


def dump(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
