"""The jobs of a sweep: which directory below the sweep's is whose. (No torch, no Hydra here.)

A job is known by its key, a digest of its resolved configuration, so that the same job finds its directory again
whatever its number is this time. Each directory carries a ticket with that key; it comes into being together with
its ticket by one rename, so that two jobs never share one and none is without.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from diffusion_cli.errors import UserError
from diffusion_cli.runs.atomic import facts_in, write_json

TICKET = ".job"
HALT = ".halt"  # in the sweep's directory after a signal: the number of the signal
LINE = ".sweep"  # in the sweep's directory: what was asked for


class Ticket(NamedTuple):
    """key: of the resolved configuration. overrides: as on the job's own line. started: how many times."""

    key: str
    overrides: list[str]
    started: int = 0


def claim_job(folder: Path, key: str, number: int, overrides: list[str]) -> str:
    """The name of the directory of the job with this key below `folder`: the one that it has from before, else a new
    one, named `number` or by the next number that is free."""
    if (ticket := read_ticket(folder / str(number))) is not None and ticket.key == key:
        return str(number)
    for name, ticket in tickets(folder).items():
        if ticket.key == key:
            return name
    new = folder / f".new_{key}_{os.getpid()}"
    write_ticket(new, Ticket(key, overrides))
    while True:
        try:
            os.rename(new, folder / str(number))  # refused where there is one with anything in it
        except OSError:
            if not (folder / str(number)).exists():
                raise
            number += 1
        else:
            return str(number)


def start(directory: Path, key: str | None, overrides: list[str]) -> None:
    """Count one start more of a job in its directory. key: of the job, where the directory was not claimed for it but
    named by the user; UserError where it is another job's."""
    ticket = read_ticket(directory) or Ticket(key or "", overrides)
    if key is not None and ticket.key != key:
        raise UserError("hydra.sweep.subdir", str(directory), "is the directory of another job already")
    write_ticket(directory, Ticket(ticket.key, overrides, ticket.started + 1))


def tickets(folder: Path) -> dict[str, Ticket]:
    """Name of the directory -> ticket, of all jobs of a sweep, in the order of their numbers."""
    found = {}
    for where, folders, files in os.walk(folder):  # which does not mind what comes and goes meanwhile
        ticket = read_ticket(Path(where)) if TICKET in files else None
        if ticket is not None:
            found[Path(where).relative_to(folder).as_posix()] = ticket
        folders[:] = [] if ticket is not None else [name for name in folders if name[0] != "."]
    return {name: found[name] for name in sorted(found, key=in_order)}


def in_order(name: str) -> list[tuple[int, str]]:
    """Sorts 2 before 10, and numbers before names."""
    return [(int(part), "") if part.isdecimal() else (10**9, part) for part in name.split("/")]


def read_ticket(directory: Path) -> Ticket | None:
    content = facts_in(directory / TICKET)
    try:
        return Ticket(
            str(content["key"]), [str(word) for word in content["overrides"]], int(content["started"])
        )
    except (KeyError, TypeError, ValueError):
        return None


def write_ticket(directory: Path, ticket: Ticket) -> None:
    write_json(directory / TICKET, ticket._asdict())


def give_job_back(directory: Path) -> None:
    """Removes the directory of a job that has not begun: Hydra's files, the log and the ticket. Others stay, and then
    so does the directory."""
    for file in (*directory.glob(".hydra/*.yaml"), *directory.glob("*.log"), directory / TICKET):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (directory / ".hydra").rmdir()
        directory.rmdir()


def write_line(folder: Path, command: str, line: list[str]) -> None:
    write_json(folder / LINE, {"command": command, "line": line})


def newest_sweep(root: Path, command: str, line: list[str]) -> Path | None:
    """The newest sweep below `root` that was asked for by this very line; None where there is none."""
    files = [file for file in root.glob(f"*/{LINE}") if facts_in(file) == {"command": command, "line": line}]
    return max(files, key=lambda file: (file.stat().st_mtime, file.parent.name)).parent if files else None


def halt(folder: Path, signum: int) -> None:
    """From now on no job of this sweep begins, and those that run save and stop."""
    (folder / HALT).write_text(str(signum))


def halted(folder: Path) -> int | None:
    """The signal that ended the sweep; None while it goes on."""
    try:
        return int((folder / HALT).read_text() or 15)
    except (OSError, ValueError):
        return None
