"""Where files made or fetched by us are kept for later runs, and how they get there whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from diffusion_cli.errors import UserError

log = logging.getLogger(__name__)
CACHE = "DIFFUSION_CLI_CACHE"  # environment variable


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

    Of several processes that want it one makes it while the others wait; what a killed one has left is removed. Raises
    UserError when it cannot be written (no space, no permission); after that, and after any error of `make`, nothing
    is left. Proved by tests/test_cache.py.
    """
    if path.exists():
        return path
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
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


def kept_content(kind: str, about: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
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
