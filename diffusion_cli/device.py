"""Where a network runs, and in which precision; what becomes of the memory that it no longer needs."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.network import Network

log = logging.getLogger(__name__)
# What torch takes by itself; and whether somebody has said how many threads it is to take.
_DEFAULT = torch.get_num_threads()
_chosen = False


def device_of(device: str) -> torch.device:
    """The device of this name; auto: a GPU where there is one. ArgumentError for one that is not here."""
    usable = ["cpu"]
    if torch.cuda.is_available():
        usable = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]
    elif torch.backends.mps.is_available():
        usable = ["mps", "cpu"]
    if device == "auto":
        return torch.device(usable[0])
    if device not in usable:
        raise ArgumentError("device", device, "there is none here", ("auto", *usable))
    return torch.device(device)


def precision_of(precision: str, device: torch.device, net: Network) -> torch.dtype:
    """The type in which a network runs on a device.

    precision: fp32, bf16, or auto: bf16 where that is quicker, always the same on a machine: on a GPU that multiplies in
        it, and on a CPU that does so, for networks that say `bf16_pays` (small ones lose by it).
    """
    if precision == "auto":
        if device.type == "cuda":
            pays = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            pays = device.type == "cpu" and net.bf16_pays and cpu_multiplies_bf16()
        precision = "bf16" if pays else "fp32"
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


def free_memory() -> int:
    """Bytes of main memory that a process may still take; where the system does not tell, more than any machine has."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 2**60
