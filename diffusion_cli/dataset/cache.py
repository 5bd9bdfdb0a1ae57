"""Where files made or fetched by us are kept for later runs, and how they get there whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Facts
from diffusion_cli.runs.session import in_hand
from diffusion_cli.runs.signals import tick

log = logging.getLogger(__name__)
CACHE = "DIFFUSION_CLI_CACHE"  # environment variable
LOOK = 0.2  # seconds between looks for a signal


def cache_dir() -> Path:
    """The folder of all our caches: $DIFFUSION_CLI_CACHE, else the user's cache folder of this system.

    Any of it may be deleted at any time between runs. It need not exist yet.
    """
    named = os.environ.get(CACHE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("diffusion_cli"))


def cached(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made if it is not there yet.

    path: of a file or a folder within cache_dir().
    make: (part) writes it under the name `part`, which takes the name `path` when all of it is written.

    Of several processes that want it one makes it while the others wait, which they say every so often; what a killed one
    has left is removed. Raises UserError when it cannot be written (no space, no permission); after that, and after any
    error of `make`, nothing is left. Proved by tests/test_cache.py.
    """
    if path.exists():
        return path
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_with(path.with_name(f".{path.name}.lock"), path):
            if not path.exists():
                _remove(part)
                try:
                    make(part)
                    os.replace(part, path)
                finally:
                    _remove(part)
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}; {CACHE}=FOLDER names another place"
        raise UserError("", ..., f"cache {path}: {reason}") from error
    return path


@contextlib.contextmanager
def alone_with(file: Path, what: Path) -> Iterator[None]:
    """With the lock `file`, under which one process makes `what`: others wait, say so, and are ended by a signal."""
    lock = FileLock(file)
    in_hand.append((f"waiting for another process, which makes {what}", time.monotonic()))
    try:
        while not lock.is_locked:
            tick()
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=LOOK)
    finally:
        in_hand.pop()
    try:
        yield
    finally:
        lock.release()


def kept_content(kind: str, about: Mapping[str, object], make: Callable[[], Facts]) -> Facts:
    """make(), or what it gave before.

    kind: the folder within cache_dir().
    about: tensors and plain values on which the result depends; a file is found by their digest.

    A damaged file is replaced; where none can be written, the result is made each time.
    """
    from diffusion_cli.runs import checkpoint

    file = cache_dir() / kind / f"{checkpoint.digest(about)[:32]}.safetensors"
    try:
        return checkpoint.load(file)
    except checkpoint.Damaged:
        # Not there, most often.
        content = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(file, content)
    except OSError as error:
        log.debug("%s cannot be kept in %s: %s", kind, file.parent, error.strerror or error)
    return content


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
