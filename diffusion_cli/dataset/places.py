"""Where the files of a known dataset may lie, and how they are fetched where they lie nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from diffusion_cli.dataset.cache import cache_dir
from diffusion_cli.dataset.download import Unreachable, fetch
from diffusion_cli.errors import UserError

DATA = "DIFFUSION_CLI_DATA"  # environment variable: a folder of datasets


def find(folders: Sequence[str], names: Iterable[str], root: str | None) -> Path | None:
    """The first folder that holds all the files (each as NAME or NAME.gz), or None.

    Looked through are `root`, or, where it is None, $DIFFUSION_CLI_DATA and the cache folder; in each first its
    sub-folders `folders`. Raises UserError when `root` is no folder, or is one without the files.
    """
    roots = [root] if root is not None else [*filter(None, [os.environ.get(DATA)]), cache_dir()]
    for place in (Path(r).expanduser() for r in roots):
        if root is not None and not place.is_dir():
            raise UserError("dataset.root", root, "no such folder")
        for folder in (*(place / name for name in folders), place):
            if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in names):
                return folder
    return None


def find_or_fetch(
    title: str,
    folders: Sequence[str],
    names: Iterable[str],
    mirrors: Sequence[str],
    root: str | None,
    check: Callable[[Path, str], Any],
) -> Path:
    """The folder with the files `names` of a dataset; see `find`. Without `root` and without them they are downloaded
    (as NAME.gz) into the cache folder. `check(file, name)` raises UserError for a file that is not the right one.

    Raises UserError (dataset.root) that tells which files to put where.
    """
    names = tuple(names)
    folder = find(folders, names, root)
    if folder is not None:
        return folder
    wanted = ", ".join(f"{name}[.gz]" for name in names)
    if root is not None:
        raise UserError(
            "dataset.root", root, f"{title} is not there; put {wanted} into it, or into {folders[0]} there"
        )
    target = cache_dir() / folders[0]
    try:
        for name in names:
            fetch(f"{name}.gz", mirrors, target, check)
    except Unreachable as error:
        advice = (
            f"put {wanted} into a folder {folders[0]}, and name the folder above it by {DATA} or dataset.root"
        )
        raise UserError(
            "dataset.root", ..., f"{title} is not here and cannot be downloaded ({error}); {advice}"
        ) from error
    return target
