"""A run's directory as a place: held by one process at a time, and still the one that was taken. (No torch here.)"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from diffusion_cli.errors import RunFailed, TakenError
from diffusion_cli.runs.atomic import replacing

log = logging.getLogger(__name__)
LOCK, OWNER, HELD = ".lock", ".owner", ".held"
POLL = 0.1  # seconds in which a mere look at the lock (`is_held`) is over for certain
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class Place:
    """A directory that this process alone works in, from `take` to `release` or its death, however it dies."""

    def __init__(self, folder: Path, lock: BaseFileLock) -> None:
        self.folder, self.lock = folder, lock
        self._handle = os.open(folder, os.O_RDONLY) if os.name == "posix" else None
        self._identity = _identity(folder)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        # its directory may be gone
        with contextlib.suppress(OSError):
            self.lock.release()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def check(self) -> None:
        """RunFailed where the directory is not there any more, or is another one by now."""
        now = self.where()
        if now != self.folder:
            found = f"is {now} now: move it back, or go on there" if now else "is gone with what was in it"
            reason = f"{self.folder} was removed or moved while the run was going on: the directory {found}"
            raise RunFailed(reason)

    def where(self) -> Path | None:
        """Where the directory is now, as far as the system tells; None where it was removed."""
        if _identity(self.folder) == self._identity:
            return self.folder
        try:
            now = Path(os.readlink(f"/proc/self/fd/{self._handle}"))
        except OSError:
            return None
        return now if _identity(now) == self._identity else None


def take(folder: Path, wait: Callable[[], None] | None = None) -> Place:
    """The directory for this process alone.

    wait: called again and again while another process has it, which may raise; None: TakenError where one has.

    Where the file system has no locks, a file that names its holder stands for one: it outlives a killed process, and is
    taken over where that process was one of this machine.
    """
    missing = _no_locks(folder / LOCK)
    lock: BaseFileLock = FileLock(folder / LOCK) if missing is None else SoftFileLock(folder / HELD)
    if missing is not None:
        why = f"no locks on this file system ({missing})"
        log.warning("%s: %s; the file %s stands for one", folder, why, HELD)
    while True:
        try:
            lock.acquire(timeout=POLL)
            break
        except Timeout:
            if wait is None:
                who = owner.read_text().strip() if (owner := folder / OWNER).is_file() else "another process"
                hint = "" if missing is None else f"; where that process is no more, remove {folder / HELD}"
                raise TakenError("hydra.run.dir", str(folder), f"is being trained by {who}{hint}") from None
            wait()
    # it only names the holder: a full disk is met where something is lost by it
    with contextlib.suppress(OSError):
        (folder / OWNER).unlink(missing_ok=True)
        with replacing(folder / OWNER) as part:
            part.write_text(f"process {os.getpid()} on {os.uname().nodename}\n")
    return Place(folder, lock)


def is_held(folder: Path) -> bool:
    """Whether a process works in the directory now; true where that cannot be known."""
    if (folder / HELD).exists():
        return True
    try:
        return _refusal(folder / LOCK) is not None
    except FileNotFoundError:
        return False
    except (ImportError, OSError):
        return True


def _no_locks(file: Path) -> str | None:
    """Why this file cannot be locked, where the file system has no locks; else None."""
    try:
        error = _refusal(file, make=True)
    except (ImportError, OSError):
        # FileLock says what is wrong with it
        return None
    return error.strerror if error is not None and error.errno in NO_LOCKS else None


def _refusal(file: Path, make: bool = False) -> OSError | None:
    """The error that this file gives to whoever locks it now. make: where it is missing; else that raises OSError."""
    import fcntl

    way = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW if make else os.O_RDONLY
    handle = os.open(file, way | os.O_NONBLOCK, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error
    finally:
        os.close(handle)
    return None


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
