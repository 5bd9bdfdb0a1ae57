"""Sums over the processes of one host, in memory that all of them see: quicker than its own network."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

# Where a file lies in memory, if the system has such a place.
IN_MEMORY = Path("/dev/shm")


class SharedSum:
    """Adds vectors (m,) float32, k of each process, in the order of their ranks.

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
        piece = self.total[self.piece].copy_(first)
        for other in others:
            piece += other
        dist.barrier()
        return self.total


def shared_sum(vectors: list[Tensor], rank: int, size: int) -> SharedSum | None:
    """For vectors of this number and length; None where the processes have no memory in common. All of them must call it."""
    shape = (size * len(vectors) + 1, len(vectors[0]))
    count = shape[0] * shape[1]
    path = [_reserved(count * vectors[0].element_size()) if rank == 0 else None]
    dist.broadcast_object_list(path)
    try:
        memory = None if path[0] is None else torch.from_file(path[0], shared=True, size=count)
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
