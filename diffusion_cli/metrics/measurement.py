"""What an evaluation found: measurements with their unit and which way is better, as plain values; and their table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NotRequired, TypedDict, TypeGuard, cast

import numpy as np

from diffusion_cli.metrics.catalogue import DATA, DATA_ROOT, DATA_SQUARED, METRICS, Better, Metric
from diffusion_cli.ranges import Facts


class Measurement(TypedDict):
    """One metric of one evaluation, as it stands in summary.json.

    value: the mean over `draws` sets of samples; None where it could not be measured.
    spread: standard deviation of single sets; None for one draw.
    floor, floor_spread: the same for `floor_draws` sets of true samples, as large.
    ratio: value / floor; None where the floor is nothing to divide by.
    error: standard error of a value that is a mean over independent points.
    n: samples in a set.
    points, pairs: points in a set of points; pairs of sets that were compared, 0 where none are.
    split, against: the part of real images that the samples were compared with, and how many there are.
    extractor: the digest of what the images were seen by.
    label, unit, better: the metric's own (see `catalogue.Metric`).
    """

    value: float | None
    error: NotRequired[float]
    spread: NotRequired[float | None]
    floor: NotRequired[float]
    floor_spread: NotRequired[float | None]
    ratio: NotRequired[float | None]
    n: NotRequired[int]
    draws: NotRequired[int]
    floor_draws: NotRequired[int]
    points: NotRequired[int]
    pairs: NotRequired[int]
    split: NotRequired[str]
    against: NotRequired[int]
    extractor: NotRequired[str]
    label: str
    unit: str
    better: Better


# Powers of the scale of data by which their metrics grow.
POWERS = {DATA: 1.0, DATA_SQUARED: 2.0, DATA_ROOT: 0.5}
LENGTHS = ("value", "spread", "floor", "floor_spread", "error")
Note = str | float | Sequence[str | float | Facts] | Facts | None  # what else a report holds
Report = Mapping[str, Measurement | Note]  # by the names of the metrics, ready for JSON


def measured(metric: Metric, value: float | None) -> Measurement:
    """A value with nothing to compare it with."""
    if metric.better == "floor":
        raise ValueError(f"{metric.name} has no floor")
    return {"value": value, "label": metric.label, "unit": metric.unit, "better": metric.better}


def beside_floor(
    metric: Metric, values: Sequence[float], floors: Sequence[float], n: int, rounding: float = 0.0
) -> Measurement:
    """A metric of several sets of n samples, beside that of sets of n true ones.

    rounding: a floor that is no larger is nothing to divide by, so that there is no ratio.
    """
    value, spread = mean_and_spread(values)
    floor, floor_spread = mean_and_spread(floors)
    return {
        "value": value,
        "spread": spread,
        "floor": floor,
        "floor_spread": floor_spread,
        "ratio": value / floor if floor > rounding else None,
        "n": n,
        "draws": len(values),
        "floor_draws": len(floors),
        "label": metric.label,
        "unit": metric.unit,
        "better": floor if metric.better == "floor" else metric.better,
    }


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation, which is None for a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def is_measurement(entry: object) -> TypeGuard[Measurement]:
    return isinstance(entry, dict) and {"value", "better"} <= entry.keys()


def measurements(report: Report) -> dict[str, Measurement]:
    """The measurements of a report, without its notes."""
    return {name: entry for name, entry in report.items() if is_measurement(entry)}


def unmeasured(reason: str) -> Report:
    """The report where nothing can be measured, which says why."""
    return {"unmeasured": reason}


def with_notes(report: Report, *lines: str) -> Report:
    """The report with lines for whoever reads its table."""
    return {**report, "notes": [*lines]} if lines else report


FEW = 50  # samples in a set, of which fewer say little


def of_classes(report: Report) -> Report:
    """The report on samples of requested classes: without what compares them with all of the data, which is named."""
    left = [name for name in measurements(report) if name in METRICS and METRICS[name].of_all]
    kept = {name: entry for name, entry in report.items() if name not in left}
    return kept | ({"left_out": left} if left else {})


def caveats(report: Report) -> list[str]:
    """What to keep in mind of a report: lines for whoever reads its table."""
    found, left = measurements(report).values(), report.get("left_out")
    notes = report.get("notes")
    few = sorted({entry["n"] for entry in found if entry.get("n", FEW) < FEW})
    lines = [*map(str, notes)] if isinstance(notes, list) else []
    if "unmeasured" in report:
        lines.append(f"not measured: {report['unmeasured']}")
    if isinstance(left, list):
        labels = ", ".join(METRICS[str(name)].label for name in left)
        lines.append(
            f"left out, since they compare classes that were requested with all of the data: {labels}"
        )
    if few:
        lines.append(f"few samples: {few[0]} in a set; small differences mean nothing")
    if found and all(entry.get("spread", 0) is None and entry.get("draws") == 1 for entry in found):
        lines.append("one draw: the values have no spread of their own; the floor's is about as large")
    return lines


def row_of(report: Report) -> dict[str, float]:
    """A report as one row of a table: the value of each metric, and NAME_floor where it has one; nan for None."""
    row = {}
    for name, entry in measurements(report).items():
        row[name] = math.nan if entry["value"] is None else entry["value"]
        if "floor" in entry:
            row[f"{name}_floor"] = entry["floor"]
    return row


# Tables.

Column = Callable[[Measurement], str]


def table_of(report: Report, digits: int = 4, floor: str = "floor", **more: Column) -> str:
    """The measurements of a report as lines of aligned text: label, value, floor, ratio.

    digits: after the decimal point.
    floor: the head of the column of floors.
    more: heads of further columns, and what stands in them.
    """

    def value_of(entry: Measurement) -> str:
        value = entry["value"]
        return "unknown" if value is None else with_spread(value, entry.get("spread"), digits)

    def floor_of(entry: Measurement) -> str:
        if "floor" not in entry:
            return ""
        nothing = float(f"{entry['floor']:.{digits}f}") == 0
        return "0" if nothing else with_spread(entry["floor"], entry.get("floor_spread"), digits)

    def ratio_of(entry: Measurement) -> str:
        ratio = entry.get("ratio")
        return "" if ratio is None else f"{ratio:.2f}"

    columns: dict[str, Column] = {"metric": lambda entry: entry["label"], "value": value_of}
    columns |= {floor: floor_of, "ratio": ratio_of} | more
    entries = measurements(report).values()
    cells = {head: [text(entry) for entry in entries] for head, text in columns.items()}
    filled = {head: column for head, column in cells.items() if any(column) or head == "metric"}
    return aligned(list(filled), [*zip(*filled.values(), strict=True)])


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    template = "  ".join([f"{{:<{widths[0]}}}"] + [f"{{:>{width}}}" for width in widths[1:]])
    return "\n".join(template.format(*row) for row in (head, *rows))


def with_spread(value: float, spread: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if spread is None else f"{value:.{digits}f} ± {spread:.{digits}f}"


def in_units(report: Report, scale: float) -> Report:
    """A report on data that were divided by `scale`, in their own units; ratios and plain numbers stay."""
    if scale == 1:
        return report
    found: dict[str, Measurement | Note] = {}
    for name, entry in report.items():
        if is_measurement(entry) and entry["unit"] in POWERS:
            factor = scale ** POWERS[entry["unit"]]
            lengths = {
                key: value * factor for key, value in entry.items() if key in LENGTHS and value is not None
            }
            entry = cast(Measurement, {**entry, **lengths})
        found[name] = entry
    return found
