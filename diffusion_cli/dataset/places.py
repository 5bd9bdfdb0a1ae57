"""Where the files of a dataset lie, and how those of a known dataset are fetched where they lie nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffusion_cli.dataset.cache import cache_dir
from diffusion_cli.dataset.download import Unreachable, fetch
from diffusion_cli.errors import ArgumentError

DATA = "DIFFUSION_CLI_DATA"  # environment variable: a folder of datasets


def user_file(path: str, suffixes: Sequence[str]) -> Path:
    """A user's own file; ArgumentError (path) where there is none, or one of another kind."""
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        raise ArgumentError("path", path, "no such file")
    if file.suffix.lower() not in suffixes:
        raise ArgumentError("path", path, "no file of this kind", suffixes)
    return file


def user_folder(root: str) -> Path:
    """A user's own folder; ArgumentError (root) where there is none."""
    folder = Path(os.path.expanduser(root))
    if not os.path.isdir(folder):
        raise ArgumentError("root", root, "no such folder")
    return folder


class Source(NamedTuple):
    """Where a known dataset comes from.

    title: its name for people.
    folders: the folders that it may lie in; the first is ours.
    mirrors: URLs that a file's name is appended to.
    """

    title: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]

    def find(self, names: Iterable[str], root: str | None, endings: Sequence[str] = ("",)) -> Path | None:
        """The first folder that holds all the files, each with one of the endings appended, or None.

        Looked through are `root`, or, where it is None, $DIFFUSION_CLI_DATA and the cache folder; in each first its
        sub-folders `folders`. Raises ArgumentError (root) when `root` is no folder.
        """
        names = tuple(names)
        for folder in self.looked_through(root):
            if all(any((folder / f"{name}{end}").is_file() for end in endings) for name in names):
                return folder
        return None

    def looked_through(self, root: str | None) -> Sequence[Path]:
        """The folders in which `find` looks, in its order."""
        if root is not None:
            places = [user_folder(root)]
        else:
            data = os.environ.get(DATA)
            places = [*([Path(data).expanduser()] if data else []), cache_dir()]
        return [folder for place in places for folder in (*(place / name for name in self.folders), place)]

    def fetch(
        self, names: Sequence[str], root: str | None, advice: str, check: Callable[[Path, str], object]
    ) -> Path:
        """The folder in the cache with the files, downloaded where they are not there yet.

        names: of the files.
        root: a folder that the user has given, in which they are not; None: none was given.
        advice: the files to get by hand, for the message.
        check: (file, name) -> anything; raises ArgumentError for a file that is not the right one.

        Raises ArgumentError (root), which says what to put where, when there is a `root` and when no mirror has them.
        """
        if root is not None:
            reason = f"{self.title} is not there; put {advice} into it, or into {self.folders[0]} there"
            raise ArgumentError("root", root, reason)
        target = cache_dir() / self.folders[0]
        try:
            for name in names:
                fetch(name, self.mirrors, target, check)
        except Unreachable as error:
            where = f"into a folder {self.folders[0]}, and name the folder above it by {DATA} or dataset.root"
            reason = f"{self.title} is not here and cannot be downloaded; put {advice} {where} ({error})"
            raise ArgumentError("root", root, reason) from error
        return target
