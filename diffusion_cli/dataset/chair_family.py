"""The distribution of chairs: sets of points on the surface of a few boxes that make a chair."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Lowest and highest value of each measure, in units of half the chair's height: a chair stands in z = -1..1, its back at y > 0.
RANGES = {
    "width": (0.8, 1.2),
    "depth": (0.8, 1.2),
    # height of the seat, and its thickness
    "seat": (-0.25, 0.05),
    "board": (0.06, 0.16),
    # thickness of legs, posts and arms
    "leg": (0.06, 0.14),
    # from the seat to the back's lower edge, and the thickness of the back
    "gap": (0.1, 0.5),
    "back": (0.06, 0.12),
    # height of the arms above the seat
    "arm": (0.3, 0.45),
}
# Chairs whose points are drawn together, and points that are drawn for each that is kept.
AT_ONCE, SPARE = 16, 2
ROUNDING = 1e-9


class ChairFamily(NamedTuple):
    """All chairs that there are: measures uniform in RANGES.

    arms: fraction of the chairs that have arms.
    """

    arms: float = 0.5


def measures(fraction: Tensor) -> Tensor:
    """Measures (..., 8) of chairs, at these fractions (..., 8) of their ranges."""
    low, high = (torch.tensor(end).to(fraction) for end in zip(*RANGES.values(), strict=True))
    return low + (high - low) * fraction


def boxes_of(measure: Tensor, arms: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest corner (n, 10, 3) of the boxes of chairs: seat, back, legs, posts, arms and what carries these.

    Boxes reach into each other, so that the surface of the chair is that of their union. Chairs without arms have the seat
    four times more in place of them.

    measure: (n, 8), in the order of RANGES.
    arms: (n,) bool.
    """
    width, depth, seat, board, leg, gap, back, arm = measure.unbind(-1)
    right, rear = width / 2, depth / 2
    floor, top = torch.full_like(seat, -1.0), torch.ones_like(seat)
    under, rest = seat - board, seat + arm
    inner, front = right - leg, leg - rear

    def beside(side: int, y: tuple[Tensor, Tensor], z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x = (inner, right) if side > 0 else (-right, -inner)
        return torch.stack((x[0], y[0], z[0]), -1), torch.stack((x[1], y[1], z[1]), -1)

    whole = [
        (torch.stack((-right, -rear, under), -1), torch.stack((right, rear, seat), -1)),
        (torch.stack((-right, rear - back, seat + gap), -1), torch.stack((right, rear, top), -1)),
    ]
    for side in (1, -1):
        whole += [beside(side, (-rear, front), (floor, seat)), beside(side, (rear - leg, rear), (floor, top))]
    some = []
    for side in (1, -1):
        some += [beside(side, (-rear, rear), (rest - leg, rest)), beside(side, (-rear, front), (under, rest))]
    low, high = (torch.stack(corner, 1) for corner in zip(*whole, *some, strict=True))
    there = torch.cat((torch.ones_like(arms)[:, None].expand(-1, 6), arms[:, None].expand(-1, 4)), 1)[
        ..., None
    ]
    return torch.where(there, low, low[:, :1]), torch.where(there, high, high[:, :1])


def surface_distance(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Distance (n, P) of the points x (n, P, 3) of n sets to the surface of a union of boxes each, (n, K, 3).

    Exact outside of all boxes, and inside where a point lies in one box alone; else the larger of the distances in either.
    """
    beyond = (x[:, :, None] - (low + high)[:, None] / 2).abs() - (high - low)[:, None] / 2
    outside = (beyond.clamp_min(0).square().sum(-1) + 1e-12).sqrt()
    return (outside + beyond.amax(-1).clamp_max(0)).amin(-1).abs()


def draw_chairs(family: ChairFamily, n: int, size: int, jitter: float, generator: torch.Generator) -> Tensor:
    """n chairs of the family, `size` points each, uniform by area on its surface with Gaussian noise: (n, size, 3) float32."""
    fraction = torch.rand((n, len(RANGES)), generator=generator, dtype=torch.float64)
    arms = torch.rand((n,), generator=generator, dtype=torch.float64) < family.arms
    low, high = boxes_of(measures(fraction), arms)
    parts = zip(low.split(AT_ONCE), high.split(AT_ONCE), strict=True)
    x = torch.cat([_on_surface(*part, size, generator) for part in parts])
    return (x + jitter * torch.randn(x.shape, generator=generator, dtype=torch.float64)).float()


def _on_surface(low: Tensor, high: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` points on each union of boxes (n, K, 3), uniform by area: (n, size, 3).

    Points are drawn on the faces of all boxes. One that lies in another box is none of the surface; one on the faces of
    several boxes counts for the first of these alone.
    """
    n, k, _ = low.shape
    side = high - low
    # A box that stands there a second time has no faces of its own.
    first = torch.stack([(low[:, i : i + 1] == low[:, :i]).all(-1).any(1) for i in range(k)], 1).logical_not()
    area = (
        torch.stack([side[..., (d + 1) % 3] * side[..., (d + 2) % 3] for d in range(3)], -1)
        * first[..., None]
    )
    count = SPARE * size
    while True:
        face = torch.multinomial(area.flatten(1).repeat(1, 2), count, replacement=True, generator=generator)
        end, box, axis = face // (3 * k), face % (3 * k) // 3, face % 3
        corner, length = (part.gather(1, box[..., None].expand(-1, -1, 3)) for part in (low, side))
        place = torch.rand((n, count, 3), generator=generator, dtype=torch.float64)
        place = place.scatter(2, axis[..., None], end[..., None].double())
        x = corner + place * length
        # Of each box, how deep a point lies in it, at most 0 where it does not.
        depth = torch.minimum(x[:, :, None] - low[:, None], high[:, None] - x[:, :, None]).amin(-1)
        before = torch.arange(k) < box[..., None]
        hidden = (depth > ROUNDING) | (before & (depth > -ROUNDING))
        kept = hidden.any(-1).logical_not()
        if int(kept.sum(1).min()) >= size:
            rows = torch.argsort(kept.int(), dim=1, descending=True, stable=True)[:, :size]
            return x.gather(1, rows[..., None].expand(-1, -1, 3))
        count *= 2
