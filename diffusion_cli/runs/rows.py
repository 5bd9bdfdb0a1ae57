"""metrics.csv and evaluations.csv: rows of numbers, whole at any moment."""

from __future__ import annotations

import csv
import io
import logging
import time
from pathlib import Path

from diffusion_cli.ranges import Facts
from diffusion_cli.runs.atomic import replacing

log = logging.getLogger(__name__)
REWRITE = 2.0  # seconds between rewritings of the file while rows come in


def read_csv(path: Path) -> dict[str, list[float]]:
    """Columns of a metrics.csv."""
    rows = _rows(path)
    return {key: [float(row[key]) for row in rows] for key in (rows[0] if rows else ())}


class Metrics:
    """metrics.csv: a row per log interval, whose header never changes.

    Rows are kept and the file rewritten by rename, so that it is whole at any moment; `since` drops the rows after a
    step, when a run goes on from an older checkpoint.
    """

    def __init__(self, path: Path, since: int = 0):
        self.path, self.written = path, time.monotonic()
        self.rows: list[Facts] = []
        if since and path.is_file():
            self.rows = [row for row in _rows(path) if int(row["step"]) <= since]

    def add(self, row: dict[str, float]) -> None:
        """Floats are written with 9 significant digits: enough for float32 to come back exactly."""
        texts = {key: f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items()}
        self.rows.append(texts)
        if time.monotonic() - self.written > REWRITE:
            self.write()

    def write(self) -> None:
        self.written = time.monotonic()
        if not self.rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with replacing(self.path) as part:
            part.write_text(text.getvalue())


def _rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a metrics.csv, saying so where it has others: half a last line, or what an editor did to it."""
    *lines, rest = path.read_text(errors="replace").replace("\0", "?").split("\n")
    rows = list(csv.DictReader(lines))
    whole = [row for row in rows if _whole(row)]
    if rest or len(whole) < len(rows):
        log.warning("%s has %d damaged rows, which are left out", path, len(rows) - len(whole) + bool(rest))
    return whole


def _whole(row: dict[str, str]) -> bool:
    try:
        _ = [*map(float, row.values())]
        return None not in row and row["step"].isascii() and row["step"].isdigit()
    except (KeyError, TypeError, ValueError):
        return False
