"""Every write of a start, of a resumed training and of an end fails once: the process is killed there, or the disk is full
from there on. No run may be lost, and each must say truly how it stands."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from trials.child import Child
from trials.disk import Disk
from trials.kills import essence

LINE = ["train", "dataset=circle", "batch_size=16", "model.width=8", "threads=1", "device=cpu", "log_every=5",
        "checkpoint.every=10", "checkpoint.keep=2", "stages.every=20", "stages.n=8", "n=32", "sampler.steps=2", "evaluation.n=16",
        "evaluation.draws=1", "evaluation.floor_draws=2", "steps=40", "resume=true", "hydra.run.dir=run"]  # fmt: skip
# Figures that write as the others do.
LEFT_OUT = ("stages", "metric_curve", "forward_strip", "reverse_strip", "trajectories")
KINDS = ("kill", "full")
DEFAULT = 10**6  # writes, of each kind; there are fewer
TRUE = {"kill": (None, "interrupted", "finished"), "full": (None, "failed", "interrupted", "finished")}


class Phase(NamedTuple):
    """name: of what is interrupted. before: words of a line that goes first, and is stopped. line: whose writes fail."""

    name: str
    line: list[str]
    before: list[str] | None = None


PHASES = (
    Phase("start", [*LINE, "plots=false"]),
    Phase("resume", [*LINE, "plots=false"], [*LINE, "plots=false", "max_minutes=1e-9"]),
    Phase("end", [*LINE, *(f"~figures.{name}" for name in LEFT_OUT)], [*LINE, "plots=false", "max_minutes=1e-9"]),
)  # fmt: skip


def run(n: int, seed: int, folder: Path, phases: tuple[Phase, ...] = PHASES) -> dict[str, Any]:
    """n: writes of each phase and kind, spread over all of them. seed is of no use here."""
    from diffusion_cli.runs.directory import RunDirectory

    broken: list[str] = []
    tried: dict[str, int] = {}
    statuses: dict[str, int] = {}
    started = time.monotonic()
    for phase in phases:
        home = folder / phase.name
        home.mkdir()
        if phase.before is not None:
            end = Child(phase.before, home).wait()
            if end.code:
                return {"broken": [f"{phase.name}: the line before: exit {end.code}: {end.err}"]}
        straight = Path(shutil.copytree(home, folder / f"{phase.name}-straight"))
        report = folder / f"{phase.name}.writes"
        end = Child(phase.line, straight, Disk(straight, None, "", report).install).wait()
        if end.code:
            return {"broken": [f"{phase.name}: the straight run: exit {end.code}: {end.err}"]}
        truth, count = result(straight), len(report.read_text().splitlines())
        chosen = range(count) if n >= count else sorted({int(k * count / n) for k in range(n)})
        for how in KINDS:
            for number in chosen:
                tried[f"{phase.name}, {how}"] = tried.get(f"{phase.name}, {how}", 0) + 1
                place = Path(shutil.copytree(home, folder / "trial"))
                log = folder / "trial.writes"
                end = Child(phase.line, place, Disk(place, number, how, log).install).wait()
                written = log.read_text().splitlines() if log.exists() else []
                reached = number < len(written)
                what = f"{phase.name}, {how} at write {number} ({written[number] if reached else 'never reached'})"
                broken += [] if reached else [f"{what}: exit {end.code}: {end.err[-300:]}"]
                status = RunDirectory(place / "run").status
                statuses[str(status)] = statuses.get(str(status), 0) + 1
                broken += [f"{what}: {fault}" for fault in faults(end, how, status)]
                again = Child(phase.line, place).wait()
                if again.code or "Traceback" in again.err:
                    broken.append(f"{what}: lost: exit {again.code}: {again.err[-300:]}")
                else:
                    other = result(place)
                    broken += [f"{what}: {key} differs" for key in truth if other.get(key) != truth[key]]
                    broken += [f"{what}: {file} is left" for file in place.rglob("*.part*")]
                shutil.rmtree(place)
                log.unlink(missing_ok=True)
    return {
        "tried": tried,
        "all": sum(tried.values()),
        "statuses before going on": statuses,
        "seconds": round(time.monotonic() - started, 1),
        "broken": broken,
    }


def result(home: Path) -> dict[str, str]:
    """What came of a run, beside what depends on the time of day."""
    from diffusion_cli.runs.directory import RunDirectory

    summary = RunDirectory(home / "run").summary
    return essence(home) | {key: str(summary.get(key)) for key in ("status", "steps", "loss", "metrics")}


def faults(end: Any, how: str, status: str | None) -> list[str]:
    """What is wrong with the end of a process at whose write the fault came."""
    found = [] if status in TRUE[how] else [f"status {status}"]
    if how == "kill":
        return found if end.code == -9 else [*found, f"not killed: exit {end.code}"]
    if "Traceback" in end.err + end.out:
        found.append(f"traceback: {end.err[-300:]}")
    if end.code not in (0, 1) and (end.code, status) != (2, None):
        found.append(f"exit {end.code}: {end.err[-200:]}")
    if (end.code == 0) != (status == "finished"):
        found.append(f"exit {end.code}, status {status}")
    if end.code and end.err.count("error: ") != 1:
        found.append(f"says {end.err[-200:]!r}")
    return found
