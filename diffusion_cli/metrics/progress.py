"""Progress bars, as long work asks for them: whoever starts it decides what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class ProgressBar(Protocol):
    """What a progress bar does: `update(n)` counts n as newly done."""

    def update(self, n: float = 1) -> Any: ...


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
