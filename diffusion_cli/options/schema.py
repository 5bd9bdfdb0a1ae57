"""What a configuration may say: types and ranges of our keys in one table, and which classes it may name.

Works on a plain nested dict (no OmegaConf, no torch), so that bad input is refused before anything heavy is imported,
and so that a stranger's saved configuration can be judged before anything of it is resolved or built.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_cli.errors import UserError

TRUST = "DIFFUSION_CLI_TRUST"  # environment variable: the user's own modules, comma separated
BIGGEST_CONFIG = 100_000  # nodes; a YAML "alias bomb" unfolds to billions
DEEPEST_CONFIG = 32
PLAIN_NAME = re.compile(r"[\w-]{1,100}")
BIGGEST_INT = 2**63 - 1  # what a tensor, and a generator's seed, can hold


@dataclass(frozen=True)
class Rule:
    """What one key may hold: `accepts(value)`, and what to tell the user where it does not."""

    accepts: Callable[[Any], bool]
    reason: str
    choices: tuple[str, ...] = ()

    def or_null(self) -> Rule:
        return Rule(lambda v: v is None or self.accepts(v), self.reason + ", or null", self.choices)


def whole(least: int, most: int = BIGGEST_INT) -> Rule:
    """A whole number, least <= value <= most; true is not 1, 3.0 is not 3."""
    span = f">= {least}" if most == BIGGEST_INT else f"in {least}..{most}"
    return Rule(lambda v: type(v) is int and least <= v <= most, f"must be a whole number {span}")


SPANS: dict[str, Callable[[float], bool]] = {
    "": lambda v: True,
    "> 0": lambda v: v > 0,
    ">= 0": lambda v: v >= 0,
    "in [0, 1]": lambda v: 0 <= v <= 1,
    "in [0, 1)": lambda v: 0 <= v < 1,
    "in (0, 1)": lambda v: 0 < v < 1,
}


def real(span: str = "") -> Rule:
    """A finite number in `span`, which is one of `SPANS`."""

    def accepts(
        v: Any,
    ) -> bool:  # the bound: false for nan and inf, and sound for a whole number of any length
        return type(v) in (int, float) and abs(v) <= sys.float_info.max and SPANS[span](v)

    return Rule(accepts, f"must be a number {span}".rstrip())


def many(rule: Rule, length: int | None = None) -> Rule:
    """A list (of the given length, else of at least one item), each item of which obeys `rule`."""
    size = "a list" if length is None else f"a list of {length}"

    def accepts(v: Any) -> bool:
        fits = isinstance(v, (list, tuple)) and len(v) > 0 and (length is None or len(v) == length)
        return fits and all(map(rule.accepts, v))

    return Rule(accepts, f"must be {size}, each " + rule.reason.removeprefix("must be "))


def one_of(*names: str, pattern: str = "", like: tuple[str, ...] = ()) -> Rule:
    """One of the names, or what matches `pattern`, which looks `like` this."""

    def accepts(v: Any) -> bool:
        return isinstance(v, str) and (v in names or bool(pattern and re.fullmatch(pattern, v)))

    return Rule(accepts, "not one of the choices", names + like)


def either(first: Rule, second: Rule) -> Rule:
    reason = first.reason + ", or " + second.reason.removeprefix("must be ")
    return Rule(lambda v: first.accepts(v) or second.accepts(v), reason, first.choices + second.choices)


FLAG = Rule(lambda v: isinstance(v, bool), "must be true or false", ("true", "false"))
TEXT = Rule(lambda v: isinstance(v, str) and v.strip() != "" and "\0" not in v, "must be a name or a path")
COUNT, COUNT_OR_OFF = whole(1), whole(0).or_null()
# Beyond what any machine does: a slip of the finger is told here, and not by an allocation that fails or never ends.
MANY, WIDE, DEEP, LONG, HANDS = (
    whole(1, 2**31),
    whole(1, 2**16),
    whole(1, 2**10),
    whole(1, 10**6),
    whole(1, 2**10),
)
LABEL = whole(0)

# Every key of ours that has a fixed meaning wherever its group is used. Options of one class alone (the radius of a
# circle, the levels of a network) are judged by that class.
RULES: dict[str, Rule] = {
    "seed": whole(0),
    "device": one_of("auto", "cpu", "cuda", "mps", pattern=r"cuda:\d{1,4}", like=("cuda:N",)),
    "threads": HANDS.or_null(),
    "precision": one_of("auto", "fp32", "bf16"),
    "compile": FLAG,
    "steps": COUNT,
    "batch_size": MANY,
    "resume": FLAG,
    "optimize": TEXT.or_null(),
    "sweep": TEXT.or_null(),
    "runs": many(TEXT).or_null(),
    "x": TEXT.or_null(),
    "y": TEXT.or_null(),
    "hue": either(TEXT, many(TEXT)).or_null(),
    "plots": FLAG,
    "log_every": COUNT,
    "loss_levels": many(real("> 0")).or_null(),
    "n": MANY,
    "label": either(LABEL, many(LABEL)).or_null(),
    "run": TEXT.or_null(),
    "weights": either(one_of("last", "best", like=("STEP",)), whole(1)),
    "export": FLAG,
    "ema.decay": real("in [0, 1)"),
    "sample_batch": MANY,
    "checkpoint.every": COUNT,
    "checkpoint.keep": COUNT,
    "stages.every": COUNT_OR_OFF,
    "stages.n": MANY,
    "monitor.every": COUNT_OR_OFF,
    "monitor.n": whole(2),
    "monitor.steps": COUNT.or_null(),
    "evaluation.n": whole(2, 2**31),
    "evaluation.draws": COUNT,
    "evaluation.floor_draws": whole(2),
    "evaluation.neighbours": COUNT,
    "dataset.n": COUNT.or_null(),
    "dataset.jitter": real(">= 0"),
    "dataset.path": TEXT.or_null(),
    "dataset.root": TEXT.or_null(),
    "dataset.source": one_of("full", "bundled"),
    "dataset.flip": FLAG,
    "dataset.labels": FLAG,
    "dataset.image_size": Rule(
        lambda v: type(v) is int and 1 <= v <= 4096, "must be a whole number in 1..4096"
    ),
    "dataset.channels": Rule(lambda v: type(v) is int and v in (1, 3), "not one of the choices", ("3", "1")),
    "dataset.test": either(COUNT, real("in (0, 1)")),
    "model.width": WIDE,
    "model.depth": DEEP,
    "schedule.T": LONG,
    "schedule.beta": real("in (0, 1)"),
    "schedule.beta_start": real("in (0, 1)"),
    "schedule.beta_end": real("in (0, 1)"),
    "schedule.sigma_min": real("> 0"),
    "schedule.sigma_max": real("> 0"),
    "objective.averaged": FLAG,
    "objective.gamma": real("> 0"),
    "objective.vlb": real(">= 0"),
    "objective.mean": real(),
    "objective.std": real("> 0"),
    "parameterization.sigma_data": real("> 0").or_null(),
    "optimizer.lr": real("> 0"),
    "optimizer.betas": many(real("in [0, 1)"), 2),
    "optimizer.weight_decay": real(">= 0"),
    "optimizer.warmup": whole(0),
    "optimizer.clip": real("> 0").or_null(),
    "optimizer.decay": one_of("constant", "cosine"),
    "sampler.steps": LONG.or_null(),
    "sampler.eta": real("in [0, 1]").or_null(),
    "sampler.rho": real("> 0").or_null(),
    "sampler.clip": real("> 0").or_null(),
    "guidance.w": real().or_null(),
    "guidance.label_dropout": real("in [0, 1)"),
    "inpaint": one_of(
        "left_half",
        "right_half",
        "box",
        "random",
        pattern=r"(?i).+\.(npy|png)",
        like=("FILE.npy", "FILE.png"),
    ).or_null(),
    "completions": COUNT,
    "repaint.passes": COUNT,
    "repaint.jump": COUNT,
    "repaint.between": many(real("> 0"), 2).or_null(),
    "repaint.guidance": real(">= 0"),
}
SECTIONS = {key.partition(".")[0] for key in RULES if "." in key}

# group -> the rooms of diffusion_cli in which the class that its `_target_` names must be defined
ROOMS: dict[str, tuple[str, ...]] = {
    "dataset": ("dataset",),
    "model": ("model",),
    "schedule": ("schedule",),
    "parameterization": ("prediction",),
    "objective": ("objective",),
    "optimizer": ("optimizer",),
    "sampler": ("sampler",),
    "guidance": ("guidance",),
    "evaluation": ("metrics",),
    "logger": ("runs.logger",),
    "figure": ("figures.recipes",),
    "figures.*": ("figures.recipes",),
}
OPTIONAL = {"label", "run", "weights", "export", "figure", "figures.*", "inpaint", "completions"}
OPTIONAL |= {"sweep", "runs", "x", "y", "hue"}
OPTIONAL |= {key for key in RULES if key.startswith("repaint.")}
NEEDED = [group for group in ROOMS if group not in OPTIONAL]
NEEDED += [key for key in RULES if key.partition(".")[0] not in ROOMS and key not in OPTIONAL]
DIRECTIVES = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}  # what hydra's instantiate obeys


def check(config: Mapping[str, Any]) -> None:
    """Refuse the first bad key of a whole job configuration, in its own order.

    `config` is a plain nested mapping, already resolved. Raises `UserError` for a value of a wrong type or out of its
    range, and for everything that would make Hydra's `instantiate` call something that is not ours (see `ROOMS`; the
    object that the name leads to is judged again where it is built). Keys of a user's own trusted class are left to it.
    """
    own = {group for group in ROOMS if _is_users_own(config.get(group))}
    for count, (path, value) in enumerate(_walk(config)):
        if count > BIGGEST_CONFIG:
            raise UserError(path[0], ..., "too large for a configuration")
        key, section = ".".join(path), path[0]
        names_a_file = len(path) == 1 or (len(path) == 2 and section == "figures")
        if names_a_file and not PLAIN_NAME.fullmatch(path[-1]):
            raise UserError(key, ..., "no name of a key: letters, digits, _ and - only")
        if path[-1] in DIRECTIVES:
            _check_directive(path, value)
        elif section in own and len(path) > 1:
            continue
        elif key in RULES:
            check_value(key, value)
        elif len(path) == 1 and key in SECTIONS and not isinstance(value, Mapping):
            if value is not None or key not in ROOMS:
                known = [rule for rule in RULES if rule.startswith(key + ".")]
                raise UserError(key, value, "holds further keys, not a value", known)


def check_complete(config: Mapping[str, Any]) -> None:
    """Refuse a job configuration from which something that every job needs has been deleted: `UserError`."""
    for key in NEEDED:
        node: Any = config
        for part in key.split("."):
            node = node.get(part, ...) if isinstance(node, Mapping) else ...
        if node is ... or (key in ROOMS and not isinstance(node, Mapping)):
            raise UserError(key, ..., "missing; it can be set, but not deleted")


def check_value(key: str, value: Any) -> None:
    """Refuse `value` for the dotted `key` where our table has a rule against it: `UserError`."""
    rule = RULES.get(key)
    if rule is not None and not rule.accepts(value):
        raise UserError(key, value, rule.reason, rule.choices)


def trusted_modules() -> tuple[str, ...]:
    """The modules that the user has declared their own in the environment (`DIFFUSION_CLI_TRUST`), never in a file."""
    names = (name.strip() for name in os.environ.get(TRUST, "").split(","))
    return tuple(name for name in names if name)


def group_of(path: tuple[str, ...]) -> str | None:
    """The group whose node lies at `path` of a configuration, or None.

    >>> group_of(("model",)), group_of(("figures", "loss")), group_of(("model", "block"))
    ('model', 'figures.*', None)
    """
    if len(path) == 1 and path[0] in ROOMS:
        return path[0]
    return "figures.*" if len(path) == 2 and path[0] == "figures" else None


def _check_directive(path: tuple[str, ...], value: Any) -> None:
    key, group = ".".join(path), group_of(path[:-1])
    if path[-1] != "_target_":
        raise UserError(key, value, "not allowed in a configuration")
    if group is None:
        raise UserError(key, value, "a class is not named here, but by its group", ROOMS)
    check_target(key, group, value)


def check_target(key: str, group: str, value: Any) -> None:
    """Refuse what `_target_` of `group` may not name, by its name alone, before anything is imported: `UserError`."""
    if not isinstance(value, str):
        raise UserError(key, value, "must be the name of a class")
    # No part may begin with "_": what a module keeps to itself, and `__globals__`, `__builtins__` and their like.
    plain = all(part.isidentifier() and not part.startswith("_") for part in value.split("."))
    rooms = [f"diffusion_cli.{room}" for room in ROOMS[group]]
    if not (plain and value.startswith(tuple(f"{module}." for module in (*rooms, *trusted_modules())))):
        reason = f"not one of ours ({rooms[0]}.*); {TRUST}=MODULE enables a module of your own"
        raise UserError(key, value, reason)


def _is_users_own(node: Any) -> bool:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return isinstance(target, str) and not target.startswith("diffusion_cli.")


def _walk(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every node below `node`, parents first, in order; list items under their index."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        path = (*above, str(key))
        yield path, value
        if isinstance(value, (Mapping, list, tuple)):
            if len(path) > DEEPEST_CONFIG:
                raise UserError(path[0], ..., "too deep for a configuration")
            yield from _walk(value, path)
