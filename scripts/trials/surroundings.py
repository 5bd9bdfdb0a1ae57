"""What surrounds a run goes wrong: its streams, its file system, its directory, its clock, its owner. What is whole stays whole,
the end is said in one line, and the status is true."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from trials.child import Child, End
from trials.kills import essence

LINE = ["train", "dataset=circle", "steps=60", "batch_size=16", "model.width=8", "threads=1", "device=cpu", "log_every=5",
        "checkpoint.every=20", "stages.every=0", "plots=false", "resume=true", "hydra.run.dir=run"]  # fmt: skip
NOBODY = 65534


class Case(NamedTuple):
    """name: what goes wrong. before: called in the child. codes and statuses: that are right. says: a part of stderr."""

    name: str
    before: Callable[[], None]
    codes: tuple[int, ...] = (0,)
    statuses: tuple[str | None, ...] = ("finished",)
    says: str = ""


def closed(number: int) -> Callable[[], None]:
    """As a shell's 2>&- leaves it."""

    def before() -> None:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    return before


def full(number: int) -> Callable[[], None]:
    def before() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)

    return before


def without_locks(number: int) -> Callable[[], None]:
    """As some network file systems answer."""

    def before() -> None:
        import fcntl

        def flock(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        fcntl.flock = flock

    return before


def at_a_step(act: Callable[[], object]) -> Callable[[], None]:
    """act() once in the middle of the training."""

    def before() -> None:
        from diffusion_cli.commands.course import Training

        log_row = Training.log_row

        def then(training: Training) -> Any:
            if training.state.step == 45:
                act()
            return log_row(training)

        Training.log_row = then

    return before


def set_back() -> None:
    """Each look at the clock is an hour before the last one; what measures durations goes on as ever."""
    hours = iter(range(2_000_000_000, 0, -3600))
    time.time = lambda: float(next(hours))


def another_user() -> None:
    os.makedirs("run", exist_ok=True)
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def enterable(folder: Path) -> bool:
    """Whether everybody may enter a folder."""
    return all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


CASES = [
    Case("stdout is closed", closed(1)),
    Case("stderr is closed", closed(2)),
    Case("stdin is closed", closed(0)),
    Case("stdout is full", full(1), says="stdout cannot be written"),
    Case("stderr is full", full(2)),
    Case("no locks: ENOLCK", without_locks(errno.ENOLCK)),
    Case("no locks: ENOSYS", without_locks(errno.ENOSYS)),
    Case("directory removed", at_a_step(lambda: shutil.rmtree("run")), (1,), (None,), "removed or moved"),
    Case("directory moved", at_a_step(lambda: os.rename("run", "away")), (1,), (None,), "removed or moved"),
    Case("clock set back", set_back),
    Case("another user's directory", another_user, (2,), (None,), "Permission denied"),
]  # fmt: skip
DEFAULT = len(CASES)


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """The first n of the cases. seed is of no use here."""
    straight = folder / "straight"
    straight.mkdir()
    end = Child(LINE, straight).wait()
    if end.code:
        return {"broken": [f"the straight run: exit {end.code}: {end.err}"]}
    truth, broken, tried = essence(straight), [], 0
    for case in CASES[:n]:
        if case.before is another_user:
            folder.chmod(0o755)
            if os.geteuid() != 0 or not (enterable(Path(sys.prefix)) and enterable(folder)):
                continue
        tried += 1
        home = folder / case.name.replace(" ", "-")
        home.mkdir()
        end = Child(LINE, home, case.before).wait()
        broken += [f"{case.name}: {fault}" for fault in faults(case, end, home)]
        again = Child(LINE, home).wait()
        if again.code or essence(home) != truth:
            broken.append(f"{case.name}: the next run: exit {again.code}: {again.err[-300:]}")
    return {
        "tried": tried,
        "survived": tried - len({line.partition(":")[0] for line in broken}),
        "broken": broken,
    }


def faults(case: Case, end: End, home: Path) -> list[str]:
    from diffusion_cli.runs.directory import RunDirectory

    found, status = [], RunDirectory(home / "run").status
    if end.code not in case.codes or status not in case.statuses:
        found.append(f"exit {end.code}, status {status}: {end.err[-300:]}")
    if "Traceback" in end.err + end.out or "Exception ignored" in end.err:
        found.append(f"traceback: {end.err[-300:]}")
    if case.says not in end.err:
        found.append(f"says {end.err[-300:]!r}")
    if end.code and end.err.count("error: ") != 1:
        found.append(f"not one line: {end.err[-300:]!r}")
    return found
