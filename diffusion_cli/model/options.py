"""Checks of a user's option values, each answered by one UserError naming the key."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from diffusion_cli.errors import UserError


def whole(name: str, value: Any, minimum: int = 1) -> int:
    """`value` if it is an int >= `minimum`; UserError("model.NAME", ...) otherwise (True and 2.0 are no ints)."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"model.{name}", value, f"must be a whole number >= {minimum}")
    return value


def multiple(name: str, value: Any, divisor: int) -> int:
    """`value` if it is a positive multiple of `divisor`; UserError("model.NAME", ...) otherwise."""
    if whole(name, value) % divisor:
        raise UserError(f"model.{name}", value, f"must be a multiple of {divisor}")
    return value


def divisor(name: str, value: Any, of: int) -> int:
    """`value` if it is a whole number that divides `of`; UserError("model.NAME", ...) otherwise."""
    if of % whole(name, value):
        raise UserError(f"model.{name}", value, f"must divide {of}")
    return value


def positive(name: str, value: Any) -> float:
    """`value` as a float if it is a finite number > 0; UserError("model.NAME", ...) otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f"model.{name}", value, "must be a number > 0")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """`value` if it is true or false; UserError("model.NAME", ...) otherwise."""
    if not isinstance(value, bool):
        raise UserError(f"model.{name}", value, "must be true or false")
    return value


def one_of(name: str, value: Any, choices: Collection[str]) -> str:
    """`value` if it is among `choices`; UserError("model.NAME", ...) naming them otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"model.{name}", value, "no such choice", choices=tuple(choices))
    return value


def share(name: str, value: Any) -> float:
    """`value` as a float if it is a number in [0, 1); UserError("model.NAME", ...) otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UserError(f"model.{name}", value, "must be a number in [0, 1)")
    return float(value)


def whole_list(name: str, value: Any, at_least: int = 1) -> list[int]:
    """`value` as a list of positive whole numbers, at least so many; UserError("model.NAME", ...) otherwise."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) < at_least:
        raise UserError(f"model.{name}", value, "must be a list of whole numbers")
    return [whole(name, item) for item in value]
