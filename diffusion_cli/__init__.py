"""Diffusion models that can be read, run and checked: a command line and a library."""

import importlib

__version__ = "0.1.0"
__all__ = ["Run", "plot", "train"]


def __getattr__(name: str) -> object:
    # Only now: the package itself is imported for its version, too, and quickly.
    if name in __all__:
        return getattr(importlib.import_module("diffusion_cli.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
