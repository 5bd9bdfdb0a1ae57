"""Where our own options lie."""

from __future__ import annotations

from pathlib import Path


def find_configs() -> Path:
    """The folder of options: within the package in a wheel, beside the package in a checkout.

    Found by file, not as `pkg://`: an editable install may leave an old copy of the folder in site-packages.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


CONFIGS = find_configs()
