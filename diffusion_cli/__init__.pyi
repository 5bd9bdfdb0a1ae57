# What `__getattr__` of __init__.py gives, for editors and type checkers.
from diffusion_cli.api import Run as Run
from diffusion_cli.api import plot as plot
from diffusion_cli.api import train as train

__version__: str
__all__ = ["Run", "plot", "train"]
