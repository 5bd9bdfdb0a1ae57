"""Which device is taken, in which precision, and the memory that a process keeps."""

import platform
import subprocess
import sys

import pytest
import torch

from diffusion_cli.device import LARGE, device_of, precision_of
from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.network import Network

FAULTS = """
import resource, torch
from diffusion_cli.device import keep_freed_memory
keep_freed_memory()
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(2**24)  # 64 MB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(30)
print(faults(10))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc gives large pieces of memory back at once"
)
def test_memory_that_a_step_frees_is_there_for_the_next():
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    assert int(found.stdout) < 1000  # page faults of 4 kB in ten rounds: 160,000 where each takes new memory


class Large(Network):
    """So many parameters, none of which take memory."""

    bf16_pays = True

    def __init__(self, count):
        super().__init__((1, 28, 28))
        self.weight = torch.nn.Parameter(torch.empty(count, device="meta"))


@pytest.fixture
def gpu(monkeypatch):
    """As on a machine with one GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("auto", (1, 28, 28), "cuda"),
        ("auto", (256, 2), "cuda"),
        ("auto", (1,), "cpu"),
        ("auto", (2,), "cpu"),
        ("auto", (3,), "cpu"),
        ("cuda", (2,), "cuda"),
        ("cuda:0", (2,), "cuda:0"),
        ("cpu", (1, 28, 28), "cpu"),
    ],
)
def test_points_are_left_to_the_cpu_and_all_else_to_the_gpu(gpu, name, shape, expected):
    assert device_of(name, shape) == torch.device(expected)


def test_a_gpu_that_is_not_there_is_refused(gpu):
    with pytest.raises(
        ArgumentError,
        match=r"cuda:1: there is none here; did you mean cuda:0\? choose from auto, cuda, cuda:0, cpu",
    ):
        device_of("cuda:1", (2,))


@pytest.mark.parametrize(("parameters", "expected"), [(LARGE - 1, torch.float32), (LARGE, torch.bfloat16)])
def test_a_gpu_takes_bfloat16_for_large_networks(gpu, parameters, expected):
    net = Large(parameters)
    assert precision_of("auto", torch.device("cuda"), net) == expected
    assert precision_of("bf16", torch.device("cuda"), net) == torch.bfloat16
    net.bf16_pays = False
    assert precision_of("auto", torch.device("cuda"), net) == torch.float32
