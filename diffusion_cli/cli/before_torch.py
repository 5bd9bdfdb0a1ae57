"""What the environment says before torch is loaded, which reads it once.

libgomp, which torch's wheels bring, has a thread that waits turn in a loop for milliseconds. Where another process wants
the core, the thread that all wait for does not get it, and a step takes 30 to 50 times as long. After a few microseconds
of turning the waiting thread had better sleep, which costs nothing on an idle machine.

And torch prints warnings for its own developers, such as one for each process where there is no network to name a host.
"""

from __future__ import annotations

from collections.abc import MutableMapping

# 1,000 turns are microseconds. Beside two busy processes 2,000 already take twice as long as one thread.
SPINS = "1000"


def set_before_torch(environment: MutableMapping[str, str]) -> None:
    """Limits the turns of a waiting thread, and what torch prints to errors, unless the user has said otherwise.

    environment: os.environ. Processes started later inherit it.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
