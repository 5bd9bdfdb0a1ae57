"""outputs/report/README.md: every figure with the command that makes it alone, its run, seed and metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from listing import Figure, Listing, Run

INTRODUCTION = """\
# Figures of the report

All of them by one command, `scripts/reproduce`; each alone by the command below it, once its run is there. A PNG
carries the run, its seed, a hash of its configuration and the version that drew it (`identify -verbose FILE`).
"""
MOST = 4  # metrics beside a run
# Kept with the figures, so that a part drawn anew leaves the rest of the index as it is.
RECORD = "report.json"
PAGE = ".html"
SUFFIXES = (".png", ".gif", PAGE)


def write(listing: Listing, items: Sequence[Run | Figure], report: Path, home: Path) -> None:
    """Renews what is known of these items, and the index of all that are there."""
    file = report / RECORD
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"runs": {}, "figures": {}}
    for item in items:
        if isinstance(item, Run):
            found = summary_of(item)
            if found is not None:
                known["runs"][item.name] = found
        elif drawn := [suffix for suffix in SUFFIXES if (report / f"{item.name}{suffix}").is_file()]:
            known["figures"][item.name] = {
                "command": item.command,
                "runs": list(item.needs),
                "says": item.says,
                "drawn": drawn,
            }
    listed = {
        name
        for group in listing.groups.values()
        for kind in ("runs", "figures")
        for name in group.get(kind, {})
    }
    for kind in known:
        known[kind] = {name: entry for name, entry in sorted(known[kind].items()) if name in listed}
    report.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known, indent=1) + "\n")
    (report / "README.md").write_text(index(listing, known, report))


def summary_of(run: Run) -> dict[str, Any] | None:
    """Of a finished run: its command, seed, seconds and metrics. Of a sweep: its command and how many of its jobs."""
    from diffusion_cli.runs.directory import FINISHED, RunDirectory

    found = {"command": run.command}
    if "-m" in run.words:
        jobs = [
            RunDirectory(file.parent).summary for file in sorted(Path(run.directory).glob("*/summary.json"))
        ]
        done = [job for job in jobs if job.get("status") == FINISHED]
        seconds = sum(job.get("seconds") or 0 for job in done)
        return found | {"jobs": len(done), "seconds": round(seconds)} if done else None
    summary = RunDirectory(run.directory).summary
    if summary.get("status") != FINISHED:
        return None
    return found | {
        "seed": summary["seed"],
        "steps": summary["steps"],
        "seconds": round(summary["seconds"]),
        "metrics": headline(summary["metrics"]),
    }


def headline(metrics: dict[str, Any]) -> dict[str, float]:
    """The first few metrics, as ratios to their floor where they have one."""
    found = {}
    for name, entry in metrics.items():
        value, words = entry, name.replace("_", " ")
        if isinstance(entry, dict):
            ratio = entry.get("ratio")
            value, words = (ratio, f"{words} / floor") if ratio is not None else (entry.get("value"), words)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[words] = float(f"{value:.4g}")
    return dict(list(found.items())[:MOST])


def index(listing: Listing, known: dict[str, Any], report: Path) -> str:
    parts = [INTRODUCTION]
    for group, content in listing.groups.items():
        figures = [name for name in content.get("figures", {}) if name in known["figures"]]
        if not figures:
            continue
        parts.append(f"## {content['title']}\n\n`scripts/reproduce --only {group}`\n")
        parts += [section(name, known["figures"][name], known["runs"], report) for name in figures]
    return "\n".join(parts)


def section(name: str, figure: dict[str, Any], runs: dict[str, Any], report: Path) -> str:
    lines = [f"### {figure['says']}", ""]
    for suffix in figure["drawn"]:
        if suffix == PAGE:
            lines += [f"`{report / name}{PAGE}`, a page to open in a browser", ""]
        else:
            lines += [f"![{figure['says']}]({name}{suffix})", ""]
    lines += ["```sh", figure["command"], "```", ""]
    lines += [f"- {line}" for line in (told(run, runs[run]) for run in figure["runs"] if run in runs)] or [
        "- no run: exact"
    ]
    if (report / f"{name}.md").is_file():
        lines += ["", (report / f"{name}.md").read_text().strip()]
    return "\n".join([*lines, ""])


def told(name: str, run: dict[str, Any]) -> str:
    if "jobs" in run:
        return f"sweep {name}: {run['jobs']} jobs, {run['seconds']} s; `{run['command']}`"
    numbers = "".join(f"; {key} {value:g}" for key, value in run["metrics"].items())
    return f"run {name}: seed {run['seed']}, {run['steps']:,} steps in {run['seconds']} s{numbers}; `{run['command']}`"
