"""Claiming an output directory for one run alone, and giving it back when there was no run after all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from diffusion_cli.errors import UserError
from diffusion_cli.runs import config
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.place import Place

# What is written into a directory before a job begins, beside its log; and what a trainer's lock leaves.
HYDRAS_FILES = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml")
OURS = ("multirun.yaml", config.FILE, ".lock", ".owner", ".held", ".sweep")

# the directories that this process created, each after its parent
_made: list[Path] = []
# those that existed: what was in them
_found: dict[Path, set[str]] = {}
_lock: Place | None = None


def claim_directory(key: str, directory: str, exclusive: bool) -> str:
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


def hold(directory: str) -> None:
    """Take a directory's lock for this process, from before anything is written there: of two that start in it at once,
    the second finds what the first has written, or raises TakenError."""
    global _lock
    _lock = RunDirectory(directory).lock()


def held() -> Place | None:
    return _lock


def keep() -> None:
    """The run was one: what it left stays."""
    global _lock
    if _lock is not None:
        _lock.release()
    _lock = None
    _made.clear()
    _found.clear()


def give_back() -> None:
    """Undo `claim`: remove the directories that this process made, and what a start writes from those that it found. A
    directory into which anything else has been written stays as it is."""
    for directory, before in _found.items():
        new = set(os.listdir(directory)) - before
        if all(map(_is_of_a_start, new)):
            _clear(directory, new)
    for made in reversed(_made):
        if not all(map(_is_of_a_start, os.listdir(made))):
            break
        _clear(made, os.listdir(made))
        try:
            made.rmdir()
        except OSError:
            break
    keep()


def _make(directory: Path) -> None:
    missing = [folder for folder in (*reversed(directory.parents), directory) if not folder.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(20, f"{directory.name} is not a directory") from None
    _made.extend(missing)


def _take(directory: Path) -> None:
    if not directory.is_dir():
        raise NotADirectoryError(20, "not a directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied")
    _refuse_links(directory)
    _found[directory.absolute()] = set(os.listdir(directory))


def _refuse_links(directory: Path) -> None:
    """What is written into by name must not lead elsewhere (train.log -> ~/.profile in a stranger's run), nor be a
    pipe, which would be waited for. A symbolic link to the directory itself is its owner's own."""
    for folder in (directory, directory / ".hydra"):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.is_symlink():
                raise OSError(40, f"{entry.name} in it is a symbolic link, which is not written through")
            if not entry.is_file() and not entry.is_dir():
                raise OSError(22, f"{entry.name} in it is neither a file nor a directory")


def _is_of_a_start(name: str) -> bool:
    return name in (".hydra", *OURS) or name.endswith(".log")


def _clear(directory: Path, names: Iterable[str]) -> None:
    """Remove these names, of what a start writes."""
    for name in names:
        if name == ".hydra":
            for file in HYDRAS_FILES:
                (directory / file).unlink(missing_ok=True)
            if not any((directory / name).iterdir()):
                (directory / name).rmdir()
        else:
            (directory / name).unlink()
