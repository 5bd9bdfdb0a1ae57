"""The commands as functions, and a run as an object, for scripts and notebooks.

A word of the command line is a keyword argument, or a string where its key has a dot:
`diffusion train dataset=circle optimizer.lr=1e-3` is `train("optimizer.lr=1e-3", dataset="circle")`.
"""

from diffusion_cli.api.functions import plot, train
from diffusion_cli.api.run import Run

__all__ = ["Run", "plot", "train"]
