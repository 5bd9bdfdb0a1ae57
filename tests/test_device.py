"""The memory that a process keeps."""

import platform
import subprocess
import sys

import pytest

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
