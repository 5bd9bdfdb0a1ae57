"""Files from the network: from the first of several mirrors that has the right one, whole or not at all."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffusion_cli.dataset.cache import cached
from diffusion_cli.errors import ArgumentError, one_line

log = logging.getLogger(__name__)
TIMEOUT = 20  # seconds without a byte


class Unreachable(Exception):
    """No mirror gave the file; the message says for each of them why."""


def fetch(name: str, mirrors: Sequence[str], folder: Path, check: Callable[[Path, str], Any]) -> Path:
    """folder/name, downloaded from the first mirror whose file passes the check.

    name: of the file.
    mirrors: URLs, to which the name is appended.
    folder: in which to store the file. One that is there already is taken as it is: only what has passed gets there.
    check: (file, name) -> anything; raises ArgumentError for a wrong file, which is thrown away.

    Raises Unreachable when no mirror has the file, and UserError when it cannot be stored. Proved by
    tests/test_download.py.
    """

    def download(part: Path) -> None:
        failures = []
        for mirror in mirrors:
            try:
                _retrieve(mirror + name, part)
                check(part, name)
            except ArgumentError as error:
                failures.append(f"{mirror}: {error.reason.removeprefix(f'{part}: ')}")
            # The errors of requests and urllib3 are among them, without a number.
            except OSError as error:
                if error.errno is not None:
                    raise
                failures.append(f"{mirror}: {_reason(error)}")
            else:
                log.info("downloaded %s%s%s", mirror, name, "".join(f"; not from {why}" for why in failures))
                return
        raise Unreachable("; ".join(failures))

    return cached(folder / name, download)


def _retrieve(url: str, file: Path) -> None:
    # With requests it takes 0.2 s to import, so only for those who download.
    from pooch import HTTPDownloader

    download = HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUT)
    download(url, str(file), None)


def _reason(error: BaseException) -> str:
    """The innermost cause of a chain of network errors, which says what happened, in a few words."""
    while error.__context__ is not None:
        error = error.__context__
    strerror = error.strerror if isinstance(error, OSError) else None
    return one_line(strerror or str(error) or type(error).__name__)[:120]
