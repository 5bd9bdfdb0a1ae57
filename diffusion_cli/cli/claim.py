"""Claiming an output directory for one run alone, and giving it back when there was no run after all."""

from __future__ import annotations

import os
from pathlib import Path

from diffusion_cli.errors import UserError

# What Hydra writes into a directory before a job begins, beside the job's log; and what a trainer's lock leaves.
HYDRAS_FILES = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "multirun.yaml")
LOCKS = (".lock", ".owner", ".sweep")

_made: list[Path] = []  # the directories that this process created, each after its parent
_found: dict[
    Path, dict[str, bytes | None]
] = {}  # claimed ones that existed: top-level names, content of Hydra's files


def claim(key: str, directory: str, exclusive: bool) -> str:
    """Create `directory` and its parents; where `exclusive`, one that nobody else has: `-1`, `-2`, ... is appended
    until `mkdir` creates it, which only one of any number of processes can do. Returns the directory's name.

    Raises `UserError` for `key` where it cannot be made or written to.
    """
    path, number = Path(directory), 0
    try:
        while True:
            candidate = path.with_name(f"{path.name}-{number}") if number else path
            _make(candidate.absolute().parent)
            try:
                os.mkdir(candidate)
            except FileNotFoundError:
                if candidate.absolute().parent.is_dir():
                    raise  # a file system that lets nothing be made, such as /proc
                continue  # another process has just given back our parent, which it had made
            except FileExistsError:
                if exclusive:
                    number += 1
                    continue
                _take(candidate)
            else:
                _made.append(candidate.absolute())
            return str(candidate) if number else directory
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(key, directory, getattr(error, "strerror", None) or str(error)) from error


def keep() -> None:
    """The run was one: what it left stays."""
    _made.clear()
    _found.clear()


def leave_to_its_owner() -> None:
    """Another process works in the directory: what Hydra has written over is put back, and nothing else is touched,
    whoever made it first (to remove its lock would let a third one in)."""
    for directory, before in _found.items():
        for name in HYDRAS_FILES:
            if before.get(name) is not None:
                (directory / name).write_bytes(before[name])
    keep()


def give_back() -> None:
    """Undo `claim`: remove the directories that this process made, and Hydra's files and the log from those that it
    found, as they were. A directory into which anything else has been written stays as it is."""
    for directory, before in _found.items():
        now = set(os.listdir(directory)) - before.keys()
        if all(map(_is_hydras, now)):
            for name in now:
                if name.endswith(".log") or name in LOCKS:
                    (directory / name).unlink()
            for name in HYDRAS_FILES:
                _restore(directory / name, before.get(name))
    for directory in reversed(_made):
        names = os.listdir(directory)
        if not all(map(_is_hydras, names)):
            break
        for name in (*HYDRAS_FILES, *LOCKS, *(name for name in names if name.endswith(".log"))):
            _restore(directory / name, None)
        try:
            directory.rmdir()
        except OSError:
            break
    keep()


def _make(directory: Path) -> None:
    if not directory.is_dir():
        _make(directory.parent)
        try:
            os.mkdir(directory)
        except FileExistsError:
            if not directory.is_dir():
                raise NotADirectoryError(20, f"{directory.name} is not a directory") from None
        else:
            _made.append(directory)


def _take(directory: Path) -> None:
    if not directory.is_dir():
        raise NotADirectoryError(20, "not a directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied")
    _refuse_links(directory)
    before: dict[str, bytes | None] = dict.fromkeys(os.listdir(directory))
    for name in HYDRAS_FILES:
        if (directory / name).is_file():
            before[name] = (directory / name).read_bytes()
    _found[directory.absolute()] = before


def _refuse_links(directory: Path) -> None:
    """What is written into by name must not lead elsewhere (train.log -> ~/.profile in a stranger's run), nor be a
    pipe, which would be waited for. A symbolic link to the directory itself is its owner's own."""
    for folder in (directory, directory / ".hydra"):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.is_symlink():
                raise OSError(40, f"{entry.name} in it is a symbolic link, which is not written through")
            if not entry.is_file() and not entry.is_dir():
                raise OSError(22, f"{entry.name} in it is neither a file nor a directory")


def _is_hydras(name: str) -> bool:
    return name in (".hydra", "multirun.yaml", *LOCKS) or name.endswith(".log")


def _restore(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)
        return
    path.unlink(missing_ok=True)
    if path.parent.name == ".hydra" and path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
