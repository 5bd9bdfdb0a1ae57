"""What a command is called in: whether it may show progress, and whether it is to stop."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from diffusion_cli.runs.place import Place
from diffusion_cli.runs.signals import Stop


class Session(NamedTuple):
    """stop: the signals that ask the command to stop.

    alone: false for a job of a sweep, beside which others may run.
    lock: of the output directory, where this process holds it already.
    """

    stop: Stop
    alone: bool = True
    lock: Place | None = None

    def bar(self, total: int, done: int = 0, unit: str = "step", stops: bool = True) -> Any:
        """A progress bar with rate and remaining time; silent for a job among others, and where stderr is no terminal.

        stops: whether an update raises Interrupted where a signal has come.
        """
        from tqdm import tqdm

        check = self.stop.check

        class Bar(tqdm):
            def update(self, n: float | None = 1) -> bool | None:
                if stops:
                    check()
                return super().update(n)

        quiet = not self.alone or not sys.stderr.isatty()
        return Bar(total=total, initial=done, unit=unit, disable=quiet, dynamic_ncols=True, mininterval=0.5)
