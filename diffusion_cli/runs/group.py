"""Several processes that work on one command: what they send each other, and how they end together.

What is said beside the work itself (the task, why a process failed, the exit code) lies in a store that process 0 or torchrun
keeps. How the processes meet stands in `meeting`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from diffusion_cli.errors import RunFailed, UserError
from diffusion_cli.ranges import Config
from diffusion_cli.runs.contribution import Contribution, Say
from diffusion_cli.runs.exchange import Sums
from diffusion_cli.runs.processes import Others
from diffusion_cli.runs.signals import Stop

# How long a process waits for the others: process 0 alone may draw and measure for long.
LONGEST = timedelta(hours=24)
# How long until all are there, with their data; and connected, once they are.
COMING, CONNECTING = timedelta(minutes=10), timedelta(minutes=2)
LOOK = 0.02  # seconds between looks whether the others are there
GRACE = 3.0  # seconds in which the reason of a failure comes to light
MOST_SIGNALS = 64
Result = TypeVar("Result")
TASK, DATA, READY, FAILED, CODE, LEFT = "task", "data", "ready", "failed", "code", "left"


class Processes:
    """One process among several; the `ProcessGroup` of diffusion_cli.device.

    store: where all of them read and write single words.
    others: those that this process has started, if it has.
    stop: the signals of this process.
    """

    def __init__(
        self, store: dist.Store, rank: int, size: int, stop: Stop, others: Others | None = None
    ) -> None:
        self.store, self.rank, self.size, self.stop, self.others = store, rank, size, stop, others
        self.sums = Sums(rank, size, watch=self._watch)
        # what this process says with its next sum, and what all have said with the last
        self.say: Say = lambda: (None, False)
        self.words = torch.zeros(1 + MOST_SIGNALS)

    # how they come together

    def begin(
        self, config: Config, device: torch.device, data: str | None = None, trains: bool = False
    ) -> None:
        """Process 0: hands the task out, a training or orders that come, and connects all.

        UserError for a device by which they cannot be connected, and for a GPU that two of them have; RunFailed where one of
        them does not come, or has other data than those of this fingerprint.
        """
        if device.type not in ("cpu", "cuda"):
            raise UserError("device", str(device), "several processes run on CPUs or on CUDA devices")
        self.store.set(DATA, str(data))
        self.store.set(TASK, json.dumps([config, trains]))
        until = time.monotonic() + COMING.total_seconds()
        with self._heard():
            while missing := [k for k in range(1, self.size) if not self.store.check([f"{READY}{k}"])]:
                self._look()
                if time.monotonic() > until:
                    which, minutes = ", ".join(map(str, missing)), COMING.total_seconds() / 60
                    raise RunFailed(f"waited {minutes:g} minutes for process {which} of {self.size}")
                time.sleep(LOOK)
                self.stop.check()
        found = {place_of(device): 0}
        for k in range(1, self.size):
            place = self.store.get(f"{READY}{k}").decode()
            if place and place in found:
                reason = f"processes {found[place]} and {k} have the same GPU, and each needs its own"
                raise UserError("device", config["device"], reason, ("cpu",))
            found[place] = k
        self.connect(config, device)

    def task(self) -> tuple[Config, bool]:
        """Another process: the configuration of what is to be done, {} where there is nothing; and whether it trains."""
        self.store.wait([TASK], LONGEST)
        config, trains = json.loads(self.store.get(TASK))
        return config, trains

    def ready(self, config: Config, device: torch.device, data: str | None = None) -> None:
        """Another process: it has all that the task needs, and data of this fingerprint."""
        if str(data) != self.store.get(DATA).decode():
            raise RunFailed("has other data than process 0")
        self.store.set(f"{READY}{self.rank}", place_of(device))
        self.connect(config, device)

    def connect(self, config: Config, device: torch.device) -> None:
        self.sums.exact = config.get("reduce") != "sum"
        backend = "gloo"
        if device.type == "cuda":
            # NCCL wants to know it from the start
            torch.cuda.set_device(device.index or 0)
            backend = "cpu:gloo,cuda:nccl"
        # torch counts groups that failed too, and the next of this process would not find the others'
        dist.distributed_c10d._world.group_count = 0
        with self._heard():
            dist.init_process_group(
                backend, store=self.store, rank=self.rank, world_size=self.size, timeout=CONNECTING
            )
        dist.distributed_c10d._set_pg_timeout(LONGEST)

    # the work

    def own(self, parts: int) -> range:
        return range(self.rank * parts // self.size, (self.rank + 1) * parts // self.size)

    def add_up(self, contributions: Iterable[Contribution], total: Tensor) -> Tensor:
        # they are made here, and an error in that is this process's own
        given = self.sums.sent(contributions)
        with self._heard():
            losses, self.words = self.sums(given, self._words(), total)
        return losses

    def agree(self, say: Say) -> tuple[int | None, bool]:
        # it rides on the next sum, so that the processes need not wait for each other once more
        self.say = say
        pause, *signals = self.words.tolist()
        self.words = torch.zeros(len(self.words))
        number = next((number for number, count in enumerate(signals, 1) if count), None)
        return number, bool(pause or number)

    def _words(self) -> Tensor:
        """What this process says, so that words can be added: whether it wants a pause, and the number of each signal."""
        signum, pause = self.say()
        words = torch.zeros(1 + MOST_SIGNALS)
        words[0] = pause
        if signum:
            words[signum] = 1
        return words

    def call(self, order: Callable[..., Result], own: Callable[[], Result]) -> list[Result]:
        self._shared(order)
        return self._gather(own())

    def release(self) -> None:
        self._shared(None)

    def serve(self, components: object) -> None:
        """Another process: does what process 0 orders, until it is released."""
        while (order := self._shared(None)) is not None:
            self._gather(order(components))

    def equalize(self, tensors: Iterable[Tensor]) -> None:
        with self._heard():
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def _shared(self, order: Callable[..., object] | None) -> Callable[..., object] | None:
        """The order of process 0, which all get from it."""
        box = [order]
        with self._heard():
            dist.broadcast_object_list(box, 0)
        return box[0]

    def _gather(self, result: Result) -> list[Result]:
        """The results of all, in process 0; signals of the others become its own."""
        found = [(self.stop.signum, result)] * self.size if self.rank == 0 else []
        with self._heard():
            dist.gather_object((self.stop.signum, result), found or None, 0)
        for signum, _ in found:
            self.stop.signum = self.stop.signum or signum
        return [result for _, result in found]

    # how they end

    def _look(self) -> None:
        """RunFailed where another process has said that it failed, or has ended without a word."""
        if self.store.check([FAILED]):
            raise RunFailed(self.store.get(FAILED).decode())
        if self.others is not None and (ended := self.others.ended()):
            raise RunFailed(ended)

    def _watch(self) -> str | None:
        """Why the others will not come to a sum, or None; process 0 raises RunFailed as soon as one has failed."""
        if self.rank == 0:
            self._look()
        elif self.store.check([CODE]):
            return "process 0 has ended"
        return None

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """Around what waits for the others: RunFailed, with the reason, where one of them is gone."""
        try:
            yield
        except RuntimeError as error:
            # torch.distributed's errors are such
            until = time.monotonic() + GRACE
            while time.monotonic() < until and self.rank == 0:
                self._look()
                time.sleep(LOOK)
            raise Gone("another process has ended without a word") from error

    def fail(self, reason: str) -> None:
        """Another process: the reason for which all end, unless one has given another before."""
        with contextlib.suppress(RuntimeError):
            self.store.compare_set(FAILED, "", f"process {self.rank}: {reason}")

    def end(self, code: int) -> None:
        """Process 0: all leave with this exit code."""
        with contextlib.suppress(RuntimeError):
            self.store.set(CODE, str(code))
            if not self.store.check([TASK]):
                self.store.set(TASK, json.dumps([{}, False]))
        disconnect()
        if self.others is not None:
            self.others.end()
            return
        # the store may end with this process
        until = time.monotonic() + GRACE
        with contextlib.suppress(RuntimeError):
            while time.monotonic() < until and self.store.add(LEFT, 0) < self.size - 1:
                time.sleep(LOOK)

    def code(self, wait: timedelta) -> int:
        """Another process: the exit code that process 0 gives; 1 where that has gone without one."""
        try:
            self.store.wait([CODE], wait)
            code = int(self.store.get(CODE))
            self.store.add(LEFT, 1)
        except RuntimeError:
            code = 1
        disconnect()
        return code


def place_of(device: torch.device) -> str:
    """Which GPU of which machine a device is; empty for a CPU."""
    if device.type != "cuda":
        return ""
    return f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}"


class Gone(RunFailed):
    """Another process has ended, and it is for process 0 to say why."""


def disconnect() -> None:
    """Leaves torch's own group."""
    if dist.is_initialized():
        # a peer that is gone cannot be waited for
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
