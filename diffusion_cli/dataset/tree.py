"""Folders of image files: which there are, of which class, and which of them are held out."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffusion_cli.dataset.decode import SUFFIXES
from diffusion_cli.dataset.places import user_folder
from diffusion_cli.dataset.point_file import natural
from diffusion_cli.errors import ArgumentError

# Names of folders, in any case, that are parts of the data and no classes.
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
# Of archives and editors: no data.
JUNK = ("__macosx",)
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

    @classmethod
    def of(cls, path: Path) -> Entry:
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Part(NamedTuple):
    """Image files and the class of each: all 0 where there are no classes."""

    images: list[Entry]
    label: list[int]

    def rows(self, rows: Iterable[int]) -> Part:
        rows = tuple(rows)
        return Part([self.images[row] for row in rows], [self.label[row] for row in rows])


class Tree(NamedTuple):
    """The images to train on and those held out; the names of the classes, if there are any.

    left_out: how many files are none of these, by their suffix or by the folder that they lie in.
    top: the folder of all.
    """

    train: Part
    test: Part
    class_names: tuple[str, ...]
    left_out: dict[str, int]
    top: Path


def read_tree(root: str, test: float, labels: bool) -> Tree:
    """What lies in `root`, by these rules.

    Every image file (decode.SUFFIXES) counts, at any depth, but for names that begin with a dot and archives' leftovers
    (JUNK). With a folder `train` (or training, in any case) in `root`, that is what is trained on, and a folder of TEST, the
    first there is, is held out. Without the latter `test` of the images are held out, a number or (below 1) a fraction of
    them; which ones follows from their names alone. The folders directly below, if there are at least two, are the classes,
    in the order of their names, numbers as numbers; `labels=False`: no classes.

    Raises ArgumentError (root) when there is no such folder or no image in it, for a class without images, images
    beside the classes, classes held out that are not trained on, links that lead in a circle or nowhere, and (test)
    when nothing would be left.
    """
    top = user_folder(root)
    parts = {folder.name.lower(): folder for folder in _folders(top)}
    base = next((parts[name] for name in TRAIN if name in parts), top)
    splits = [parts[name] for name in TEST if name in parts]
    if base == top and splits:
        raise ArgumentError("root", root, f"has a folder {splits[0].name} to hold out, and none named train")
    held_out = splits[0] if splits else None
    classes = [folder.name for folder in _folders(base)] if labels else []
    names = tuple(classes) if len(classes) > 1 else ()
    train = _labelled(base, names)
    if held_out is not None:
        if names and (unknown := {folder.name for folder in _folders(held_out)} - set(names)):
            raise ArgumentError("root", ..., f"{held_out / min(unknown)}: no class of that name in {base}")
        part = _labelled(held_out, names, complete=False)
        return Tree(train, part, names, left_out(top, train, part), top)
    kept, out = _hold_out(base, train.images, test)
    return Tree(train.rows(kept), train.rows(out), names, left_out(top, train), top)


def left_out(top: Path, *parts: Part) -> dict[str, int]:
    """How many files below a folder are in none of the parts: suffix, or folder (with a slash) -> count."""
    read = {entry.path for part in parts for entry in part.images}
    found: Counter[str] = Counter()
    for where, _, names in os.walk(top):
        for name in names:
            path = Path(where, name)
            if path not in read:
                first = path.relative_to(top).parts[0]
                found[
                    f"{first}/"
                    if (first != name and _is_image(path)) or _is_junk(first)
                    else path.suffix or name
                ] += 1
    return dict(found.most_common(20))


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def images_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> list[Entry]:
    """All image files in a folder and in those below it, links followed, sorted by name within each folder."""
    found: list[Entry] = []
    try:
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in above:
            raise ArgumentError("root", ..., f"{folder}: a link that leads to a folder above it")
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = folder / entry.name
            if _is_junk(entry.name):
                continue
            if entry.is_dir():
                found += images_below(path, above | {(here.st_dev, here.st_ino)})
            elif _is_image(path):
                if not entry.is_file():
                    raise ArgumentError("root", ..., f"{path}: no file, or a link that leads nowhere")
                found.append(Entry.of(path))
    except OSError as error:
        raise ArgumentError("root", ..., f"{error.filename or folder}: {error.strerror or error}") from error
    return found


def _folders(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.is_dir() and not _is_junk(path.name)]
    return sorted(found, key=lambda path: natural(path.name))


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
        others = sorted({path.suffix.lower() for path in folder.rglob("*") if path.suffix and path.is_file()})
        found = f"; it has {', '.join(others[:10])}" if others else ""
        raise ArgumentError("root", ..., f"{folder}: a folder {WITHOUT}{found}")
    return part


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _hold_out(base: Path, images: Sequence[Entry], test: float) -> tuple[list[int], list[int]]:
    """Rows to keep and rows to hold out, each ascending."""
    n = len(images)
    if test == 0:
        return [*range(n)], []
    count = min(max(1, round(test * n)), n - 1) if 0 < test < 1 else test
    if n < 2 or not 1 <= count < n:
        reason = f"of {n} images at least one must be held out, and one be left; dataset.test=0 trains on all"
        raise ArgumentError("test", test, reason)
    digests = [hashlib.sha256(entry.path.relative_to(base).as_posix().encode()).digest() for entry in images]
    out = set(sorted(range(n), key=digests.__getitem__)[: int(count)])
    return [row for row in range(n) if row not in out], sorted(out)


def identity(entries: Iterable[Entry], *options: object) -> str:
    """A hex digest that changes with the options, and with any file of the list: its path, size or times."""
    digest = hashlib.sha256(repr(options).encode())
    for entry in entries:
        digest.update(repr((os.path.abspath(entry.path), *entry[1:])).encode())
    return digest.hexdigest()
