"""Many runs on one page: a card for each, with its picture, what it differs in and what came of it. (No torch.)"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from diffusion_cli.errors import shown
from diffusion_cli.figures.page import Card, Picture, picture
from diffusion_cli.runs.comparison import metrics, varied
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.ranking import leaders
from diffusion_cli.runs.results import Result
from diffusion_cli.runs.tables import number_text

# Pixels across a picture: two for each of the page's.
ACROSS = 600


def cards(
    results: Sequence[Result],
    beside: Path,
    pages: Mapping[Path, Path],
) -> Iterator[Card]:
    """A card for each run, in their order.

    beside: the folder of the page, from which its links lead.
    pages: resolved directory of a run -> its own page.
    """
    keys = [key for key in varied(results) if key != "dataset"]
    keys += ["seed"] if len({shown(result.keys.get("seed")) for result in results}) > 1 else []
    names = metrics(results)
    best = {name: leaders(results, name) for name in names}
    for place, result in enumerate(results):
        page = pages.get(result.path.resolve())
        yield Card(
            name=result.name,
            status=result.status or "not begun",
            error=result.error or "",
            link=quote(Path(os.path.relpath(page or result.path, beside)).as_posix()) + ("" if page else "/"),
            leads="page" if page else "folder",
            picture=picture_of(RunDirectory(result.path)),
            keys=[(key, shown(result.keys[key])) for key in ("dataset", *keys) if key in result.keys],
            numbers=[
                (name.removeprefix("metrics.").replace("_", " "), number_text(result.numbers[name]),
                 number_text(result.numbers.get(f"{name}.ratio")), place in best[name])
                for name in names if name in result.numbers
            ],
        )  # fmt: skip


def picture_of(run: RunDirectory) -> Picture | None:
    """Samples of a run, or whatever else it has a picture of."""
    for file in (
        run.figures / "samples.png",
        *sorted(run.figures.glob("*.png")),
        *sorted(run.path.glob("*.png")),
    ):
        try:
            return picture(file, ACROSS)[0]
        except ValueError:
            continue
    return None
