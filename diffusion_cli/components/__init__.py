"""The objects of one run: built once from its options, and never changed.

components = build(config)                                  # the exact denoiser of the dataset's density
components = trained(config, run)                           # the network of a run
components.varied(sampler={"steps": 10}).draw(5000).x0      # the same with another sampler
"""

from diffusion_cli.components.build import build, of, trained
from diffusion_cli.components.drawing import READ, Components

__all__ = ["READ", "Components", "build", "of", "trained"]
