"""Progress bars, as long work asks for them: whoever starts it decides what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class ProgressBar(Protocol):
    """What a progress bar does: `update(n)` counts n as newly done."""

    def update(self, n: float = 1) -> object: ...


# progress(total, unit="pair"), e.g. tqdm
Progress = Callable[..., AbstractContextManager[ProgressBar]]


class NoBar:
    """A progress bar that nobody sees."""

    def update(self, n: float = 1) -> None:
        pass


@contextmanager
def silent(total: int, unit: str = "step") -> Iterator[ProgressBar]:
    """No progress bar."""
    yield NoBar()


class Multiplied:
    """A bar on which what one process does counts so many times, since others do as much."""

    def __init__(self, bar: ProgressBar, times: float) -> None:
        self.bar, self.times, self.left = bar, times, 0.0

    def update(self, n: float = 1) -> None:
        self.left += n * self.times
        whole = int(self.left)
        self.left -= whole
        self.bar.update(whole)
