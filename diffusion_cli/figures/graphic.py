"""A figure as an object that a notebook shows by itself."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from diffusion_cli.figures.animation import Animation
from diffusion_cli.figures.files import Drawing, encoded, save_figure, suffixes

# Pixels of a notebook to an inch of paper: half of those in the file, for screens that have two for one.
ACROSS = 130


@dataclass(frozen=True, eq=False)
class Graphic:
    """What was drawn, shown by a notebook where it is the last value of a cell.

    figure: matplotlib's Figure, an Animation or a Page.
    facts: kept in the file, such as run, seed and version.
    """

    figure: Drawing
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes it, as a PNG, PDF or SVG (a figure), a GIF (an animation) or HTML (a page); returns the path."""
        return save_figure(self.figure, path, self.facts)

    @property
    def suffix(self) -> str:
        """Of its usual file: .png, .gif or .html."""
        return suffixes(self.figure)[0]

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        if not isinstance(self.figure, Figure):
            return None
        return encoded(self.figure, ".png", self.facts), {"width": int(self.figure.get_figwidth() * ACROSS)}

    def _repr_html_(self) -> str | None:
        if isinstance(self.figure, Figure):
            return None
        content = encoded(self.figure, self.suffix, self.facts)
        if isinstance(self.figure, Animation):
            return f'<img src="data:image/gif;base64,{base64.b64encode(content).decode()}">'
        page = html.escape(content.decode(), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 720px; border: 0"></iframe>'
