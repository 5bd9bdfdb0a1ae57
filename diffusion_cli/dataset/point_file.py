"""Reads a user's file of points, and says in one line what is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffusion_cli.dataset.array_file import read_array
from diffusion_cli.dataset.places import user_file
from diffusion_cli.dataset.table import LETTER, MISSING, TextTable, is_coordinates, read_table
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import Facts

# Beyond it the exact density of the points takes too long.
MOST_POINTS = 1_000_000
MOST_BYTES = 512 * 2**20
# The square of a larger one is none in float32.
LARGEST = 1e19
MOST_COORDINATES = 1024
MOST_CLASSES = 1000
# Rows of which a column may hold whole numbers by chance.
FEW = 5
TEXTS, ARRAYS = (".csv", ".tsv", ".txt"), (".npy", ".npz", ".mat")
CHOOSE = "say which are the coordinates: dataset.columns=[x,y]"


@dataclass(frozen=True)
class PointFile:
    """What a file of points holds.

    points: (N, d) float64, in the file's units.
    label: (N,) int64, or None.
    class_names: of the labels.
    about: what was read, for people.
    """

    points: Tensor
    label: Tensor | None = None
    class_names: tuple[str, ...] = ()
    about: Facts = field(default_factory=dict)


def read_points(
    path: str,
    columns: Sequence[str | int] | None = None,
    where: Mapping[str, object] | None = None,
    label: str | int | None = None,
) -> PointFile:
    """The points of a table (.csv, .tsv, .txt), or of a .npy, .npz or .mat (one array) file of N rows of d coordinates.

    columns: of the table, by their names or their numbers from 1, which are the coordinates; None: all of them, which is
        refused where they may not be coordinates.
    where: column -> value; other rows are left out.
    label: column that holds the classes.

    Raises ArgumentError when the file is missing, too large, unreadable, empty, of another shape, or holds a value that is
    no finite number, naming its line and column. Proved by tests/test_table.py and tests/test_dataset_plane.py.
    """
    file = user_file(path, (*TEXTS, *ARRAYS))
    if file.stat().st_size > MOST_BYTES:
        raise ArgumentError("path", path, f"cannot be read: it is larger than {MOST_BYTES >> 20} MiB")
    try:
        table = read_table(file.read_bytes()) if file.suffix.lower() in TEXTS else array_table(file)
    # NumPy, zipfile and csv raise a dozen kinds for damaged files.
    except Exception as error:
        raise ArgumentError("path", path, f"cannot be read: {error}") from error
    try:
        read = choose(table, columns, where, label)
    except ValueError as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError("path", path, str(error)) from error
    about = {"files": [str(file.resolve())], **read.about}
    if isinstance(table, TextTable):
        about["encoding"] = table.encoding
    check_values(path, read.points)
    return PointFile(read.points, read.label, read.class_names, about)


def choose(
    table: TextTable | npt.NDArray[np.float64],
    columns: Sequence[str | int] | None,
    where: Mapping[str, object] | None,
    label: str | int | None,
) -> PointFile:
    """The chosen rows and columns of a table or of an array."""
    if not isinstance(table, TextTable):
        if where is not None or isinstance(label, str):
            raise ValueError(
                "is an array, whose columns have no names: dataset.columns=[1,2] dataset.label=3"
            )
        places = [_place(table.shape[1], column) for column in columns or ()]
        cells = table[:, _place(table.shape[1], label)] if label else None
        if not places:
            places = [k for k in range(table.shape[1]) if label is None or k != label - 1]
            _refuse_transposed(table.shape)
            _refuse_mixture(len(table), [str(k + 1) for k in places], [_kind(table[:, k]) for k in places])
        read = PointFile(torch.from_numpy(np.ascontiguousarray(table[:, places])))
        texts = None if cells is None else [f"{cell:g}" for cell in cells]
        rows = len(table)
    else:
        rows = len(table.rows)
        chosen = _rows_where(table, where)
        places = _of("columns", columns, table)
        given = None if label is None else _of("label", [label], table)[0]
        if not places:
            others = {table.index(name) for name in where or ()} | {given}
            places = [k for k in range(len(table.names)) if k not in others]
            _refuse_other_columns(table, places)
        points = [[table.number(row, place) for place in places] for row in chosen]
        read = PointFile(torch.tensor(points, dtype=torch.float64).reshape(len(points), len(places)))
        texts = None if given is None else [table.rows[row][given] for row in chosen]
    about: Facts = {"rows": rows, "points": len(read.points)}
    about["columns"] = [table.names[k] if isinstance(table, TextTable) else str(k + 1) for k in places]
    if texts is None:
        return PointFile(read.points, about=about)
    names = sorted(set(texts), key=natural)
    if len(names) > MOST_CLASSES or "" in names:
        reason = "has empty cells" if "" in names else f"has {len(names)} classes, more than {MOST_CLASSES}"
        raise ArgumentError("label", label, reason)
    number = {name: k for k, name in enumerate(names)}
    return PointFile(read.points, torch.tensor([number[text] for text in texts]), tuple(names), about)


def natural(name: str) -> tuple[float, str]:
    """The order of names: numbers as numbers, then the rest by the alphabet."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def check_values(path: str, points: Tensor) -> None:
    """Refuses what is no points, or cannot be computed with."""
    shape = tuple(points.shape)
    if points.ndim != 2 or not 1 <= shape[0] <= MOST_POINTS or not 1 <= shape[1] <= MOST_COORDINATES:
        reason = f"holds an array of shape {shape}, not (N, d) points with N in 1..{MOST_POINTS}"
        raise ArgumentError("path", path, reason)
    if not points.isfinite().all():
        raise ArgumentError("path", path, "holds values that are not finite")
    refuse_large(path, float(points.abs().max()))


def refuse_large(path: str, largest: float) -> None:
    """Refuses a file whose largest value is none in float32."""
    if largest > LARGEST:
        reason = f"holds {largest:g}; values above {LARGEST:g} are too large for float32"
        raise ArgumentError("path", path, reason)


def units_of(path: str, points: Tensor, standardize: bool, jitter: float = 0.0) -> Units:
    """The units of a file of points (N, d) where these are standardized; ArgumentError (path) for points without spread."""
    try:
        units = Units.of(points, jitter)
    except ValueError as error:
        raise ArgumentError("path", path, str(error)) from error
    return units if standardize else Units()


def array_table(file: Path) -> npt.NDArray[np.float64]:
    """The array (N, d) of a NumPy file. ValueError for another shape."""
    array = read_array(file, MOST_BYTES)
    if array.ndim != 2:
        hint = f"; take its part of shape {array.shape[1:]}" if array.ndim == 3 and len(array) == 1 else ""
        raise ValueError(f"holds an array of shape {array.shape}, not (N, d) points{hint}")
    return array.astype(np.float64)


def content_digest(points: Tensor, *more: object) -> str:
    """A digest of points, by which a changed file is recognised, whatever it is called: 64 hex digits."""
    about = repr((*points.shape,)) + "".join(map(repr, more))
    return hashlib.sha256(about.encode() + points.numpy().tobytes()).hexdigest()


def _of(argument: str, columns: Sequence[str | int] | None, table: TextTable) -> list[int]:
    """The places of some columns."""
    try:
        return [table.index(column) for column in columns or ()]
    except ValueError as error:
        raise ArgumentError(argument, columns, str(error)) from error


def _rows_where(table: TextTable, where: Mapping[str, object] | None) -> list[int]:
    rows = list(range(len(table.rows)))
    for column, value in (where or {}).items():
        try:
            place = table.index(column)
        except ValueError as error:
            raise ArgumentError("where", dict(where or {}), str(error)) from error
        found = sorted({row[place] for row in table.rows}, key=natural)
        rows = [row for row in rows if table.rows[row][place] == str(value)]
        if not rows:
            raise ArgumentError("where", dict(where or {}), "no row is left", found[:20])
    return rows


def _refuse_other_columns(table: TextTable, places: Sequence[int]) -> None:
    """Refuses a table where it is not sure that these columns are the coordinates."""
    if not table.rows:
        return
    names = [table.names[place] for place in places]
    bad = []
    for place in places:
        try:
            for row in range(len(table.rows)):
                table.number(row, place)
        except ValueError:
            # all of its cells are names
            cells = {row[place] for row in table.rows}
            if table.header and all(LETTER.search(cell) and cell.lower() not in MISSING for cell in cells):
                bad.append(table.names[place])
            else:
                raise
    if bad:
        raise ValueError(f"has the columns {', '.join(names)}; no numbers in {', '.join(bad)}: {CHOOSE}")
    _refuse_transposed((len(table.rows), len(places)))
    _refuse_mixture(len(table.rows), names, [table.kind(place) for place in places])
    if table.header and not is_coordinates(names):
        some = [name for name in names if is_coordinates([name])]
        if some or len(places) > 3 or "" in (table.header[place] for place in places):
            raise ValueError(f"has the columns {', '.join(names)}; {CHOOSE}")


def _refuse_transposed(shape: tuple[int, ...]) -> None:
    if shape[0] <= 3 and shape[1] > 8 * shape[0]:
        raise ValueError(
            f"holds an array of shape {shape}: {shape[0]} points of {shape[1]} coordinates; transpose it"
        )


def _refuse_mixture(rows: int, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Refuses whole numbers beside fractional ones: a row number, a class or a count."""
    counted = [name for name, kind in zip(names, kinds, strict=True) if kind == "whole"]
    if rows >= FEW and counted and "fractional" in kinds:
        reason = f"has the columns {', '.join(names)}, of which {', '.join(counted)} holds whole numbers only"
        raise ValueError(f"{reason}: a class, or a row number? {CHOOSE}")


def _kind(column: npt.NDArray[np.float64]) -> str:
    if not (column == column.round()).all():
        return "fractional"
    return "whole" if (column != column[:1]).any() else "constant"


def _place(width: int, column: str | int) -> int:
    if not isinstance(column, int) or not 1 <= column <= width:
        raise ArgumentError("columns", column, f"the array has the columns 1..{width}, without names")
    return column - 1
