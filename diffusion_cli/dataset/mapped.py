"""Decoded images that the processes of a machine share: one writes them into the cache, and all map these files into
memory, where they lie once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.cache import cache_dir, cached
from diffusion_cli.dataset.images import Split
from diffusion_cli.dataset.tree import Entry, identity
from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Facts
from diffusion_cli.runs.processes import several

# Of what lies in the files; those of another one are not used.
VERSION = 1
FOUND = "found.json"


class Decoded(NamedTuple):
    """Images to train on and held-out ones, the digest of their content, and what is said of them."""

    train: Split
    test: Split
    digest: str
    about: Facts = {}  # noqa: RUF012 (never written to)


def shared(files: Sequence[Path], options: Sequence[object], decode: Callable[[], Decoded]) -> Decoded:
    """decode(), for one process; of several, what one of those on this machine has decoded, and written, and its digest,
    which is not computed again. What is there is found by the files' paths, sizes and times, and by the options."""
    if not several():
        return decode()
    key = identity(map(Entry.of, files), VERSION, *options)
    folder = cache_dir() / "images" / key[:32]
    cached(folder, lambda part: _write(part, decode()))
    try:
        found = json.loads((folder / FOUND).read_text("utf-8"))
        train, test = (_split(*(mapped(folder / name) for name in names)) for names in found["files"])
        return Decoded(train, test, found["digest"], found["about"])
    except (OSError, EOFError, ValueError) as error:
        raise UserError("", ..., f"cache {folder}: damaged ({error}); delete it") from error


def _split(images: Tensor, label: Tensor | None = None) -> Split:
    return Split(images, label)


def mapped(file: Path) -> Tensor:
    """The array of a .npy file, mapped into memory."""
    # Mode "c": writes stay in memory; torch warns of arrays that forbid them.
    return torch.from_numpy(np.load(file, mmap_mode="c"))


def _write(folder: Path, decoded: Decoded) -> None:
    folder.mkdir()
    files: list[list[str]] = []
    for name, part in (("train", decoded.train), ("test", decoded.test)):
        files.append([])
        for kind, array in (("images", part.images), ("label", part.label)):
            if array is not None:
                files[-1].append(f"{name}_{kind}.npy")
                np.save(folder / files[-1][-1], array.numpy())
    content = {"files": files, "digest": decoded.digest, "about": decoded.about}
    (folder / FOUND).write_text(json.dumps(content), encoding="utf-8")
