"""`diffusion runs`: the runs that are there: listed, shown, compared, the best of them, on a page, and cleaned up."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diffusion_cli import __version__
from diffusion_cli.errors import UserError, shown
from diffusion_cli.options.browsing import Line
from diffusion_cli.ranges import Config
from diffusion_cli.runs import listing
from diffusion_cli.runs.atomic import replacing
from diffusion_cli.runs.comparison import metrics
from diffusion_cli.runs.config import read_record
from diffusion_cli.runs.directory import FAILED, FINISHED, INTERRUPTED, STATUSES, RunDirectory
from diffusion_cli.runs.ranking import leaders
from diffusion_cli.runs.results import COMPARED
from diffusion_cli.runs.session import bar
from diffusion_cli.runs.tables import columns, number_text

FILTERS = ("command", "status", "age", "size")
SHOWN = 2  # metrics in a line of the list


def main(line: Line) -> None:
    ACTIONS[line.keys["action"]](line.keys, line.others)


def selected(keys: Config, others: Mapping[str, str]) -> list[listing.Listed]:
    """The runs that the line names, or all below `root`; of these those that its filters leave."""
    for status in (keys["status"] or listing.ANY).split(","):
        if status not in (*STATUSES, listing.ANY):
            raise UserError("status", status, "no such status", (*STATUSES, listing.ANY))
    if keys["runs"]:
        paths = (
            RunDirectory.find(name, "runs").path if name == "latest" else Path(name) for name in keys["runs"]
        )
        runs = [listing.listed(path) for path in paths]
    else:
        runs, damaged = listing.found_below(keys["root"])
        for error in damaged:
            print(f"left out: {error}", file=sys.stderr)
    # a run that is named may be of any command
    names = FILTERS[1:] if keys["runs"] else FILTERS
    wanted = {name: keys[name] for name in names if keys[name] is not None}
    return listing.sorted_by(listing.filtered(runs, wanted | dict(others)), keys["sort"])


def list_runs(keys: Config, others: Mapping[str, str]) -> None:
    """A line for each run; the numbers that the line speaks of have a column each."""
    runs = selected(keys, others)
    results = [run.result for run in runs]
    wanted = [name for name in dict.fromkeys([*others, keys["sort"].removeprefix("-")])
              if name not in ("age", "size", "status", "dataset", "steps", "loss")]  # fmt: skip
    measured = [name for name in metrics(results) if name != "loss" and not wanted][:SHOWN]
    numbers = ["steps", "loss", *measured, *wanted]
    head = ["run", "dataset", "status", *(name.removeprefix("metrics.") for name in numbers), "age", "size"]
    rows = [
        [str(run.result.path), shown(run.value("dataset")), run.result.status or "not begun",
         *(cell(run.value(name)) for name in numbers), listing.age_text(run.age), listing.size_text(run.size)]
        for run in runs
    ]  # fmt: skip
    limit = keys["limit"] or len(rows)
    if rows:
        print(columns(head, rows[:limit]))
    hidden = f", {len(rows) - limit} of them not shown" if limit < len(rows) else ""
    print(
        f"{count_of(runs)} below {keys['root']}, {listing.size_text(sum(run.size for run in runs))}{hidden}"
    )


def show_runs(keys: Config, others: Mapping[str, str]) -> None:
    """All that a run says of itself."""
    keys = keys | {"runs": keys["runs"] or ["latest"]}
    for run in selected(keys, others):
        result, directory = run.result, RunDirectory(run.result.path)
        words = " ".join(directory.record.overrides)
        facts = {
            "run": str(result.path),
            "status": f"{result.status or 'not begun'}, {listing.age_text(run.age)} ago",
            "line": f"diffusion {result.command} {words}".rstrip(),
            "data": shown(run.value("dataset")),
            "steps": f"{cell(run.value('steps'))}, {cell(run.value('steps_per_second'))} a second",
            "loss": cell(run.value("loss")),
            "size": listing.size_text(run.size),
        }
        if result.error:
            facts["error"] = result.error
        if result.status == INTERRUPTED:
            facts["goes on"] = f"diffusion train {words} hydra.run.dir={result.path} resume=true"
        for name, text in facts.items():
            print(f"{name:<8} {text}")
        rows = [[name.removeprefix("metrics."), *(cell(result.numbers.get(key)) for key in
                 (name, *(f"{name}.{part}" for part in COMPARED)))] for name in result.better]  # fmt: skip
        if rows:
            print("\n" + columns(["metric", "value", *COMPARED], rows))
        figures = sorted(directory.figures.glob("*"))
        if figures:
            print("\nfigures  " + "\n         ".join(map(str, figures)))


def compare(keys: Config, others: Mapping[str, str]) -> None:
    """What runs differ in, and what came of each; the best value of a metric has a star where it is clearly the best."""
    runs = selected(keys, others)
    if len(runs) < 2:
        raise UserError("runs", keys["runs"], "two or more are needed: diffusion runs compare DIR DIR")
    results = [run.result for run in runs]
    names = list(map(str, range(1, len(runs) + 1)))
    print("\n".join(f"{name}  {result.path}" for name, result in zip(names, results, strict=True)))
    different = [
        key
        for key in dict.fromkeys(key for result in results for key in result.keys)
        if len({shown(result.keys.get(key)) for result in results}) > 1
    ]
    rows = [[key, *(shown(result.keys.get(key)) for result in results)] for key in different]
    print("\n" + (columns(["configuration", *names], rows) if rows else "the configurations are equal"))
    rows = [[name.removeprefix("metrics."), *starred(runs, name)] for name in metrics(results)]
    if rows:
        print("\n" + columns(["came of it", *names], rows))


def starred(runs: Sequence[listing.Listed], name: str) -> list[str]:
    """The values of a number, the best of them with a star where it is clearly the best."""
    best = leaders([run.result for run in runs], name)
    return [cell(run.value(name)) + (" *" if place in best else "") for place, run in enumerate(runs)]


def best(keys: Config, others: Mapping[str, str]) -> None:
    """The best finished run of each dataset, and from how many it is not clearly different."""
    runs = selected(keys | {"status": keys["status"] or FINISHED}, others)
    found = listing.best_of(runs, keys["by"])
    rows = [
        [
            dataset,
            str(run.result.path),
            f"{name.removeprefix('metrics.')} {cell(run.value(name))}",
            f"{close} within the error" if close else "",
        ]
        for dataset, (name, run, close) in found.items()
    ]
    print(columns(["dataset", "run", "best by", "others"], rows))


def gallery(keys: Config, others: Mapping[str, str]) -> None:
    """A page of all of them for a browser, a card each."""
    from diffusion_cli.figures.gallery import cards
    from diffusion_cli.figures.page import Page

    file = Path(keys["file"] or Path(keys["root"], "runs.html"))
    if file.suffix != ".html" or not file.parent.is_dir():
        reason = "no such directory" if file.suffix == ".html" else "its name must end in .html"
        raise UserError("file", str(file), reason)
    runs = selected(keys, others)
    results = [run.result for run in runs[: keys["limit"]]]
    if not results:
        raise UserError("root", keys["root"], "holds no runs of which all of the line is true")
    states = Counter(result.status or "not begun" for result in results)
    words = [f"{key}={value}" for key, value in {**keys, **others}.items()
             if key in others or (key in (*FILTERS, "sort") and value is not None)]  # fmt: skip
    with bar(len(results), unit="run", alone=False) as progress:
        made = []
        for card in cards(results, file.parent, pages_below(keys["root"])):
            made.append(card)
            progress.update()
    title = ", ".join(dict.fromkeys(shown(result.keys.get("dataset")) for result in results))
    star = "★: better than all that it can be compared with, by more than twice the error"
    subtitle = [", ".join(f"{count} {state}" for state, count in states.items()), *words, star]
    page = Page(title=f"Runs: {title}", subtitle=subtitle, cards=made)
    try:
        with replacing(file) as part:
            part.write_text(page.html({"Software": f"diffusion_cli {__version__}"}), encoding="utf-8")
    except OSError as error:
        raise UserError("file", str(file), f"cannot be written: {error.strerror}") from None
    print(f"{len(results)} of {count_of(runs)}; open {file}")


def pages_below(root: str) -> dict[Path, Path]:
    """The run that a page is of, as a resolved path -> the newest such page that `plot figure=report` has left."""
    found = {}
    pages = Path(root, "plot").glob("*/*/report.html")
    for page in sorted(pages, key=lambda page: page.stat().st_mtime):
        with contextlib.suppress(UserError):
            found[Path(str(read_record(page.parent).config.get("run"))).resolve()] = page
    return found


def clean(keys: Config, others: Mapping[str, str]) -> None:
    """Removes failed and interrupted runs, or those of `status`; none in which a process works."""
    runs = selected(keys | {"status": keys["status"] or f"{FAILED},{INTERRUPTED}"}, others)
    runs = [run for run in runs if not RunDirectory(run.result.path).is_held]
    if not runs:
        print("nothing to remove")
        return
    for run in runs:
        about = run.result.status or "not begun", listing.age_text(run.age), listing.size_text(run.size)
        print(f"{run.result.path}  {', '.join(about)}")
    total = f"{count_of(runs)}, {listing.size_text(sum(run.size for run in runs))}"
    if not keys["yes"] and not agreed(f"remove these {total}? [y/N] "):
        print("nothing removed")
        return
    with bar(len(runs), unit="run", alone=False) as progress:
        for run in runs:
            with RunDirectory(run.result.path).lock():
                shutil.rmtree(run.result.path)
            progress.update()
    print(f"removed {total}")


def agreed(question: str) -> bool:
    """The answer of whoever sits at the terminal; UserError where nobody does."""
    if not sys.stdin or not sys.stdin.isatty():
        raise UserError("yes", False, "nobody is here to be asked; say yes=true to remove them")
    return input(question).strip().lower() in ("y", "yes")


def count_of(runs: Sequence[listing.Listed]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"


def cell(value: object) -> str:
    """A value in a table; "" where there is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number_text(float(value))
    return "" if value is None else shown(value)


ACTIONS: dict[str, Callable[[Config, Mapping[str, str]], None]] = {
    "list": list_runs,
    "show": show_runs,
    "compare": compare,
    "best": best,
    "clean": clean,
    "report": gallery,
}
