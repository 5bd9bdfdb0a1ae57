"""In which order an image takes its form: when each part of it is settled in the prediction of x0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffusion_cli.components import Components
from diffusion_cli.figures import formation
from diffusion_cli.figures.animation import evenly
from diffusion_cli.figures.kinds import draws
from diffusion_cli.figures.recipes.material import states_of
from diffusion_cli.figures.space import Floats
from diffusion_cli.figures.view import States
from diffusion_cli.ranges import Many, Pixels, Several, checked

# Of the error at T: where a part begins to take its form, and where it has it.
BEGUN, DONE = 0.75, 0.25
# Of the pixels of a part from the median of the image, root mean square, below which nothing is in it.
BLANK = 0.25


class Formation(NamedTuple):
    """When parts take their form, as fractions of T, the later a time is the nearer to 0.

    settled: (n, rows, columns), of parts; nan of those in which nothing is.
    spread: of the times at which the parts of one image settle, from the 10th to the 90th percentile, mean over images.
    duration: from where a part begins to take its form to where it has it, mean over parts.
    """

    settled: NDArray[np.float64]
    spread: float
    duration: float

    @property
    def answer(self) -> str:
        """In words: the parts of an image settle one after the other where their spread exceeds a part's own duration."""
        if not np.isfinite(self.spread):
            return "nothing is in these images"
        ratio = self.spread / max(self.duration, 1e-9)
        return "part by part" if ratio > 1.5 else "all at once" if ratio < 0.67 else "parts overlap"


def formation_of(states: States, cell: int) -> Formation:
    """When each square of `cell` pixels settles in the predictions of x0 of some chains.

    The error of a part at time t is the root mean square, over its pixels, of the x0 predicted at t less the final one. A
    part has begun from the last time on at which its error was above three quarters of that at T, and is settled from
    the last time on at which it was above a quarter.
    """
    final = _parts(states.x0[-1], cell)
    error = np.stack([((_parts(x0, cell) - final) ** 2).mean(-1) ** 0.5 for x0 in states.x0])
    begun, settled = (_last_above(error, fraction * error[0], states.times) for fraction in (BEGUN, DONE))
    background = np.median(final, axis=(1, 2, 3))[:, None, None]
    blank = ((final - background[..., None]) ** 2).mean(-1) ** 0.5 < BLANK
    settled, begun = np.where(blank, np.nan, settled), np.where(blank, np.nan, begun)
    some = [row[np.isfinite(row)] for row in settled.reshape(len(settled), -1)]
    spreads = [np.quantile(row, 0.9) - np.quantile(row, 0.1) for row in some if len(row) > 1]
    durations = (begun - settled)[~blank]
    T = states.times[0]
    nothing = not spreads
    return Formation(
        settled / T,
        np.nan if nothing else float(np.mean(spreads)) / T,
        np.nan if nothing else float(durations.mean()) / T,
    )


def _parts(x: Floats, cell: int) -> Floats:
    """Images (n, C, H, W) as parts (n, H // cell, W // cell, pixels); what is left over at the edges is left out."""
    n, channels, height, width = x.shape
    rows, columns = height // cell, width // cell
    x = x[:, :, : rows * cell, : columns * cell].astype(np.float64)
    x = x.reshape(n, channels, rows, cell, columns, cell).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(n, rows, columns, -1)


def _last_above(error: Floats, bound: Floats, times: Sequence[float]) -> NDArray[np.float64]:
    """The first time at which an error (K, ...) is at most its bound (...) and stays so."""
    above = error > bound
    # How many states, from the end, are all below.
    steady = np.cumprod(~above[::-1], axis=0).sum(0)
    return np.asarray(times)[len(times) - np.maximum(steady, 1)]


@draws("images")
@checked
def digit_formation(
    components: Components, n: Many = 64, shown: Many = 4, columns: Several = 6, cell: Pixels | None = None
) -> Figure:
    """In which order an image takes its form: predictions of x0 on the way, and the time at which each part of it settles.

    Above the map stands the answer to "part by part or all at once?": how far the times of the parts of one image are apart,
    and how long a part takes for itself, as fractions of T.

    n: images over which both are means.
    shown: images in the picture.
    columns: times at which a prediction is shown, evenly chosen.
    cell: pixels along a side of a part; null: an eighth of the image's side.
    """
    states = states_of(components, n)
    side = max(1, min(components.dataset.shape[1:]) // 8) if cell is None else cell
    found = formation_of(states, min(side, *components.dataset.shape[1:]))
    chosen = evenly(len(states.times), columns)
    predicted = [states.x0[k][:shown] for k in chosen]
    title = f"{found.answer}: the parts of an image settle over {found.spread:.0%} of T, one alone takes {found.duration:.0%}"
    return formation.settling(predicted, [states.times[k] for k in chosen], found.settled[:shown], title)
