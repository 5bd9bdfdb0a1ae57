"""How a run that the file system fails comes to its end: in one line, which says what is safe and what to do."""

from __future__ import annotations

import errno

from diffusion_cli.errors import RunFailed
from diffusion_cli.runs.directory import RunDirectory

REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EROFS: "make it writable",
}


def explained(error: BaseException, run: RunDirectory) -> BaseException:
    """An error as it ends a training: RunFailed for one of the file system, others as they are."""
    try:
        run.check_place()
    except RunFailed as gone:
        # what it has led to elsewhere matters less
        return gone if isinstance(error, Exception) else error
    if not isinstance(error, OSError) or error.errno is None:
        return error
    remedy = REMEDIES.get(error.errno, "put that right")
    reason = f"{error.filename or run.path}: {error.strerror}; {safe(run)}"
    way = f"the same line with hydra.run.dir={run.path} resume=true goes on"
    return RunFailed(f"{reason}; {remedy}, then {way}")


def safe(run: RunDirectory) -> str:
    """What of a training is safe, in words."""
    last = run.checkpoints()[-1:]
    return f"the last good checkpoint is {last[0]}" if last else "there is no checkpoint yet"
