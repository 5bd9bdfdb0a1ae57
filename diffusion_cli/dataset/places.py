"""Where the files of a known dataset may lie, and how they are fetched where they lie nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_cli.dataset.cache import cache_dir
from diffusion_cli.dataset.download import Unreachable, fetch
from diffusion_cli.errors import UserError

DATA = "DIFFUSION_CLI_DATA"  # environment variable: a folder of datasets


class Source(NamedTuple):
    """A known dataset's name for people, the folders it may lie in (the first is ours), and URLs that a file's name is
    appended to."""

    title: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]

    def find(self, names: Iterable[str], root: str | None, endings: Sequence[str] = ("",)) -> Path | None:
        """The first folder that holds all the files, each with one of the endings appended, or None.

        Looked through are `root`, or, where it is None, $DIFFUSION_CLI_DATA and the cache folder; in each first its
        sub-folders `folders`. Raises UserError when `root` is no folder.
        """
        for folder in self.looked_through(root):
            if all(any((folder / f"{name}{end}").is_file() for end in endings) for name in names):
                return folder
        return None

    def looked_through(self, root: str | None) -> Sequence[Path]:
        """The folders in which `find` looks, in its order."""
        if root is not None and not Path(root).expanduser().is_dir():
            raise UserError("dataset.root", root, "no such folder")
        roots = [root] if root is not None else [*filter(None, [os.environ.get(DATA)]), cache_dir()]
        places = [Path(place).expanduser() for place in roots]
        return [folder for place in places for folder in (*(place / name for name in self.folders), place)]

    def fetch(
        self, names: Sequence[str], root: str | None, advice: str, check: Callable[[Path, str], Any]
    ) -> Path:
        """The folder in the cache with the files, downloaded where they are not there yet.

        `check(file, name)` raises UserError for a file that is not the right one. Raises UserError that tells to put
        `advice` (a list of files) where, when there is a `root`, in which they should have been, and when no mirror
        has them.
        """
        if root is not None:
            raise UserError(
                "dataset.root",
                root,
                f"{self.title} is not there; put {advice} into it, or into {self.folders[0]} there",
            )
        target = cache_dir() / self.folders[0]
        try:
            for name in names:
                fetch(name, self.mirrors, target, check)
        except Unreachable as error:
            where = f"into a folder {self.folders[0]}, and name the folder above it by {DATA} or dataset.root"
            reason = f"{self.title} is not here and cannot be downloaded; put {advice} {where} ({error})"
            raise UserError("dataset.root", root, reason) from error
        return target
