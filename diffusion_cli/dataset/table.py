"""Text tables as people have them, read cell by cell: nothing is guessed where a guess could be wrong in silence.

Python's csv module splits the lines, since it tells the line of every row. Readers such as pandas repair silently: a cell
that is empty or no number becomes NaN, and a first row of numbers with one mistake becomes a header.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
THOUSANDS = re.compile(r"[+-]?\d{1,3}([,.' ]\d{3})+([.,]\d+)?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "?", "inf", "-inf", "+inf", "infinity", "-infinity"}
LETTER = re.compile(r"[^\W\d_]")
QUOTED = re.compile(r'"[^"]*"')
COMMENTS = ("#", "%")
DELIMITERS = "\t;|,"
# Lines by which the delimiter is found.
SAMPLE = 50
BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True)
class TextTable:
    """The cells of a table, as text.

    header: names of the columns; None where there are none.
    rows: each with as many cells as the first.
    lines: the line in the file of each row, from 1.
    encoding: of the file.
    comma: whether the numbers have decimal commas.
    """

    header: tuple[str, ...] | None
    rows: list[list[str]]
    lines: list[int]
    encoding: str
    comma: bool

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each column, as the user can type it: from the header, or its number from 1."""
        width = len(self.rows[0]) if self.rows else len(self.header or ())
        header = self.header or ("",) * width
        return tuple(name or str(k + 1) for k, name in enumerate(header))

    def index(self, column: str | int) -> int:
        """The column of this name, or of this number from 1; ValueError where there is none."""
        names = self.names
        if names.count(str(column)) > 1:
            raise ValueError(f"several columns are named {column}")
        if str(column) in names:
            return names.index(str(column))
        if isinstance(column, int) and 1 <= column <= len(names):
            return column - 1
        raise ValueError(f"has no column {column}; it has {', '.join(names)}")

    def number(self, row: int, column: int) -> float:
        """The number in a cell; ValueError with its line and column as in the file."""
        cell = self.rows[row][column]
        text = cell.replace(",", ".") if self.comma and DECIMAL_COMMA.fullmatch(cell) else cell
        if NUMBER.fullmatch(text):
            return float(text)
        if not cell:
            reason = "is empty"
        elif cell.lower() in MISSING:
            reason = f"is {cell}: missing, or not finite"
        elif THOUSANDS.fullmatch(cell):
            reason = f"is {cell}: a thousands separator, or a decimal comma; write plain numbers"
        else:
            reason = f"is {cell!r}, no number"
        raise ValueError(f"line {self.lines[row]}, column {self.place(column)} {reason}")

    def place(self, column: int) -> str:
        """A column for messages: its number from 1, and its name."""
        name = self.header[column] if self.header else ""
        return f"{column + 1} ({name})" if name else str(column + 1)

    def kind(self, column: int) -> str:
        """Of the numbers in a column: fractional; whole (written as such: a class, a count, a row number); or constant whole."""
        cells = {row[column] for row in self.rows}
        if not all(map(WHOLE.fullmatch, cells)):
            return "fractional"
        return "whole" if len(cells) > 1 else "constant"


def read_table(content: bytes) -> TextTable:
    """The table in a file's bytes.

    Comment lines (# or %) and empty ones are left out, as is a first line `sep=;` of Excel's. The first row is the header
    if it has names and no cell that could be a number; or the last comment before the first row, where that has as many names
    as there are columns and x and y are among them.

    Raises ValueError for what is no text, and for a row with fewer or more cells than the first, with its line.
    """
    text, encoding = decoded(content)
    lines = re.split(r"\r\n|\r|\n", text)
    excel = re.fullmatch(r'"?sep=(.)"?', lines[0].strip(" "))
    if excel:
        lines[0] = ""
    numbered = [(k, line) for k, line in enumerate(lines, 1) if line.strip()]
    data = [(k, line) for k, line in numbered if not line.lstrip().startswith(COMMENTS)]
    delimiter = excel[1] if excel else delimiter_of([line for _, line in data[:SAMPLE]])
    rows, places = cells_of(data, delimiter)
    comments = [line for k, line in numbered if data and k < data[0][0]]
    header = None
    if rows and is_header(rows[0]):
        header, rows, places = tuple(rows[0]), rows[1:], places[1:]
    elif rows and comments:
        words = cells_of([(0, comments[-1].lstrip().lstrip("#% "))], delimiter)[0][0]
        if len(words) == len(rows[0]) and is_coordinates(words):
            header = tuple(words)
    width = len(header or (rows[0] if rows else ()))
    comma = delimiter != "," and any(DECIMAL_COMMA.fullmatch(cell) for row in rows for cell in row)
    for row, place in zip(rows, places, strict=True):
        if len(row) != width:
            hint = "; a decimal comma?" if delimiter == "," and len(row) == 2 * width else ""
            raise ValueError(f"line {place} has {len(row)} cells, the first has {width}{hint}")
    return TextTable(header, rows, places, encoding, comma)


def decoded(content: bytes) -> tuple[str, str]:
    """The text of a file and its encoding: UTF-8, UTF-16 or UTF-32 (by their marks), else Windows-1252."""
    encoding = next((name for mark, name in BOMS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:1000]:
        # without its mark: of plain characters every second byte is 0
        encoding = "utf-16-le" if b"\0" in content[1:1000:2] else "utf-16-be"
    for name in [encoding] if encoding else ["utf-8", "cp1252"]:
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        if not any(ord(c) < 32 and not c.isspace() for c in text[:10_000]):
            return text, name
    raise ValueError(f"it is no text in {encoding or 'UTF-8, UTF-16 or Windows-1252'}")


def delimiter_of(lines: Sequence[str]) -> str | None:
    """The delimiter of these lines; None for blanks: the first of DELIMITERS that stands, out of quotes, in half of them."""
    bare = [QUOTED.sub("", line) for line in lines]
    for mark in DELIMITERS:
        if 2 * sum(mark in line for line in bare) >= len(bare) > 0:
            cells = [cell for line in bare for cell in line.split()]
            blanks = all(DECIMAL_COMMA.fullmatch(cell) or LETTER.search(cell) for cell in cells)
            if mark == "," and blanks and len(cells) >= 2 * len(bare):
                return None
            return mark
    return None


def cells_of(lines: Sequence[tuple[int, str]], delimiter: str | None) -> tuple[list[list[str]], list[int]]:
    """The rows of numbered lines, without the blanks around their cells, and the line at which each begins."""
    if delimiter is None:
        return [[cell.strip('"') for cell in line.split()] for _, line in lines], [k for k, _ in lines]
    rows, places, before = [], [], 0
    reader = csv.reader(
        (line + "\n" for _, line in lines), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    for row in reader:
        rows.append([cell.strip() for cell in row])
        places.append(lines[before][0])
        before = reader.line_num
    return rows, places


def is_header(row: Sequence[str]) -> bool:
    """Whether a first row holds names: none of its cells can be a number, a damaged one or a missing one."""
    named = [cell for cell in row if cell]
    return bool(named) and all(LETTER.search(c) and not _like_a_number(c) for c in named)


def is_coordinates(names: Sequence[str]) -> bool:
    """Whether the names of columns are those of coordinates: x, y, z or x1, x2, ..."""
    return all(re.fullmatch(r"[xyzuvw]|(x|dim)_?\d+", name.lower()) for name in names)


def _like_a_number(cell: str) -> bool:
    return cell.lower() in MISSING or bool(re.fullmatch(r"[+-]?[\d.,]+([eE][+-]?\d*)?", cell))
