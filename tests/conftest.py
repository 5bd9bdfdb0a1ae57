"""What holds for every test: few threads, no display, none of the developer's own settings."""

from __future__ import annotations

import os

# Set before anything imports torch, and inherited by the commands that tests start. One thread: tests compare
# bits; and on tensors this small more threads are slower, and disturb whatever else runs on the machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for name in ("DIFFUSION_CLI_TRUST", "HYDRA_FULL_ERROR"):
    os.environ.pop(name, None)
