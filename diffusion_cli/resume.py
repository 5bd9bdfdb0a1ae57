"""What a resumed run may change of the run it goes on with. Plain dicts; no torch, no Hydra."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from diffusion_cli.errors import UserError

log = logging.getLogger(__name__)

# What is done with the network, not how it comes to be.
FREE = ("resume", "plots", "n", "stages", "checkpoint", "figures", "evaluation", "sampler", "sample_batch", "logger",
        "guidance.w", "label")  # fmt: skip
# Training goes on, but no longer to the bit as it would have.
WARNED = {
    "device": "results will differ in the last bits",
    "threads": "results will differ in the last bits",
    "compile": "results will differ in the last bits",
    "precision": "results will differ",
    "steps": "the learning rate follows the new length from here on",
}


def check_same(config: dict[str, Any], saved: dict[str, Any]) -> None:
    """Compares the config of a resumed run with the saved one, key by key.

    Raises UserError for a key that would make it another run; warns for one that changes its last bits.
    """
    for key, new, old in _differences(config, saved):
        if any(key == free or key.startswith(free + ".") for free in FREE):
            continue
        if key not in WARNED:
            raise UserError(key, new, f"the run was begun with {key}={old}; resume it with its own value, or start "
                            "another run")  # fmt: skip
        log.warning("%s=%s, but the run was begun with %s: %s", key, new, old, WARNED[key])


def _differences(new: Any, old: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(new, dict) and isinstance(old, dict):
        for key in [*new, *(k for k in old if k not in new)]:
            yield from _differences(new.get(key), old.get(key), f"{path}.{key}" if path else str(key))
    elif new != old:
        yield path, new, old
