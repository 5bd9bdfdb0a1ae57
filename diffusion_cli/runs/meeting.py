"""How several processes meet for one command, and leave.

Process 0 is the one that was called, or rank 0 of torchrun or srun. It alone reads the command line, owns the directory and
writes; the others get the configuration from it, do their part of each step and of all sampling, and are silent.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

from torch import distributed as dist

from diffusion_cli.errors import Interrupted, RunFailed, UserError
from diffusion_cli.ranges import Config
from diffusion_cli.runs.group import COMING, LONGEST, LOOK, Gone, Processes, disconnect
from diffusion_cli.runs.processes import Others, meeting_place, member, size_of
from diffusion_cli.runs.signals import Stop

_begun = False  # whether this process has had its group


@contextlib.contextmanager
def together(config: Config, stop: Stop) -> Iterator[Processes | None]:
    """Process 0's group, for a `with` block in which it must `begin`; None where there are no other processes.

    The others leave when the block does, with the exit code that its error means.
    """
    global _begun
    size = size_of(config)
    if size == 1:
        yield None
        return
    _begun = True
    group = _started(size, stop) if member().size == 1 else _joined(stop)
    code = 1
    try:
        yield group
        code = 0
    except Interrupted as error:
        code = 128 + error.signum
        raise
    except UserError:
        code = 2
        raise
    finally:
        group.end(code)


def dismiss(code: int) -> None:
    """The other processes that torchrun or srun has started leave, where there was nothing for them to do."""
    if not _begun:
        _joined(Stop()).end(code)


def _started(size: int, stop: Stop) -> Processes:
    """A group with processes that are started here; they talk by the loopback device."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=LONGEST)
    return Processes(_of_attempt(store), 0, size, stop, Others(size, store.port))


def _joined(stop: Stop) -> Processes:
    """This process in the group of torchrun, srun or process 0."""
    place, here = meeting_place(), member()
    # torchrun keeps the store itself
    keeps = here.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    host, port = place["MASTER_ADDR"], int(place["MASTER_PORT"])
    try:
        store = dist.TCPStore(host, port, is_master=keeps, wait_for_workers=False, timeout=COMING)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise RunFailed(f"the processes cannot meet at {host}:{port}: {reason}") from error
    store.set_timeout(LONGEST)
    return Processes(_of_attempt(store), here.rank, here.size, stop)


def _of_attempt(store: dist.Store) -> dist.Store:
    """The part of a store for this attempt: torchrun keeps one store for all of them."""
    return dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)


def take_part(work: Callable[[Processes, Config, bool], None]) -> int:
    """Any process but 0, from its start to its end; returns the exit code.

    work(group, config, trains): does the task; it calls `ready` first.
    """
    with Stop() as stop:
        group, wait = _joined(stop), LONGEST
        try:
            config, trains = group.task()
            if config:
                work(group, config, trains)
        except BaseException as error:
            if not isinstance(error, Gone):
                known = isinstance(error, (UserError, RunFailed))
                group.fail(str(error) if known else f"{type(error).__name__}: {error}")
            # process 0 gives the code before it cuts the others off; what it has not given is that of a failure
            wait = timedelta(seconds=LOOK)
        # an error holds on to connections, on whose end others may be waiting
        gc.collect()
        if wait < LONGEST:
            disconnect()
        return group.code(wait)
