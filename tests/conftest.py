"""What holds for every test: few threads, no display, none of the developer's own settings."""

from __future__ import annotations

import os

import pytest

# Set before anything imports torch, and inherited by the commands that tests start. One thread: tests compare
# bits; and on tensors this small more threads are slower, and disturb whatever else runs on the machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for name in ("DIFFUSION_CLI_TRUST", "DIFFUSION_CLI_DATA", "HYDRA_FULL_ERROR"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or fills the developer's cache."""
    os.environ["DIFFUSION_CLI_CACHE"] = str(tmp_path_factory.mktemp("cache"))
