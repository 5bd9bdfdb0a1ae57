"""Folders of image files: which there are, of which class, and which of them are held out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffusion_cli.dataset.decode import SUFFIXES
from diffusion_cli.dataset.places import user_folder
from diffusion_cli.errors import ArgumentError

TRAIN, TEST = "train", ("test", "val")
WITHOUT = f"without an image ({', '.join(SUFFIXES)})"


class Entry(NamedTuple):
    """An image file, and by what a change of it is recognised.

    size: in bytes.
    modified: time in ns.
    changed: time in ns that its inode has changed, which no program can set.
    """

    path: Path
    size: int
    modified: int
    changed: int


class Part(NamedTuple):
    """Image files and the class of each: all 0 where there are no classes."""

    images: list[Entry]
    label: list[int]

    def rows(self, rows: Iterable[int]) -> Part:
        rows = tuple(rows)
        return Part([self.images[row] for row in rows], [self.label[row] for row in rows])


class Tree(NamedTuple):
    """The images to train on and those held out; the names of the classes, if there are any."""

    train: Part
    test: Part
    class_names: tuple[str, ...]


def read_tree(root: str, test: float, labels: bool) -> Tree:
    """What lies in `root`, by these rules.

    Every PNG, JPEG and WebP file counts, at any depth, but for names that begin with a dot. With a folder `train` in
    `root`, that is what is trained on, and a folder `test` or `val` is held out. Without the latter `test` of the
    images are held out, a number or (below 1) a fraction of them; which ones follows from their names alone. The folders
    directly below, if there are at least two, are the classes, in the order of their names; `labels=False`: no classes.

    Raises ArgumentError (root) when there is no such folder or no image in it, for a class without images, images
    beside the classes, classes held out that are not trained on, links that lead in a circle or nowhere, and (test)
    when nothing would be left.
    """
    top = user_folder(root)
    base = top / TRAIN if (top / TRAIN).is_dir() else top
    held_out = next((top / name for name in TEST if (top / name).is_dir()), None) if base != top else None
    classes = [folder.name for folder in _folders(base)] if labels else []
    names = tuple(classes) if len(classes) > 1 else ()
    train = _labelled(base, names)
    if held_out is not None:
        if names and (unknown := {folder.name for folder in _folders(held_out)} - set(names)):
            raise ArgumentError("root", ..., f"{held_out / min(unknown)}: no class of that name in {base}")
        return Tree(train, _labelled(held_out, names, complete=False), names)
    kept, out = _hold_out(base, train.images, test)
    return Tree(train.rows(kept), train.rows(out), names)


def images_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> list[Entry]:
    """All image files in a folder and in those below it, links followed, sorted by name within each folder."""
    found: list[Entry] = []
    try:
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in above:
            raise ArgumentError("root", ..., f"{folder}: a link that leads to a folder above it")
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found += images_below(path, above | {(here.st_dev, here.st_ino)})
            elif _is_image(path):
                if not entry.is_file():
                    raise ArgumentError("root", ..., f"{path}: no file, or a link that leads nowhere")
                stat = entry.stat()
                found.append(Entry(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    except OSError as error:
        raise ArgumentError("root", ..., f"{error.filename or folder}: {error.strerror or error}") from error
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _labelled(folder: Path, names: Sequence[str], complete: bool = True) -> Part:
    """The images of a folder, class by class where there are names.

    complete: whether each class must have one.
    """
    part = Part([], [])
    if not names:
        part.images.extend(images_below(folder))
        part.label.extend([0] * len(part.images))
    for k, name in enumerate(names):
        of_class = images_below(folder / name) if complete or (folder / name).is_dir() else []
        if complete and not of_class:
            raise ArgumentError("root", ..., f"{folder / name}: a class {WITHOUT}")
        part.images.extend(of_class)
        part.label.extend([k] * len(of_class))
    loose = [path for path in folder.iterdir() if _is_image(path) and path.is_file()] if names else []
    if loose:
        reason = "lies beside the folders of the classes; dataset.labels=false takes all images as they are"
        raise ArgumentError("root", ..., f"{min(loose)}: {reason}")
    if not part.images:
        raise ArgumentError("root", ..., f"{folder}: a folder {WITHOUT}")
    return part


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _hold_out(base: Path, images: Sequence[Entry], test: float) -> tuple[list[int], list[int]]:
    """Rows to keep and rows to hold out, each ascending."""
    n = len(images)
    count = min(max(1, round(test * n)), n - 1) if 0 < test < 1 else test
    if n < 2 or not 1 <= count < n:
        raise ArgumentError("test", test, f"of {n} images at least one must be held out, and one be left")
    digests = [hashlib.sha256(entry.path.relative_to(base).as_posix().encode()).digest() for entry in images]
    out = set(sorted(range(n), key=digests.__getitem__)[: int(count)])
    return [row for row in range(n) if row not in out], sorted(out)


def identity(entries: Iterable[Entry], *options: object) -> str:
    """A hex digest that changes with the options, and with any file of the list: its path, size or times."""
    digest = hashlib.sha256(repr(options).encode())
    for entry in entries:
        digest.update(repr((os.path.abspath(entry.path), *entry[1:])).encode())
    return digest.hexdigest()
