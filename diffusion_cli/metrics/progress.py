"""Progress bars, as long work asks for them: whoever starts it says what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Counter(Protocol):
    """What a progress bar does: `update` is told how much is newly done."""

    def update(self, n: float = 1) -> Any: ...


Progress = Callable[..., AbstractContextManager[Counter]]  # progress(total, unit="pair"), e.g. tqdm


class Uncounted:
    """A progress bar that nobody sees."""

    def update(self, n: float = 1) -> None:
        pass


@contextmanager
def silent(total: int, unit: str = "step") -> Iterator[Counter]:
    """No progress bar."""
    yield Uncounted()
