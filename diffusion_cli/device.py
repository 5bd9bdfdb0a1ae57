"""Where a network runs, and in which precision; what becomes of the memory that it no longer needs."""

from __future__ import annotations

import ctypes

import torch

from diffusion_cli.errors import UserError
from diffusion_cli.model.network import Network


def device_of(name: str) -> torch.device:
    """The device meant by device=NAME; auto takes a GPU where there is one."""
    usable = ["cpu"]
    if torch.cuda.is_available():
        usable = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]
    elif torch.backends.mps.is_available():
        usable = ["mps", "cpu"]
    if name == "auto":
        return torch.device(usable[0])
    if name not in usable:
        raise UserError("device", name, "there is none here", ("auto", *usable))
    return torch.device(name)


def precision_of(name: str, device: torch.device, net: Network) -> torch.dtype:
    """The type in which precision=NAME runs this network. auto: bf16 where that is quicker, always the same on a machine:
    on a GPU that multiplies in it, and on a CPU that does for networks that say `bf16_pays` (small ones lose by it)."""
    if name == "auto":
        if device.type == "cuda":
            pays = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
            pays = net.bf16_pays and (able.get("avx512_bf16") or able.get("amx_bf16"))
        name = "bf16" if pays else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt, <malloc.h>


def keep_freed_memory() -> None:
    """Has this process keep the memory that it frees, for its next step. By itself glibc hands large tensors back to the
    system, which clears every page that is then asked for anew: a fifth of a step on images. Other C libraries have no
    mallopt, and are left as they are."""
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)  # the libraries of this process: none is loaded
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**28)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
