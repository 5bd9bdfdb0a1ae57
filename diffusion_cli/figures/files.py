"""Figures and animations as files: complete, or not there."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from diffusion_cli.figures.animation import Animation
from diffusion_cli.figures.page import Page
from diffusion_cli.figures.style import DPI, house_style
from diffusion_cli.runs.atomic import replacing

Drawing = Figure | Animation | Page


def suffixes(figure: Drawing) -> tuple[str, ...]:
    """The suffixes that fit a figure, its usual one first."""
    return {Animation: (".gif",), Page: (".html",)}.get(type(figure), (".png", ".pdf", ".svg"))


def save_figure(
    figure: Drawing, path: str | os.PathLike[str], metadata: Mapping[str, object] | None = None
) -> Path:
    """Write a figure (PNG, PDF or SVG by the suffix), an animation (GIF) or a page (HTML) and return its path.

    The file is written under a temporary name and renamed; missing directories are made.

    metadata: facts such as run, seed and version, kept as text: PNG text chunks, PDF and SVG keywords, the GIF's comment,
        the page's foot.

    Raises ValueError for a suffix that does not fit, OSError when the disk refuses.

    Example: `save_figure(scatter(x), "figures/samples.png", {"seed": 0})`
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in suffixes(figure):
        raise ValueError(f"cannot write a {type(figure).__name__} as {path.name}")
    with replacing(path) as part:
        part.write_bytes(encoded(figure, suffix, metadata))
    return path


# Styled, for matplotlib makes some ticks only now.
@house_style
def encoded(figure: Drawing, suffix: str, metadata: Mapping[str, object] | None = None) -> bytes:
    """The content of a figure's file; see `save_figure`."""
    facts = dict(metadata or {})
    keywords = json.dumps(facts, default=str)
    file = io.BytesIO()
    if isinstance(figure, Page):
        return figure.html(facts).encode()
    if isinstance(figure, Animation):
        first, *rest = figure.images
        first.save(
            file,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=list(figure.milliseconds),
            loop=0,
            comment=keywords.encode() if facts else b"",
        )
    elif suffix == ".png":
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, default=str)
            for key, value in facts.items()
        }
        figure.savefig(file, format="png", dpi=DPI, metadata=texts)
    else:
        figure.savefig(file, format=suffix[1:], dpi=DPI, metadata={"Keywords": keywords} if facts else None)
    return file.getvalue()
