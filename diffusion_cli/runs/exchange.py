"""Sums of the vectors of several processes, and with them of a few words that they say to each other: in memory that those of
one host share, which is quicker than its own network, or over a network."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

# Where a file lies in memory, if the system has such a place.
IN_MEMORY = Path("/dev/shm")
# What a process says to the others: a signal that has come to it, and whether it wants a pause.
Say = Callable[[], tuple[int | None, bool]]


def added(vectors: Iterable[Tensor]) -> Tensor:
    """Their sum, one after the other, in the memory of the first."""
    vectors = iter(vectors)
    total = next(vectors)
    for vector in vectors:
        total += vector
    return total


class Sums:
    """Adds vectors (m,), as many of each process. All processes must call it.

    rank, size: of this process, and how many there are.
    exact: add in the order of the ranks, with the bits of one process; else by an all_reduce, whose rounding depends on the
        number of processes, and in a third of the memory.
    shared: whether the processes may have memory in common; false from the first call on that finds none.
    """

    def __init__(self, rank: int, size: int, exact: bool = True, shared: bool = True) -> None:
        self.rank, self.size, self.exact, self.shared = rank, size, exact, shared
        self._memory: SharedSum | None = None

    def sent(self, vectors: Iterable[Tensor]) -> list[Tensor]:
        """Of the vectors of this process what takes part in the sum: all of them, or their own sum."""
        return [*vectors] if self.exact else [added(vectors)]

    def __call__(self, given: list[Tensor], words: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of what `sent` gives in all processes, which lasts until the next call; and that of their words (w,)."""
        if self.exact and self.shared and given[0].device.type == "cpu":
            if self._memory is None or not self._memory.fits(given, words):
                self._memory = shared_sum(given, words, self.rank, self.size)
                self.shared = self._memory is not None
            if self._memory is not None:
                return self._memory(given, words)
        if given[0].device.type != "cpu":
            # by themselves, so that nobody waits for the device to read them
            dist.all_reduce(words)
            return self._over_network(given), words
        total = self._over_network([torch.cat((given[0], words)), *given[1:]])
        return total[: -len(words)], total[-len(words) :]

    def _over_network(self, given: list[Tensor]) -> Tensor:
        """The sum of vectors, of which the first may be the longest.

        In order each process adds a piece of all vectors, so that as much is sent as by an all_reduce of their sum.
        """
        if not self.exact:
            dist.all_reduce(given[0])
            return given[0]
        k, m = len(given), len(given[0])
        width = -(-m // self.size)
        rows = given[0].new_zeros(k, self.size * width)
        for row, vector in zip(rows, given, strict=True):
            row[: len(vector)] = vector
        sent = rows.view(k, self.size, width).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        total = rows.new_empty(self.size * width)
        dist.all_to_all_single(received, sent)
        mine = added(received.view(self.size * k, width))
        dist.all_gather([*total.chunk(self.size)], mine)
        return total[:m]


class SharedSum:
    """Adds vectors (m,), k of each process, in the order of their ranks, in memory.

    Of two places each sum takes the other one than the sum before, so that the processes wait for each other once: who has
    come to the next sum has read the last one but one.

    memory: (2, size k, m + w), seen by all processes: two places for their vectors, and for the words of each process behind
        its first one.
    words: number of words, w.
    rank, size: of this process, and how many there are.
    """

    def __init__(self, memory: Tensor, words: int, rank: int, size: int) -> None:
        self.places, self.words, self.count = memory, words, memory.shape[1] // size
        self.first = self.count * rank
        self.total, self.sums = torch.empty_like(memory[0, 0]), 0

    def fits(self, vectors: list[Tensor], words: Tensor) -> bool:
        """Whether it is for as many and as long ones."""
        long = len(vectors[0]) + len(words) == self.places.shape[2]
        return self.count == len(vectors) and self.words == len(words) and long

    def __call__(self, vectors: list[Tensor], words: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of all, and that of their words; both last until the next call."""
        rows, m = self.places[self.sums % 2], len(vectors[0])
        self.sums += 1
        for row, vector in zip(rows[self.first :], vectors, strict=False):
            row[:m] = vector
        rows[self.first, m:] = words
        dist.barrier()
        total = added([torch.add(rows[0], rows[1], out=self.total), *rows[2:]])
        return total[:m], total[m:]


def shared_sum(vectors: list[Tensor], words: Tensor, rank: int, size: int) -> SharedSum | None:
    """For vectors and words of this number and length; None where the processes have no memory in common. All of them must
    call it."""
    shape = (2, size * len(vectors), len(vectors[0]) + len(words))
    count = math.prod(shape)
    path = [_reserved(count * vectors[0].element_size()) if rank == 0 else None]
    dist.broadcast_object_list(path)
    try:
        memory = (
            None
            if path[0] is None
            else torch.from_file(path[0], shared=True, size=count, dtype=vectors[0].dtype)
        )
    except (OSError, RuntimeError):
        # another host, or another container
        memory = None
    found = torch.tensor([memory is not None], dtype=torch.int32)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    if rank == 0 and path[0] is not None:
        # it lasts as long as somebody uses it
        os.unlink(path[0])
    return SharedSum(memory.view(shape), len(words), rank, size) if memory is not None and found else None


def _reserved(size: int) -> str | None:
    """A new file of so many bytes; None where there is no room, or where a file in use cannot be removed."""
    if not hasattr(os, "posix_fallocate"):
        return None
    number, path = tempfile.mkstemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
    try:
        # written to without room, the memory would end the process
        os.posix_fallocate(number, 0, size)
    except OSError:
        os.unlink(path)
        return None
    finally:
        os.close(number)
    return path
