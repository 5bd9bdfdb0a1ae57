"""stdout and stderr, whatever state they are in: closed, full, or read by somebody who has gone."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO


class Tolerant:
    """A text stream that never raises for what it cannot write, and remembers the first such error.

    A run that is whole in its files is not undone by a terminal that has gone.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def isatty(self) -> bool:
        return self.error is None and not self.stream.closed and bool(self.stream.isatty())

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def _try(self, call: Callable[..., object], *given: str) -> None:
        if self.error is None:
            try:
                call(*given)
            except (OSError, ValueError) as error:
                self.error = error


class Terminal(logging.Formatter):
    """A line of the log as people read it: without the time and the module, which the log's file has."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return level + record.getMessage()


def speak_plainly() -> None:
    """Makes what Hydra's usual handlers print to the terminal `Terminal` lines; a format of the user's own stays."""
    for handler in logging.getLogger().handlers:
        usual = "%(asctime)s" in getattr(handler.formatter, "_fmt", "")
        if type(handler) is logging.StreamHandler and usual:
            handler.setFormatter(Terminal())


def spoken() -> contextlib.AbstractContextManager[None]:
    """Within, the log goes to stderr, for a command that Hydra does not set it up for."""
    handler = logging.StreamHandler()
    handler.setFormatter(Terminal())
    return logged_to([handler], logging.getLogger(), logging.INFO)


@contextlib.contextmanager
def logged_to(handlers: Sequence[logging.Handler], logger: logging.Logger, level: int) -> Iterator[None]:
    """Within, what is logged from this level on goes to these handlers, too."""
    before = logger.level
    logger.setLevel(level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def tolerant() -> Iterator[tuple[Tolerant, Tolerant]]:
    """Within, sys.stdout and sys.stderr are `Tolerant`, and logging prints no tracebacks of its own.

    A stream that was closed when the process began leads to nowhere. Its descriptor must be taken in any case: else
    the next file that is opened would get it, and with it what libraries write to stderr.
    """
    before, raising = (sys.stdout, sys.stderr), logging.raiseExceptions
    for number in (0, 1, 2):
        _take(number)
    streams = Tolerant(before[0] or _nowhere()), Tolerant(before[1] or _nowhere())
    sys.stdout, sys.stderr = streams
    logging.raiseExceptions = False
    try:
        yield streams
    finally:
        logging.raiseExceptions = raising
        sys.stdout, sys.stderr = (
            old if old is not None and new.error is None else _nowhere()
            for old, new in zip(before, streams, strict=True)
        )
        for new in streams:
            if new.error is not None:
                _drain(new.stream)


def _take(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        # the lowest free descriptor is this very one, since those below it are taken
        os.open(os.devnull, os.O_RDWR)


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


def _drain(stream: TextIO) -> None:
    """What is still buffered would fail once more when Python exits, and make the exit code 120."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
