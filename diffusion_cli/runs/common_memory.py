"""Sums in memory that the processes of one host have in common."""

from __future__ import annotations

import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from diffusion_cli.runs.contribution import Contribution, added

# Where a file lies in memory, if the system has such a place.
IN_MEMORY = Path("/dev/shm")
# Whether processors see what another one writes in the order in which it writes it; elsewhere memory alone cannot say that all
# are there.
IN_ORDER = platform.machine().lower() in ("x86_64", "amd64")
# Bytes by which processes tell that a file is the same one.
MARK = 16
# Sums are counted up to this, so that float32 holds the number.
TURNS = 2**20
# Seconds in which a process waits for the others without rest; after that its rest between looks, and how often it looks whether
# they are alive.
BUSY, REST, ALIVE = 0.005, 0.0005, 0.1
# Why the others will not come, or None.
Watch = Callable[[], str | None]


class SharedSum:
    """Adds vectors (m,), k of each process, in the order of their ranks, in memory.

    Of two places each sum takes the other one than the sum before, so that the processes wait for each other once: who has
    come to the next sum has read the last one but one.

    memory: (2, size k, m + w + 1), seen by all processes, 0: two places for their vectors, and behind the first one of each
        process for its words, and for the number of sums that it has come to.
    words: number of words, w.
    rank, size, watch: as of `Sums`.
    pids: of the processes; empty where it cannot be read whether they are running.
    """

    def __init__(
        self,
        memory: Tensor,
        words: int,
        rank: int,
        size: int,
        watch: Watch,
        pids: Sequence[int] = (),
    ) -> None:
        self.places, self.words, self.count = memory[..., :-1], words, memory.shape[1] // size
        self.mine = slice(self.count * rank, self.count * (rank + 1))
        self.rank, self.watch, self.pids = rank, watch, pids
        self.arrived = memory[0, :: self.count, -1].numpy()
        self.sums = 0

    @property
    def rows(self) -> list[Tensor]:
        """Where the vectors of this process belong in the next sum."""
        return [row[: self.places.shape[2] - self.words] for row in self.places[self.sums % 2, self.mine]]

    def filled(self, contributions: Iterable[Contribution]) -> list[Tensor]:
        """The vectors of these contributions, in their places where they fit them."""
        found, contributions = [], iter(contributions)
        for row, contribution in zip(self.rows, islice(contributions, self.count), strict=False):
            long = len(contribution.gradient) + len(contribution.losses) == len(row)
            found.append(contribution.written(row if long else None))
        return [*found, *(contribution.written() for contribution in contributions)]

    def fits(self, vectors: Sequence[Tensor], words: Tensor) -> bool:
        """Whether it is for as many and as long ones."""
        long = len(vectors[0]) + len(words) == self.places.shape[2]
        return self.count == len(vectors) and self.words == len(words) and long

    def __call__(self, vectors: Sequence[Tensor], words: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Sums`."""
        for row, vector in zip(self.rows, vectors, strict=True):
            if row.data_ptr() != vector.data_ptr():
                row[: len(vector)] = vector
        place, n, m = self.places[self.sums % 2], len(total), len(vectors[0])
        self.sums += 1
        place[self.mine.start, m:] = words
        self._meet()
        added(place[:, :n], total)
        rest = added(place[:, n:], torch.empty_like(place[0, n:]))
        return rest[: m - n], rest[m - n :]

    def _meet(self) -> None:
        """Waits until all have come to this sum; some may have come to the next. RuntimeError where one of them has ended.

        dist.barrier takes up to 3 ms: it wakes a thread of gloo, which has to wait for its turn on a core that is busy.
        """
        if not IN_ORDER:
            dist.barrier()
            return
        self.arrived[self.rank] = self.sums % TURNS
        begun = looked = time.monotonic()
        while self._missing():
            now = time.monotonic()
            if now - begun < BUSY:
                # another process may want this core
                os.sched_yield()
                continue
            if now - looked > ALIVE:
                looked, gone = now, self._gone()
                # one that ended after it had come is no loss
                if gone and self._missing():
                    raise RuntimeError(gone)
            time.sleep(REST)

    def _missing(self) -> bool:
        """Whether somebody has not come to this sum yet."""
        return bool(((self.arrived - self.sums) % TURNS > 1).any())

    def _gone(self) -> str | None:
        """Why the others will not come, or None."""
        return self.watch() or next((f"process {pid} has ended" for pid in self.pids if not lives(pid)), None)


def shared_sum(
    vectors: Sequence[Tensor], words: Tensor, rank: int, size: int, watch: Watch
) -> SharedSum | None:
    """For vectors and words of this number and length; None where the processes have no memory in common. All of them must
    call it."""
    shape = (2, size * len(vectors), len(vectors[0]) + len(words) + 1)
    count = math.prod(shape)
    place = [_reserved(count * vectors[0].element_size()) if rank == 0 else None]
    dist.broadcast_object_list(place)
    memory = None if place[0] is None else memory_of_file(*place[0], count, vectors[0].dtype)
    found = torch.tensor([memory is not None], dtype=torch.int32)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    if rank == 0 and place[0] is not None:
        # it lasts as long as somebody uses it
        os.unlink(place[0][0])
    if memory is None or not found:
        return None
    if rank == 0:
        memory.view(torch.uint8)[:MARK].zero_()
    everybody = [(0, "")] * size
    dist.all_gather_object(everybody, (os.getpid(), namespace()))
    pids, places = zip(*everybody, strict=True)
    return SharedSum(memory.view(shape), len(words), rank, size, watch, pids if len({*places}) == 1 else ())


def namespace() -> str:
    """Where the numbers of processes mean the same ones, by Linux's own word for it; else the number of this process."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return str(os.getpid())


def lives(pid: int) -> bool:
    """Whether a process of this namespace is there, and has not ended."""
    try:
        # the name of the program, in brackets, may hold anything
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def memory_of_file(path: str, mark: bytes, count: int, dtype: torch.dtype) -> Tensor | None:
    """The memory (count,) of the file that begins with this mark; None where there is none, as on another host: torch would
    make a new one there."""
    try:
        with open(path, "rb") as file:
            if file.read(len(mark)) != mark:
                return None
        return torch.from_file(path, shared=True, size=count, dtype=dtype)
    except (OSError, RuntimeError):
        return None


def _reserved(size: int) -> tuple[str, bytes] | None:
    """A new file of so many bytes, and the mark with which it begins, zeros after that; None where there is no room, or where a
    file in use cannot be removed."""
    if not hasattr(os, "posix_fallocate"):
        return None
    number, path = tempfile.mkstemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
    try:
        # written to without room, the memory would end the process
        os.posix_fallocate(number, 0, max(size, MARK))
        mark = os.urandom(MARK)
        os.write(number, mark)
    except OSError:
        os.unlink(path)
        return None
    finally:
        os.close(number)
    return path, mark
