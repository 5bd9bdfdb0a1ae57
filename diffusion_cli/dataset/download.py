"""Files from the network: from the first of several mirrors that has the right one, whole or not at all."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffusion_cli.dataset.cache import cached
from diffusion_cli.errors import UserError, one_line

log = logging.getLogger(__name__)
TIMEOUT = 20  # seconds without a byte


class Unreachable(Exception):
    """No mirror gave the file; says for each of them why."""


def fetch(name: str, mirrors: Sequence[str], folder: Path, check: Callable[[Path, str], Any]) -> Path:
    """folder/name, downloaded from the first mirror (a URL, to which `name` is appended) whose file passes `check`.

    `check(file, name)` raises UserError for a wrong file, which is thrown away. A file that is there already is taken
    as it is: nothing comes to lie under that name but what has passed. Raises Unreachable when no mirror has the file, and
    UserError when it cannot be stored. Proved by tests/test_download.py.
    """

    def download(part: Path) -> None:
        failures = []
        for mirror in mirrors:
            try:
                _retrieve(mirror + name, part)
                check(part, name)
            except UserError as error:
                failures.append(f"{mirror}: {error.reason.removeprefix(f'{part}: ')}")
            except OSError as error:  # those of requests and urllib3 among them
                if error.errno is not None:
                    raise  # our disk, not their server
                failures.append(f"{mirror}: {_reason(error)}")
            else:
                log.info("downloaded %s%s%s", mirror, name, "".join(f"; not from {why}" for why in failures))
                return
        raise Unreachable("; ".join(failures))

    return cached(folder / name, download)


def _retrieve(url: str, file: Path) -> None:
    from pooch import HTTPDownloader  # with requests, 0.2 s: only for those who download

    download = HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUT)
    download(url, str(file), None)


def _reason(error: Exception) -> str:
    """The innermost cause of a chain of network errors, which says what happened, in a few words."""
    while error.__context__ is not None:
        error = error.__context__
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:120]
