"""Command lines in forked children: what a process would do, without the seconds that importing torch takes."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LOADED = (
    "diffusion_cli.__main__",
    "diffusion_cli.cli.entries.train",
    "diffusion_cli.cli.callback",
    "diffusion_cli.cli.messages",
    "diffusion_cli.commands.train",
    "diffusion_cli.components",
    "diffusion_cli.trainer",
    "diffusion_cli.runs.restore",
    "diffusion_cli.figures.draw",
    "diffusion_cli.figures.recipes.samples",
    "diffusion_cli.model.mlp",
    "diffusion_cli.optimizer",
    "diffusion_cli.dataset.plane",
    "diffusion_cli.dataset.description",
    "importlib.readers",
    "hydra.core.override_parser.overrides_parser",
    "hydra._internal.defaults_list",
    "hydra._internal.core_plugins.basic_launcher",
    "hydra._internal.core_plugins.basic_sweeper",
    "matplotlib.backends.backend_agg",
    "diffusion_cli.metrics.evaluation",
    "diffusion_cli.metrics.mixture",
    "diffusion_cli.dataset.stars",
    "diffusion_cli.runs.logger",
    "hydra._internal.core_plugins.file_config_source",
    "hydra._internal.logging_config",
)
HANG = -999  # the code of a child that did not end in time
_numbers = itertools.count()


class End(NamedTuple):
    """How a child ended: its exit code, or -n for signal n, or HANG; what it printed; and how long it took."""

    code: int
    out: str
    err: str
    seconds: float


class Child:
    """`diffusion LINE` in a forked child, in the folder `cwd`, with its output in files beside it.

    before() is called in the child first. memory: bytes of address space that it may take beyond what the parent has.
    """

    def __init__(
        self, line: list[str], cwd: Path, before: Callable[[], None] | None = None, memory: int | None = None
    ):
        load()
        number = next(_numbers)
        self.files = [cwd.parent / f".{cwd.name}.{number}.{name}" for name in ("out", "err")]
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(line, cwd, before, memory)

    def _run(self, line: list[str], cwd: Path, before: Callable[[], None] | None, memory: int | None) -> None:
        code = 70
        try:
            for number, file in enumerate(self.files, start=1):
                os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdout = os.fdopen(1, "w")
            sys.stderr = os.fdopen(2, "w")
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            logging.getLogger().handlers.clear()
            os.chdir(cwd)
            if memory is not None:
                now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
            if before is not None:
                before()
            from diffusion_cli.__main__ import main

            code = main(line)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def over(self) -> bool:
        """Whether it has ended; it can still be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, seconds: float = 120.0) -> End:
        deadline, hung = time.monotonic() + seconds, False
        while not self.over():
            if time.monotonic() > deadline and not hung:
                hung = True
                self.kill()
            time.sleep(0.003)
        _, status = os.waitpid(self.pid, 0)
        out, err = (file.read_text(errors="replace") for file in self.files)
        for file in self.files:
            file.unlink()
        code = HANG if hung else os.waitstatus_to_exitcode(status)
        return End(code, out, err, time.monotonic() - self.started)


def load() -> None:
    """Imports in the parent what every command needs, once."""
    import torch

    torch.set_num_threads(1)
    for name in LOADED:
        importlib.import_module(name)
