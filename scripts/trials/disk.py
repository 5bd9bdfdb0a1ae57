"""A disk that fails at a chosen write: what the process writes below a folder is counted, and at the nth time it dies, or
the disk is full from then on.

Every way by which Python code writes is replaced: open(), and of `os` what makes, renames, removes and flushes. A file that is
written to is cut in the middle of that piece.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What only a full disk refuses; a rename, a removal and a flush need no space.
TAKES_SPACE = {"open", "write", "mkdir"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_open = io.open


class Disk:
    """failing: the number of the write that fails, from 0; None: none. how: kill or full. report: a file to which each write
    is added, as a line."""

    def __init__(self, folder: Path, failing: int | None, how: str, report: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.failing, self.how, self.report = failing, how, report
        self.count = itertools.count()
        self.full = False

    def holds(self, path: Any) -> bool:
        return not isinstance(path, int) and os.path.realpath(os.fsdecode(path)).startswith(
            self.folder + os.sep
        )

    def at(self, kind: str, path: Any, half: Callable[[], object] = lambda: None) -> None:
        """A write is about to happen. half: does half of it."""
        number = next(self.count)
        log = os.open(self.report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _write(log, f"{kind} {os.fsdecode(path)}\n".encode())
        os.close(log)
        if number == self.failing and self.how == "kill":
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        self.full = self.full or (number == self.failing and self.how == "full")
        if self.full and kind in TAKES_SPACE:
            half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))

    def install(self) -> None:
        """Until the process ends."""
        builtins.open = io.open = self.open  # type: ignore[assignment]
        for name in ("replace", "rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, self.counted(name, getattr(os, name)))
        os.remove = os.unlink
        os.open = self.os_open

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(path: Any, *more: Any, **options: Any) -> Any:
            # a folder that is there is not made
            if self.holds(path) and not (name == "mkdir" and os.path.isdir(path)):
                self.at(name, path)
            return call(path, *more, **options)

        return counting

    def os_open(self, path: Any, flags: int, *more: Any, **options: Any) -> int:
        # what exists takes no more space by being opened
        if flags & os.O_CREAT and self.holds(path) and not os.path.exists(path):
            self.at("open", path)
        return _os_open(path, flags, *more, **options)

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        """io.open, whose file writes through this disk."""
        if set(mode) <= set("rbt") or not self.holds(file):
            return _open(file, mode, buffering, *more, **options)
        binary = mode.replace("b", "").replace("t", "")
        if "x" in mode or "w" in mode or not os.path.exists(file):
            self.at("open", file)
        raw = Raw(self, file, binary)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        given = dict(zip(("encoding", "errors", "newline"), more, strict=False)) | options
        text = io.TextIOWrapper(
            buffered, **{key: given.get(key) for key in ("encoding", "errors", "newline")}
        )
        text.mode = mode  # type: ignore[misc]
        return text


class Raw(io.FileIO):
    """A file whose writes are counted."""

    def __init__(self, disk: Disk, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self.disk = disk

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.disk.at("write", self.name, lambda: super(Raw, self).write(view[: len(view) // 2]))
        return super().write(view)


_os_open, _write = os.open, os.write
