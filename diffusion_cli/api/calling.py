"""What a command is called in from Python: what it says, its threads, and what an interrupt does."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusion_cli.cli.before_torch import set_before_torch
from diffusion_cli.cli.calls import perform
from diffusion_cli.cli.streams import logged_to
from diffusion_cli.commands import output
from diffusion_cli.errors import Interrupted
from diffusion_cli.runs.session import Heartbeat, Session, in_notebook
from diffusion_cli.runs.signals import Stop

log = logging.getLogger(__name__)
_said: set[str] = set()


@contextlib.contextmanager
def calling(
    quiet: bool, threads: int | None, file: Path | None = None, log_format: str = ""
) -> Iterator[Session]:
    """The session of one call. An interrupt of the keyboard leaves as KeyboardInterrupt, once all is saved.

    quiet: nothing is shown but warnings.
    threads: torch's while the call lasts; afterwards it has those that it had before.
    file, log_format: of the command's own log; None: it has none.
    """
    set_before_torch(os.environ)
    import torch

    from diffusion_cli.device import threads_kept

    before = torch.get_num_threads()
    with (
        threads_kept(),
        _heard(quiet, file, log_format),
        Stop(leaves=False) as stop,
        contextlib.nullcontext() if quiet else Heartbeat("at work"),
    ):
        if threads and threads != before and "threads" not in _said:
            _said.add("threads")
            log.info("torch runs with %d threads here, not with %d; threads=N changes it", threads, before)
        try:
            yield Session(stop, quiet=quiet)
        except Interrupted as error:
            if error.signum == signal.SIGINT:
                raise KeyboardInterrupt(str(error)) from None
            raise SystemExit(128 + error.signum) from None


def performed(command: str, line: Sequence[str], quiet: bool) -> Path:
    """The directory that a command has left."""
    return perform(command, line, functools.partial(calling, quiet))


def _heard(quiet: bool, file: Path | None, log_format: str) -> contextlib.AbstractContextManager[None]:
    """Within, what the package logs is printed, as in a terminal, where the program has not said what becomes of it."""
    logger = logging.getLogger("diffusion_cli")
    handlers: list[logging.Handler] = []
    if not logger.hasHandlers():
        handlers.append(logging.StreamHandler(sys.stdout))
        handlers[0].setLevel(logging.WARNING if quiet else logging.INFO)
        if in_notebook():
            # what a cell returns shows them
            handlers[0].addFilter(lambda record: record.funcName != output.log_metrics.__name__)
    if file is not None:
        handlers.append(logging.FileHandler(file))
        handlers[-1].setFormatter(logging.Formatter(log_format))
    level = logging.INFO if logger.level == logging.NOTSET else logger.level
    return logged_to(handlers, logger, level)
