"""The engine of scripts/reproduce: trains the runs and draws the figures of scripts/report/list.yaml.

Every item is one command line of ours. Two workers (one for each core, with one thread each: faster than one with two)
take them as soon as the runs that they name are there; each keeps its process, so that torch is imported once.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import index
import provenance
import worker
from listing import Figure, Listing, Run

ROOT = Path(__file__).parents[2]
REPORT = Path("outputs/report")
COURSES = Path("outputs/courses")  # of each course what its sheet hands in
HOME = Path("outputs/reproduce")  # runs by budget, drawings, logs, unpacked data


@dataclass
class Progress:
    """A line for each item that has ended, and what came of it."""

    total: int
    done: int = 0
    failed: list[tuple[Run | Figure, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def ended(self, item: Run | Figure, outcome: str, seconds: float = 0.0, error: str | None = None) -> None:
        self.done += 1
        if error is not None:
            self.failed.append((item, error))
        minutes, rest = divmod(int(time.monotonic() - self.started), 60)
        text = error or f"{seconds:.1f} s"
        print(
            f"[{self.done:3}/{self.total}] {minutes:2}:{rest:02} {item.group:10} {item.name:26} {outcome}: {text}",
            flush=True,
        )


def main() -> int:
    listing, courses = (
        Listing.read(Path(__file__).with_name(f"{name}.yaml")) for name in ("list", "courses")
    )
    asked = arguments(listing, courses)
    report, home = REPORT, HOME
    if asked.course:
        listing = replace(courses, groups={asked.course: courses.groups[asked.course]})
        report, home = COURSES / asked.course, HOME / "courses"
    budget = asked.budget or ("full" if asked.course else "quick")
    data = asked.data or os.environ.get("DIFFUSION_CLI_DATA")
    if data:
        os.environ["DIFFUSION_CLI_DATA"] = os.path.join(
            os.environ.get("DIFFUSION_CLI_FROM", os.getcwd()), data
        )
    os.chdir(ROOT)
    if asked.check:
        wrong = provenance.check(listing, report)
        for name, reason in wrong.items():
            print(f"{name}: {reason}", file=sys.stderr)
        return 1 if wrong else 0
    items = listing.items(asked.only, budget, home)
    if asked.list:
        for item in items:
            print(f"{item.group:10} {item.name:26} {item.command}")
        return 0
    marks = provenance.provenances(listing, budget)
    items = [
        replace(item, provenance=marks[item.name]) if isinstance(item, Figure) else item for item in items
    ]
    progress = Progress(len(items))
    try:
        work(items, progress, asked.jobs, report)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        index.write(listing, items, report, home)
    lost = [(item, error) for item, error in progress.failed if isinstance(item, Figure)]
    drawn = sum(isinstance(item, Figure) for item in items) - len(lost)
    print(f"{drawn} figures in {report}, {time.monotonic() - progress.started:.0f} s")
    for item, error in progress.failed:
        print(f"missing: {item.name}: {error}", file=sys.stderr)
    return 1 if progress.failed else 0


def arguments(listing: Listing, courses: Listing) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/reproduce", description="Trains what is missing and redraws the report."
    )
    parser.add_argument(
        "--only",
        metavar="GROUP",
        action="append",
        choices=listing.groups,
        help="one of " + ", ".join(listing.groups),
    )
    parser.add_argument(
        "--course", choices=courses.groups, help="make what this sheet hands in, into outputs/courses/NAME"
    )
    parser.add_argument(
        "--check", action="store_true", help="draw nothing; say which figures are not what the list says"
    )
    parser.add_argument(
        "--budget",
        choices=provenance.BUDGETS,
        help="quick: 25 minutes on 2 cores, the default but for courses",
    )
    parser.add_argument("--data", metavar="DIR", help="folder of the image data; else DIFFUSION_CLI_DATA")
    parser.add_argument(
        "--jobs", type=int, default=cores(), help="items at a time, on one thread each; default: cores"
    )
    parser.add_argument("--list", action="store_true", help="say what would be done, one command a line")
    asked = parser.parse_args()
    if asked.jobs < 1:
        parser.error("--jobs must be at least 1")
    return asked


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(items: Sequence[Run | Figure], progress: Progress, jobs: int, report: Path = REPORT) -> None:
    """Does the items, each as soon as those that it needs are done: the runs from the end of the list, where the long
    ones are, so that the short ones fill up the last minutes of both cores; then the figures in its order."""
    runs = [item for item in items if isinstance(item, Run)]
    waiting = [*reversed(runs), *(item for item in items if not isinstance(item, Run))]
    ready: set[str] = set()  # names of runs
    failed: set[str] = set()
    running: dict[Future, Run | Figure] = {}

    def end(item: Run | Figure, outcome: str, seconds: float, error: str | None) -> None:
        progress.ended(item, outcome, seconds, error)
        if isinstance(item, Run):
            (ready if error is None else failed).add(item.name)

    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), worker.begin, (str(HOME / "logs"),))
    try:
        while waiting or running:
            for item in list(waiting):
                lost = [name for name in item.needs if name in failed]
                if item.problem or lost:
                    waiting.remove(item)
                    end(item, "skipped", 0.0, item.problem or f"needs {lost[0]}")
                elif len(running) < jobs and all(name in ready for name in item.needs):
                    waiting.remove(item)
                    running[pool.submit(worker.do, item, str(report))] = item
            if not running:
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    outcome, seconds, error = future.result()
                except BrokenProcessPool:
                    outcome, seconds, error = "failed", 0.0, "its process was killed"
                    pool.shutdown(wait=False)
                    pool = ProcessPoolExecutor(
                        jobs, get_context("spawn"), worker.begin, (str(HOME / "logs"),)
                    )
                end(item, outcome, seconds, error)
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
