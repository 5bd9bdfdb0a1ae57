"""The commands that begin with no run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusion_cli.api.calling import calling, performed
from diffusion_cli.api.run import Run
from diffusion_cli.api.words import words_of
from diffusion_cli.cli.calls import compose, refusing
from diffusion_cli.commands import plot as plotting

if TYPE_CHECKING:
    from diffusion_cli.figures.graphic import Graphic


def train(*words: str, quiet: bool = False, **keys: object) -> Run:
    """The run of a new training, as `diffusion train` does it: the same checks, defaults, files and bits.

    words: keys with a dot, such as "optimizer.lr=1e-3" or "hydra.run.dir=runs/mine".
    quiet: nothing is shown but warnings.
    keys: of the command, without a dot: dataset="circle", steps=2000.

    Raises ArgumentError (a ValueError) where the command line would refuse a key, before anything is written; RunFailed where
    the training diverges. An interrupt saves: `train(..., "hydra.run.dir=DIR", resume=True)` goes on.

    >>> run = train("optimizer.lr=1e-3", dataset="circle", steps=2000)
    """
    return Run.load(performed("train", words_of(words, keys), quiet))


def plot(figure: str, *words: str, quiet: bool = False, **keys: object) -> Graphic:
    """A figure that needs no run, or one of many runs; that of a run is `Run.plot`.

    figure: its name, see `diffusion list figures`.
    words, quiet, keys: see `train`.

    >>> plot("schedules")
    >>> plot("sweep", sweep="outputs/widths", x="model.width", y="loss")
    """
    line = words_of(words, {"figure": figure} | keys)
    config = compose("plot", line)
    with refusing(line), calling(quiet, config["threads"]) as session:
        return plotting.draw_one(figure, config, session, plotting.wanted_results(config))
