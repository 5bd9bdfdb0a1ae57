"""Signals that ask a run to stop: the step in hand is finished and saved first."""

from __future__ import annotations

import signal
from types import FrameType

CAUGHT = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Stop:
    """While the block runs, a first signal sets `signum`; a second one acts as it would have without us.

    with Stop() as stop:
        for ...:
            if stop.signum: save, and leave
    """

    signum: int | None = None

    def __enter__(self) -> Stop:
        self._before = {}
        try:
            for number in CAUGHT:
                self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread (some launchers): signals are not ours to take
            pass
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signum = number
        for caught in CAUGHT:
            signal.signal(caught, signal.SIG_DFL)
