"""Which run a line goes on with, and what it may change of it. No torch, no Hydra."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusion_cli.errors import UserError, shown
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs.directory import FINISHED, RunDirectory

log = logging.getLogger(__name__)
# Of two configurations: dotted key, new value, old value.
Difference = tuple[str, object, object]

# What is done with the network, not how it comes to be.
FREE = ("resume", "plots", "evaluate", "n", "stages", "checkpoint", "figures", "evaluation", "monitor", "sampler",
        "sample_batch", "logger", "guidance.w", "label", "optimize", "max_minutes", "like", "processes")  # fmt: skip
# Training goes on, but no longer to the bit as it would have.
WARNED = {
    "device": "results will differ in the last bits",
    "threads": "results will differ in the last bits",
    "compile": "results will differ in the last bits",
    "precision": "results will differ",
    "reduce": "results will differ in the last bits",
    "steps": "the learning rate follows the new length from here on",
    "epochs": "the learning rate follows the new length from here on",
}


def fingerprint(config: Config) -> str:
    """A digest of a whole resolved config, the same for a run and for its continuation: 16 hex digits."""
    left_out = ("resume", "optimize", "max_minutes", "like", "processes")
    kept = {key: value for key, value in config.items() if key not in left_out}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


# What a checkpoint was made with, beside its config.
MADE_WITH = {
    "torch": "results will differ in the last bits",
    "diffusion_cli": "results may differ",
    "cpu": "results will differ in the last bits",
    "device": WARNED["device"],
    "threads": WARNED["threads"],
    "precision": WARNED["precision"],
}


def check_same(config: Config, saved: Config, quiet: bool = False) -> None:
    """Compares the config of a resumed run with the saved one, key by key.

    Raises UserError for a key that would make it another run; warns (unless quiet) for one that changes its last bits.
    """
    for key, new, old in differences(config, saved):
        if f"{key}.".startswith(tuple(f"{free}." for free in FREE)):
            continue
        if key not in WARNED:
            raise UserError(key, new, f"the run was begun with {key}={shown(old)}; resume it with its own value, or start "
                            "another run")  # fmt: skip
        if not quiet:
            log.warning("%s=%s, but the run was begun with %s: %s", key, shown(new), shown(old), WARNED[key])


def check_made_with(now: Facts, then: Facts) -> None:
    """Compares what a checkpoint is resumed with and what it was made with, beyond the config: versions, what `auto`
    and null came to, and the content of the data.

    Raises UserError where the data have changed; warns by name of what changes the last bits.
    """
    if now.get("data") != then.get("data"):
        raise UserError("dataset", ..., "its data have changed since the run was begun; put the old ones back, or start "
                        "another run")  # fmt: skip
    for name, effect in MADE_WITH.items():
        if name in then and now.get(name) != then[name]:
            made = f"the checkpoint was made with {then[name]}"
            log.warning("%s=%s, but %s: %s", name, now.get(name), made, effect)


def differences(new: object, old: object, path: str = "") -> Iterator[Difference]:
    """Dotted key, new value and old value, wherever two configurations differ."""
    if isinstance(new, dict) and isinstance(old, dict):
        for key in [*new, *(k for k in old if k not in new)]:
            yield from differences(new.get(key), old.get(key), f"{path}.{key}" if path else str(key))
    elif new != old:
        yield path, new, old


def unfinished(root: Path, command: str, words: Sequence[str]) -> str | None:
    """For resume=true without a directory: the newest run of this very line below `root` that has not finished."""
    found = []
    for path in root.glob("*/"):
        run = RunDirectory(path)
        try:
            record = run.record
        except UserError:
            continue
        if run.status != FINISHED and record.command == command and _line(record.overrides) == _line(words):
            found.append(run.path)
    if not found:
        log.info("no unfinished run of this line is in %s: it starts anew", root)
    return str(max(found, key=lambda path: path.stat().st_mtime)) if found else None


def _line(words: Sequence[str]) -> list[str]:
    """A line as such: in one order, without what does not make it another."""
    return sorted(word for word in words if not word.startswith(("resume=", "max_minutes=", "processes=")))
