"""Diffusion models that can be read, run and checked: a command line and a library."""

__version__ = "0.1.0"
