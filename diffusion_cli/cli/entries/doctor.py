"""`diffusion doctor`."""

from diffusion_cli.cli.app import entry

main = entry(__name__)
