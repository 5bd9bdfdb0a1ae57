"""Which of a run's checkpoints is meant, and what happens when it cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_cli.errors import UserError, shown
from diffusion_cli.ranges import Facts
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.config import FILE, Record
from diffusion_cli.runs.directory import RunDirectory, step_of
from diffusion_cli.runs.resume import Difference, differences

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
LAST, BEST = "last", "best"
# What a checkpoint of a training holds at least, which others rely on, and of what kind it is.
Kinds = dict[str, "type | Kinds"]
WHOLE: Kinds = {"state": {"ema": dict, "step": int}, "config": dict, "made_with": dict}
WHERE_GIVEN: Kinds = {"best": {"step": int}, "teacher": {"config": dict, "ema": dict}}


def newest(run: RunDirectory, key: str = "run") -> Facts:
    """The content of the newest checkpoint that verifies, saying so when it is not the last one.

    Raises UserError for `key` where there is none.
    """
    for file in reversed(run.checkpoints()):
        try:
            return _of_training(file)
        except checkpoint.Damaged as damage:
            log.warning("%s; trying the one before", damage)
    raise UserError(key, str(run.path), "has no checkpoint that can be read whole")


def chosen(run: RunDirectory, weights: str | int, key: str = "weights") -> Facts:
    """The content of the checkpoint that `weights` means: last, best (by the loss on fixed batches; the last one, saying
    so, where it is gone), or the number of a step, which must be there: else UserError for `key`.
    """
    if isinstance(weights, int):
        try:
            return _of_training(run.checkpoint_file(weights))
        except checkpoint.Damaged as damage:
            steps = [step_of(file) for file in run.checkpoints()]
            raise UserError(key, weights, str(damage), [*steps, BEST, LAST]) from None
    last = newest(run)
    for name, now, then in edits(run.record, last):
        file = run.path / FILE
        log.warning("%s says %s=%s, and said %s when it was trained", file, name, shown(now), shown(then))
    best = (last.get("best") or {}).get("step") if weights == BEST else None
    if best is None or best == last["state"]["step"]:
        return last
    try:
        return _of_training(run.checkpoint_file(best))
    except checkpoint.Damaged as damage:
        log.warning("%s; the best weights are gone, taking the last", damage)
        return last


def edits(record: Record, saved: Facts) -> list[Difference]:
    """What config.json says otherwise than its copy in a checkpoint: key, its value, and that of the copy."""
    copy = saved.get("record")
    if not isinstance(copy, dict):
        return []
    return [found for found in differences(record.content, copy) if not found[0].startswith("extensions")]


def _of_training(file: Path) -> Facts:
    """A checkpoint as `diffusion train` writes them; checkpoint.Damaged for any other content, however well sealed."""
    content = checkpoint.load(file)
    given = {key: shape for key, shape in WHERE_GIVEN.items() if content.get(key) is not None}
    if not _has(content, WHOLE | given):
        raise checkpoint.Damaged(f"{file}: not a checkpoint of a training")
    return content


def _has(node: object, kinds: Kinds) -> bool:
    """Whether a node is a dict with values of these kinds."""
    return isinstance(node, dict) and all(
        _has(node.get(key), kind) if isinstance(kind, dict) else isinstance(node.get(key), kind)
        for key, kind in kinds.items()
    )


def start_from(net: nn.Module, name: str, weights: str | int) -> None:
    """Takes the averaged weights of another run into a network, as far as they fit, and names those that do not.

    name, weights: the values of `init` and `init_weights`.
    """
    run = RunDirectory.find(name, "init")
    theirs, ours = chosen(run, weights, "init_weights")["state"]["ema"], net.state_dict()
    fitting = {key: value for key, value in theirs.items() if key in ours and value.shape == ours[key].shape}
    others = [key for key in ours if key not in fitting]
    if not fitting:
        raise UserError("init", name, "none of its weights fits this network")
    net.load_state_dict(fitting, strict=False)
    log.info("started from the weights of %s", run.path)
    if others:
        shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        log.warning("%d of %d weights do not fit and start at random: %s", len(others), len(ours), shown)


def fit_in(load: Callable[[Facts], object], state: Facts, key: str, run: RunDirectory) -> None:
    """load(state), of a network or a training; UserError for `key` where these weights are another network's."""
    try:
        load(state)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"its weights do not fit the network of its configuration ({type(error).__name__})"
        raise UserError(key, str(run.path), reason) from error
