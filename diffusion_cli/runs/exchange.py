"""Sums of the vectors of several processes: in memory that those of one host share, which is quicker than its own network, or
over a network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

# Where a file lies in memory, if the system has such a place.
IN_MEMORY = Path("/dev/shm")


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

    def __call__(self, given: list[Tensor]) -> Tensor:
        """The sum of what `sent` gives in all processes; it lasts until the next call."""
        if not self.exact:
            dist.all_reduce(given[0])
            return given[0]
        if self.shared and given[0].device.type == "cpu":
            if self._memory is None or not self._memory.fits(given):
                self._memory = shared_sum(given, self.rank, self.size)
                self.shared = self._memory is not None
            if self._memory is not None:
                return self._memory(given)
        return self._over_network(given)

    def _over_network(self, given: list[Tensor]) -> Tensor:
        """Each process adds a piece of all vectors, so that as much is sent as by an all_reduce of their sum."""
        # no copy of a single one
        rows = torch.stack(given) if len(given) > 1 else given[0][None]
        k, m = rows.shape
        width = -(-m // self.size)
        missing = self.size * width - m
        padded = torch.nn.functional.pad(rows, (0, missing)) if missing else rows
        sent = padded.view(k, self.size, width).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        total = rows.new_empty(self.size * width)
        dist.all_to_all_single(received, sent)
        mine = added(received.view(self.size * k, width))
        dist.all_gather([*total.chunk(self.size)], mine)
        return total[:m]


class SharedSum:
    """Adds vectors (m,), k of each process, in the order of their ranks, in memory.

    memory: (size k + 1, m), seen by all processes: their vectors, and the sum.
    rank, size: of this process, and how many there are.
    """

    def __init__(self, memory: Tensor, rank: int, size: int) -> None:
        self.rows, self.total = memory[:-1], memory[-1]
        self.mine = self.rows[len(self.rows) // size * rank :][: len(self.rows) // size]
        width = -(-len(self.total) // size)
        self.piece = slice(rank * width, (rank + 1) * width)

    def fits(self, vectors: list[Tensor]) -> bool:
        """Whether it is for as many and as long ones."""
        return self.mine.shape == (len(vectors), len(vectors[0]))

    def __call__(self, vectors: list[Tensor]) -> Tensor:
        """The sum, which lasts until the next call. Each process adds a piece of all vectors."""
        for mine, vector in zip(self.mine, vectors, strict=True):
            mine.copy_(vector)
        dist.barrier()
        first, *others = self.rows[:, self.piece]
        added([self.total[self.piece].copy_(first), *others])
        dist.barrier()
        return self.total


def shared_sum(vectors: list[Tensor], rank: int, size: int) -> SharedSum | None:
    """For vectors of this number and length; None where the processes have no memory in common. All of them must call it."""
    shape = (size * len(vectors) + 1, len(vectors[0]))
    count = shape[0] * shape[1]
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
    return SharedSum(memory.view(shape), rank, size) if memory is not None and found else None


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
