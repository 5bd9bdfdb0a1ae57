"""What a command is called in: whether it may show progress, and whether it is to stop."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from diffusion_cli.runs.place import Place
from diffusion_cli.runs.signals import Stop, tick

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)
# Seconds between two lines of what takes long.
EVERY = 20.0
# Seconds of silence after which a line says what is in hand, and between two looks whether it is time.
QUIET, LOOK = 25.0, 1.0


class Session(NamedTuple):
    """stop: the signals that ask the command to stop.

    alone: false for a job of a sweep, beside which others may run.
    lock: of the output directory, where this process holds it already.
    quiet: no progress is shown.
    """

    stop: Stop
    alone: bool = True
    lock: Place | None = None
    quiet: bool = False

    def bar(self, total: int, done: int = 0, unit: str = "step", stops: bool = True) -> Lines | tqdm:
        """A progress bar with rate and remaining time, in a terminal or a notebook; elsewhere, and for a job among others, lines.

        stops: whether an update raises Interrupted where a signal has come.
        """
        every = math.inf if self.quiet else EVERY
        return bar(total, done, unit, self.stop.check if stops else lambda: None, self.alone, every)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Callable[[], None]]:
        """A part of the command: its name is said, and by `Heartbeat` how long it takes.

        Gives what is to be called between its steps, which raises Interrupted where a signal has come.
        """
        log.info("%s", name)
        in_hand.append((name, time.monotonic()))
        try:
            yield self.stop.check
        finally:
            in_hand.pop()


# What is being done, and since when; a part of it follows the whole.
in_hand: list[tuple[str, float]] = []


class Heartbeat(logging.Handler):
    """While the block runs, the log is never silent for long: after QUIET seconds a line says what is in hand.

    A thread of its own, since a single step, such as an exact transport between many points, may take minutes.
    """

    heard: ClassVar[float] = 0.0

    def __init__(self, name: str) -> None:
        super().__init__()
        self.whole, self.over = name, threading.Event()

    def __enter__(self) -> Heartbeat:
        in_hand.append((self.whole, time.monotonic()))
        logging.getLogger("diffusion_cli").addHandler(self)
        Heartbeat.heard = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        logging.getLogger("diffusion_cli").removeHandler(self)
        in_hand.pop()

    def emit(self, record: logging.LogRecord) -> None:
        Heartbeat.heard = time.monotonic()

    def look(self) -> None:
        """Says what is in hand, if nothing was said for long."""
        now = time.monotonic()
        if now - Heartbeat.heard >= QUIET and in_hand:
            name, since = in_hand[-1]
            log.info("%s: %.0f s so far", name, now - since)

    def _watch(self) -> None:
        while not self.over.wait(LOOK):
            self.look()


def bar(
    total: float,
    done: int = 0,
    unit: str = "step",
    check: Callable[[], None] = tick,
    alone: bool = True,
    every: float = EVERY,
) -> Lines | tqdm:
    """A progress bar; see `Session.bar`.

    check: called at each update, before it counts.
    every: seconds between lines; infinite for no bar and no lines.
    """
    if not alone or every == math.inf or not (_is_terminal() or in_notebook()):
        return Lines(total, done, unit, check, every)

    with warnings.catch_warnings():
        # that a notebook lacks ipywidgets: the bar is then one of characters
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    class Bar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            check()
            Heartbeat.heard = time.monotonic()
            return super().update(n)

    return Bar(total=total, initial=done, unit=unit, dynamic_ncols=True, mininterval=0.5)


class Lines:
    """Progress as a plain line of the log every `every` seconds: what is done, rate, remaining time, and a note."""

    def __init__(
        self, total: float, done: float, unit: str, check: Callable[[], None], every: float = EVERY
    ) -> None:
        self.total, self.done, self.unit, self.check, self.every = total, done, unit, check, every
        self.first, self.note = done, ""
        self.started = self.written = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left open."""

    def set_postfix_str(self, note: str, refresh: bool = True) -> None:
        """What the next line says beside the progress."""
        self.note = note

    def update(self, n: float = 1) -> None:
        """Counts n as newly done."""
        self.check()
        self.done += n
        now = time.monotonic()
        if now - self.written >= self.every:
            self.written = now
            rate = (self.done - self.first) / max(now - self.started, 1e-9)
            left = f"{(self.total - self.done) / rate:.0f} s left" if rate > 0 else ""
            parts = (f"{self.unit} {self.done:g} of {self.total}", self.note, f"{rate:.3g} a second", left)
            log.info("%s", ", ".join(part for part in parts if part))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel.kernelapp" in sys.modules


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        # closed
        return False
