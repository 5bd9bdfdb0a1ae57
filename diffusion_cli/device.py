"""Where a network runs, in which precision, and with which other processes; what becomes of freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.network import Network
from diffusion_cli.runs.contribution import Contribution, Say, added
from diffusion_cli.runs.processes import member

log = logging.getLogger(__name__)
Result = TypeVar("Result")
# Parameters of a network from which on a GPU is quicker in bfloat16. A step of a smaller one is as long as its kernels take to be
# started, and there are more of them.
LARGE = 5_000_000
# What torch takes by itself; and whether somebody has said how many threads it is to take.
_DEFAULT = torch.get_num_threads()
_chosen = False


def device_of(device: str, shape: Sequence[int]) -> torch.device:
    """The device of this name; auto: a GPU where there is one and it pays. ArgumentError for one that is not here.

    On points it does not: a step is two hundred kernels of some microseconds, and to start each takes a GPU longer than a
    CPU needs for its work. Of several processes on a machine each takes a GPU of its own.

    shape: of one sample.
    """
    usable = ["cpu"]
    if torch.cuda.is_available():
        usable = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]
    elif torch.backends.mps.is_available():
        usable = ["mps", "cpu"]
    chosen = device if device != "auto" else "cpu" if len(shape) == 1 else usable[0]
    if chosen not in usable:
        raise ArgumentError("device", device, "there is none here", ("auto", *usable))
    if chosen == "cuda" and member().size > 1:
        # Where the cluster shows a process one GPU alone, that is number 0.
        local, count = member().local, torch.cuda.device_count()
        if 1 < count <= local:
            raise ArgumentError("device", device, f"process {local} of this machine finds {count} GPUs")
        chosen = f"cuda:{local if count > 1 else 0}"
    return torch.device(chosen)


class ProcessGroup(Protocol):
    """The processes that work on one command together, as one of them sees it.

    rank: its number; process 0 owns the directory and the output, and has the others do their part.
    size: how many there are.
    """

    rank: int
    size: int

    def own(self, parts: int) -> range:
        """Which of so many parts are this process's; `parts` is a multiple of `size`."""
        ...

    def add_up(self, contributions: Iterable[Contribution], total: Tensor) -> Tensor:
        """Writes the sum of the gradients of all parts into `total` (n,) and returns that of the losses (s,), given the
        contributions of its own parts. They are added in the order of the parts: the same bits for any number of processes."""
        ...

    def agree(self, say: Say) -> tuple[int | None, bool]:
        """A signal that one of the processes has had, and whether process 0 wants the others to wait for its orders.

        say: what this process has to say of it. Of several, each is asked at its next sum, and this is what all have said at
            the last one.
        """
        ...

    def call(self, order: Callable[..., Result], own: Callable[[], Result]) -> list[Result]:
        """own(), and what order(components) comes to in each other process. For process 0, while the others wait for orders."""
        ...

    def release(self) -> None:
        """The others wait no longer."""
        ...

    def equalize(self, tensors: Iterable[Tensor]) -> None:
        """Sets these to what they are in process 0."""
        ...


class Alone:
    """The group of one process, which costs nothing."""

    rank, size = 0, 1

    def own(self, parts: int) -> range:
        return range(parts)

    def add_up(self, contributions: Iterable[Contribution], total: Tensor) -> Tensor:
        whole = added(one.written() for one in contributions)
        total.copy_(whole[: len(total)])
        return whole[len(total) :]

    def agree(self, say: Say) -> tuple[int | None, bool]:
        return say()

    def call(self, order: Callable[..., Result], own: Callable[[], Result]) -> list[Result]:
        return [own()]

    def release(self) -> None: ...
    def equalize(self, tensors: Iterable[Tensor]) -> None: ...


ALONE = Alone()


def precision_of(precision: str, device: torch.device, net: Network) -> torch.dtype:
    """The type in which a network runs on a device.

    precision: fp32, bf16, or auto: bf16 where that is quicker, always the same on a machine: on a GPU or a CPU that
        multiplies in it, for networks that say `bf16_pays`, and on a GPU are large (small ones lose by it).
    """
    if precision == "auto":
        if device.type == "cuda":
            large = sum(p.numel() for p in net.parameters()) >= LARGE
            pays = large and torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            pays = device.type == "cpu" and cpu_multiplies_bf16()
        precision = "bf16" if pays and net.bf16_pays else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has instructions for products in bf16 (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def choose_threads(threads: int | None) -> None:
    """Has torch run with so many threads from here on; None: with as many as it has."""
    global _chosen
    _chosen = True
    if threads:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """Afterwards torch has the threads that it had before."""
    global _chosen
    before = torch.get_num_threads(), _chosen
    try:
        yield
    finally:
        _chosen = before[1]
        torch.set_num_threads(before[0])


def limit_threads(shape: Sequence[int], device: torch.device | str) -> None:
    """Has torch run with one thread where it works on points on a CPU and nobody has chosen: several wait for each other
    longer than they compute, on a busy machine ten times as long.

    Chosen have the environment variable OMP_NUM_THREADS, `torch.set_num_threads` since this package was imported, and
    `choose_threads`.

    shape: of one sample. Images are left alone: more threads pay there.
    """
    given = _chosen or torch.get_num_threads() != _DEFAULT or "OMP_NUM_THREADS" in os.environ
    if _DEFAULT > 1 and not given and len(shape) < 3 and torch.device(device).type == "cpu":
        choose_threads(1)
        log.warning("torch runs with 1 of %d threads from here on, which is quicker for points; after this, "
                    "torch.set_num_threads(N) changes it, before it OMP_NUM_THREADS=N", _DEFAULT)  # fmt: skip


# Parameters of mallopt, <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Has this process keep the memory that it frees, for its next step.

    By itself glibc hands large tensors back to the system, which clears every page that is then asked for anew: a fifth
    of a step on images. Other C libraries have no mallopt, and are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        # The libraries of this process: none is loaded.
        mallopt = ctypes.pythonapi.mallopt
        mallopt(M_MMAP_THRESHOLD, 2**28)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def repeat_convolutions() -> None:
    """Has the convolutions of a GPU give the same bits each time: by itself cuDNN takes ways that add in any order."""
    torch.backends.cudnn.deterministic = True


def free_memory() -> int:
    """Bytes of main memory that a process may still take; where the system does not tell, more than any machine has."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 2**60
