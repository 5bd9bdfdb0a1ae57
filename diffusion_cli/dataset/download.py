"""Files from the network: from the first of several mirrors that has the right one, whole or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from diffusion_cli.dataset.cache import cached
from diffusion_cli.errors import ArgumentError, one_line
from diffusion_cli.runs.session import bar

log = logging.getLogger(__name__)
TIMEOUT = 20  # seconds without a byte
LONGEST = 3600  # seconds for a file
LARGEST = 2**30  # bytes; the largest that is fetched has a sixth of it
CHUNK = 2**16


class Unreachable(Exception):
    """No mirror gave the file; the message says for each of them why."""


def fetch(name: str, mirrors: Sequence[str], folder: Path, check: Callable[[Path, str], object]) -> Path:
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
    # It takes 0.2 s to import, so only for those who download.
    import requests

    log.info("downloading %s", url)
    end = time.monotonic() + LONGEST
    with requests.get(url, stream=True, timeout=TIMEOUT) as answer, file.open("wb") as out:
        answer.raise_for_status()
        size = int(answer.headers.get("content-length", 0))
        with bar(size / 1e6, unit="MB") as progress:
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                if out.tell() > LARGEST:
                    raise ArgumentError("", ..., f"is larger than {LARGEST >> 20} MB")
                if time.monotonic() > end:
                    raise ArgumentError("", ..., f"takes longer than {LONGEST // 60} minutes")
                progress.update(len(chunk) / 1e6)


def _reason(error: BaseException) -> str:
    """The innermost cause of a chain of network errors, which says what happened, in a few words."""
    while error.__context__ is not None:
        error = error.__context__
    strerror = error.strerror if isinstance(error, OSError) else None
    return one_line(strerror or str(error) or type(error).__name__)[:120]
