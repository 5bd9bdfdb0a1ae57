"""Drawings of lines in the plane, in the manner of the Datasaurus Dozen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from diffusion_cli.dataset.exact import ExactDataset
from diffusion_cli.dataset.segments import Segments
from diffusion_cli.ranges import NonNegative, Rows, checked


@checked
class Drawing(ExactDataset):
    """A drawing of lines within [-1, 1]^2, uniform by arc length; x0 is (n, 2).

    shape: name of the drawing.
    jitter: standard deviation of Gaussian noise on the points.
    """

    def __init__(
        self,
        shape: Literal[
            "star", "heart", "cat", "smiley", "bullseye", "cross", "wave", "h_lines", "v_lines", "slant_lines"
        ] = "star",
        jitter: NonNegative = 0.0,
        n: Rows | None = None,
    ) -> None:
        super().__init__(Segments(strokes_of(shape), jitter=jitter), n)


def strokes_of(shape: str) -> list[Tensor]:
    """The strokes (V, 2) of a drawing."""
    lines = [_line((-0.95, y), (0.95, y)) for y in (-0.8, -0.4, 0.0, 0.4, 0.8)]
    turn = 2 * math.pi * torch.linspace(0, 1, 129, dtype=torch.float64)
    if shape == "star":
        angle = math.pi / 2 + math.pi / 5 * torch.arange(11, dtype=torch.float64)
        radius = torch.where(torch.arange(11) % 2 == 0, 0.98, 0.39)
        return [torch.stack((radius * angle.cos(), radius * angle.sin() - 0.08), 1)]
    if shape == "heart":
        y = 13 * turn.cos() - 5 * (2 * turn).cos() - 2 * (3 * turn).cos() - (4 * turn).cos()
        return [torch.stack((16 * turn.sin() ** 3, y + 2.5), 1) / 17]
    if shape == "cat":
        ears = _line((-0.66, 0.2), (-0.72, 0.93), (-0.3, 0.6), (0.3, 0.6), (0.72, 0.93), (0.66, 0.2))
        chin = _arc((0.0, 0.2), 0.66, math.pi, 2 * math.pi, 1.6)
        eyes = [_arc((x, 0.2), 0.12, 0, 2 * math.pi) for x in (-0.3, 0.3)]
        mouth = [_arc((x, -0.32), 0.13, math.pi, 2 * math.pi) for x in (-0.13, 0.13)]
        nose = _line((-0.08, -0.14), (0.08, -0.14), (0.0, -0.26), (-0.08, -0.14))
        whiskers = [
            _line((x * 0.45, y), (x * 0.98, 1.6 * y + 0.1)) for x in (-1, 1) for y in (-0.1, -0.22, -0.34)
        ]
        return [ears, chin, *eyes, *mouth, nose, *whiskers]
    if shape == "smiley":
        eyes = [_arc((x, 0.3), 0.14, 0, 2 * math.pi) for x in (-0.35, 0.35)]
        face, smile = _arc((0.0, 0.0), 0.95, 0, 2 * math.pi), _arc((0.0, 0.0), 0.6, 3.5, 5.9)
        return [face, *eyes, smile]
    if shape == "bullseye":
        return [_arc((0.0, 0.0), radius, 0, 2 * math.pi) for radius in (0.3, 0.6, 0.9)]
    if shape == "cross":
        return [_line((-0.9, -0.9), (0.9, 0.9)), _line((-0.9, 0.9), (0.9, -0.9))]
    if shape == "wave":
        x = torch.linspace(-0.95, 0.95, 193, dtype=torch.float64)
        return [torch.stack((x, 0.2 * (3 * math.pi * x).sin() + y), 1) for y in (-0.55, 0.0, 0.55)]
    if shape == "h_lines":
        return lines
    if shape == "v_lines":
        return [line.flip(1) for line in lines]
    # Lines at half a right angle, cut where the square ends.
    return [_line((max(-0.95, c - 0.95), max(-0.95, -c - 0.95)), (min(0.95, 0.95 + c), min(0.95, 0.95 - c)))
            for c in (-1.2, -0.6, 0.0, 0.6, 1.2)]  # fmt: skip


def _line(*vertices: Sequence[float]) -> Tensor:
    return torch.tensor(vertices, dtype=torch.float64)


def _arc(
    middle: tuple[float, float], radius: float, start: float, end: float, stretch: float = 1.0
) -> Tensor:
    """From one angle to another, as 96 chords; stretch: of the height."""
    angle = torch.linspace(start, end, 97, dtype=torch.float64)
    x, y = middle
    return torch.stack((x + radius * angle.cos(), y + stretch * radius * angle.sin()), 1)
