"""One self-contained HTML page: figures, tables, texts, and a slider over the reverse process.

The page loads nothing from anywhere, and its Content-Security-Policy lets a browser run the one script of ours alone
(by its hash), whatever the texts of a run may say; every text is escaped by Jinja.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

if TYPE_CHECKING:
    from diffusion_cli.figures.reverse import Process

# Pixels across an embedded figure: two for each of the page's.
WIDEST = 1360
# Bytes of all embedded figures together.
PICTURES = 1_200_000
# Pixels of a file that is opened at all.
BIGGEST = 40_000_000
# A picture of more pixels across gets the whole width.
BROAD = 1000


class Table(NamedTuple):
    """Texts in rows; the first of each row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


class Picture(NamedTuple):
    """An image as a data URI.

    broad: whether it wants the width of the page.
    """

    source: str
    broad: bool


class Card(NamedTuple):
    """One of many runs.

    link: where a click leads, to what `leads` names: its page, or its folder.
    keys: names and values of its configuration.
    numbers: name, value, ratio to the floor, and whether it is clearly the best of the page.
    """

    name: str
    status: str
    error: str
    link: str
    leads: str
    picture: Picture | None
    keys: Sequence[tuple[str, str]]
    numbers: Sequence[tuple[str, str, str, bool]]


@dataclass(frozen=True)
class Page:
    """What a page shows.

    cards: one for each of many runs.
    pictures: name -> picture.
    details: name -> text that is folded away.
    """

    title: str
    subtitle: Sequence[str] = ()
    cards: Sequence[Card] = ()
    process: Process | None = None
    tables: Sequence[Table] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    def html(self, facts: Mapping[str, object] | None = None) -> str:
        """The whole document.

        facts: of the file, for its head and foot.

        Example: `Path("run.html").write_text(Page("a run").html())`
        """
        texts = {name: asset(f"page.{name}") for name in ("css", "js")}
        environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
        return environment.from_string(asset("page.html")).render(
            page=self,
            facts={key: str(value) for key, value in (facts or {}).items()},
            style=Markup(texts["css"]),
            script=Markup(texts["js"]),
            style_hash=Markup(policy_hash(texts["css"])),
            script_hash=Markup(policy_hash(texts["js"])),
        )


@cache
def asset(name: str) -> str:
    """The text of a file that comes with the package."""
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def policy_hash(text: str) -> str:
    """The SHA-256 by which a Content-Security-Policy allows an inline script or style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def picture(file: Path, widest: int = WIDEST) -> tuple[Picture, int]:
    """A PNG file, at most so many pixels wide, and its size in bytes. ValueError for what is no such file."""
    try:
        with Image.open(file, formats=("PNG",)) as opened:
            if opened.width * opened.height > BIGGEST:
                raise ValueError(f"{file} has more than {BIGGEST:,} pixels")
            broad, ratio = opened.width > BROAD, opened.width / opened.height
            image = opened.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} is no PNG image: {error}") from None
    if image.width > widest:
        image = image.resize((widest, max(1, round(widest / ratio))), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(small, format="PNG", optimize=True)
    data = small.getvalue()
    return Picture(f"data:image/png;base64,{base64.b64encode(data).decode()}", broad), len(data)


def pictures(files: Mapping[str, Path]) -> dict[str, Picture]:
    """Those of the named PNG files that can be read, until they weigh 1.2 MB together."""
    found, total = {}, 0
    for name, file in files.items():
        try:
            shown, size = picture(file)
        except ValueError:
            continue
        total += size
        if total > PICTURES:
            break
        found[name] = shown
    return found
