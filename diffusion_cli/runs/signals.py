"""Signals that ask a run to stop: the step in hand is finished and saved first."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from diffusion_cli.errors import Interrupted

CAUGHT = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
REQUEUE = getattr(signal, "SIGUSR2", None)  # by which submitit is told that its job's time is over


class Stop:
    """While the block runs, a first signal raises Interrupted; within `finishing_steps` it only sets `signum`, so that
    the step can be finished and saved. A second signal acts as it would have without us: it leaves at once.

    with Stop() as stop:
        with stop.finishing_steps():
            for ...:
                if stop.signum: save, then stop.obey()

    Where a launcher requeues jobs (submitit's hook on SIGUSR2), that signal is the launcher's once the run is saved,
    and SIGTERM, which the cluster sends beside it, only saves.
    """

    signum: int | None = None

    def __enter__(self) -> Stop:
        self._patient = False
        self._before: dict[int, object] = {}
        hook = REQUEUE and signal.getsignal(REQUEUE)
        self._hook = hook if callable(hook) else None
        with contextlib.suppress(ValueError):  # not in the main thread: signals are not ours to take
            for number in [*CAUGHT, *([REQUEUE] if self._hook else [])]:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def finishing_steps(self) -> Iterator[None]:
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def obey(self) -> None:
        """After saving: raises Interrupted, or does what the launcher wants; where that returns, the run goes on."""
        number, self.signum = self.signum, None
        if not self._is_launchers(number):
            raise Interrupted(number)
        if number == REQUEUE:
            self._hook(number, None)

    def _is_launchers(self, number: int | None) -> bool:
        return self._hook is not None and number in (REQUEUE, signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._is_launchers(number):  # both may come at once, in either order
            self.signum = REQUEUE if REQUEUE in (self.signum, number) else number
        else:
            self.signum = number
            for caught in self._before:
                signal.signal(caught, signal.SIG_DFL)
        if not self._patient:
            self.obey()
