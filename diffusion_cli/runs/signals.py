"""Signals that ask a command to stop: a flag, which its loops look at, so that a step in hand is finished and saved.

A handler that raised would do so wherever the program is at that moment: within a callback that Python calls for itself the
exception would be printed and lost, and the run would go on to its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import ClassVar

from diffusion_cli.errors import Interrupted

CAUGHT = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
REQUEUE = getattr(signal, "SIGUSR2", None)  # by which submitit says that its job's time is over
LAUNCHERS = (REQUEUE, signal.SIGTERM)  # of a launcher that requeues jobs


def tick() -> None:
    """Raises Interrupted where a signal has come to the command that runs here: for long work that was handed no `Stop`."""
    if Stop.current is not None:
        Stop.current.check()


class Stop:
    """While the block runs, a first signal sets `signum`, and `check` raises Interrupted; a second one leaves at once.

    with Stop() as stop:
        for ...:
            if stop.signum: save, then stop.check()

    Where a launcher requeues jobs (submitit's hook on SIGUSR2), that signal is the launcher's once the run is saved,
    and SIGTERM, which the cluster sends beside it, only saves. at_once: called with the signal before the process is
    left by a second one.

    leaves: false where the process is the user's own, a notebook's for example: a second signal then raises
        KeyboardInterrupt wherever the program is.
    """

    current: ClassVar[Stop | None] = None

    def __init__(self, leaves: bool = True) -> None:
        self.leaves = leaves
        self.signum: int | None = None
        self.at_once: Callable[[int], None] = lambda signum: None
        self._after = contextlib.ExitStack()
        self._hook: Callable[[int, None], object] | None = None
        self._outer: Stop | None = None

    def __enter__(self) -> Stop:
        hook = signal.getsignal(REQUEUE) if REQUEUE else None
        self._hook = hook if callable(hook) else None
        # not in the main thread: signals are not ours to take
        with contextlib.suppress(ValueError):
            for number in [*CAUGHT, *([REQUEUE] if self._hook else [])]:
                self._after.callback(signal.signal, number, signal.signal(number, self._note))
            self._outer, Stop.current = Stop.current, self
        return self

    def __exit__(self, *error: object) -> None:
        if Stop.current is self:
            Stop.current = self._outer
        self._after.close()

    def check(self) -> None:
        """Where a signal has come: raises Interrupted, or does what the launcher wants; where that returns, the run goes
        on."""
        number = self.take()
        if number is None:
            return
        if self._hook is None or number not in LAUNCHERS:
            raise Interrupted(number)
        if number == REQUEUE:
            self._hook(number, None)

    def take(self) -> int | None:
        """The signal that has come, which is somebody else's from here on."""
        number, self.signum = self.signum, None
        return number

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._hook is not None and number in LAUNCHERS:
            # both may come at once, in either order
            self.signum = REQUEUE if REQUEUE in (self.signum, number) else number
        elif self.signum is None:
            self.signum = number
            name = signal.Signals(number).name
            say(f"{name}: stopping once what is in hand is saved; once more to leave at once")
        else:
            with contextlib.suppress(Exception):
                self.at_once(number)
            if not self.leaves:
                raise KeyboardInterrupt
            os._exit(128 + number)


def say(line: str) -> None:
    """A line on stderr from within a handler, whatever state stderr is in."""
    with contextlib.suppress(Exception):
        os.write(sys.stderr.fileno(), f"\n{line}\n".encode())
