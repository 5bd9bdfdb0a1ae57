"""Ranges of arguments, written as their annotations: what the library refuses, and the command line before it.

    @checked
    @dataclass(frozen=True)
    class DDIM(Sampler):
        eta: Fraction = 0.0           # DDIM(eta=2) raises ArgumentError: eta=2: must be a number in [0, 1]

The command line reads the same annotations off the source (options.signature), so that a bad value is refused before
anything heavy is imported. No torch here.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, TypeVar

from diffusion_cli.errors import ArgumentError

# What a file of YAML or JSON holds once it is read, nested dicts and lists of plain values: a configuration, and facts.
Config = dict[str, Any]
Facts = dict[str, Any]

BIGGEST_INT = 2**63 - 1  # what a tensor, and a generator's seed, can hold


@dataclass(frozen=True)
class Range:
    """The values that an argument may have.

    accepts: whether a value is one of them.
    text: what they are, as in "must be TEXT".
    choices: their names, where they are few.
    """

    accepts: Callable[[object], bool]
    text: str
    choices: tuple[str, ...] = ()


def whole(least: int, most: int = BIGGEST_INT, step: int = 1) -> Range:
    """Whole numbers, least <= value <= most, multiples of step; true is not 1, 3.0 is not 3."""
    span = f" >= {least}" if most == BIGGEST_INT else f" in {least}..{most}"
    span = "" if least == -most else span

    def accepts(v: object) -> bool:
        if not isinstance(v, Integral) or isinstance(v, bool):
            return False
        return least <= int(v) <= most and int(v) % step == 0

    return Range(accepts, f"a {'whole number' if step == 1 else f'multiple of {step}'}{span}")


def real(low: float = -math.inf, high: float = math.inf, ends: str = "()") -> Range:
    """Finite numbers from low to high. ends: "[" or "]" where that bound belongs to them, "(" or ")" where not."""

    def accepts(v: object) -> bool:
        if not isinstance(v, Real) or isinstance(v, bool):
            return False
        try:
            value = float(v)
        except OverflowError:
            # a whole number beyond all floats
            return False
        above = low <= value if ends[0] == "[" else low < value
        return math.isfinite(value) and above and (value <= high if ends[1] == "]" else value < high)

    if low == -math.inf and high == math.inf:
        span = ""
    elif high == math.inf:
        span = f" {'>=' if ends[0] == '[' else '>'} {low:g}"
    else:
        span = f" in {ends[0]}{low:g}, {high:g}{ends[1]}"
    return Range(accepts, f"a number{span}")


def many(item: Range, length: int | None = None) -> Range:
    """Lists of at least one item, or of exactly `length`, each in the range `item`."""

    def accepts(v: object) -> bool:
        if not isinstance(v, Sequence) or isinstance(v, str):
            return False
        return len(v) == (length or max(len(v), 1)) and all(map(item.accepts, v))

    return Range(accepts, f"a list{f' of {length}' if length else ''}, each {item.text}", item.choices)


def one_of(*names: str | int) -> Range:
    """One of these names or whole numbers."""
    return Range(
        lambda v: any(type(v) is type(name) and v == name for name in names),
        "one of the choices",
        tuple(map(str, names)),
    )


def matching(pattern: str, *like: str) -> Range:
    """Names that match a pattern, which look like these."""
    return Range(lambda v: isinstance(v, str) and bool(re.fullmatch(pattern, v)), "one of the choices", like)


def either(first: Range, second: Range) -> Range:
    text = first.text if second.text == first.text else f"{first.text}, or {second.text}"
    return Range(lambda v: first.accepts(v) or second.accepts(v), text, first.choices + second.choices)


NULL = Range(lambda v: v is None, "null")
EMPTY = Range(lambda v: isinstance(v, Sequence) and not isinstance(v, str) and not v, "[]")
FLAG = Range(lambda v: isinstance(v, bool), "one of the choices", ("true", "false"))
MAPPING = Range(
    lambda v: isinstance(v, Mapping) and all(isinstance(key, str) for key in v), "a mapping, {column: value}"
)
TEXT = Range(lambda v: isinstance(v, str) and v.strip() != "" and "\0" not in v, "a name or a path")

CLASS = Range(either(whole(0), TEXT).accepts, "a class, its number or its name")

# The words of annotations. Upper bounds are beyond what any machine does: a slip of the finger is refused here, and not
# by an allocation that fails or never ends.
Whole = Annotated[int, whole(0)]
Count = Annotated[int, whole(1)]
Several = Annotated[int, whole(2, 10**9)]
Few = Annotated[int, whole(2, 32)]
Many = Annotated[int, whole(1, 10**9)]
Draws = Annotated[int, whole(1, 1000)]
SeveralDraws = Annotated[int, whole(2, 1000)]
Rows = Annotated[int, whole(1, 10**8)]
Steps = Annotated[int, whole(1, 10**6)]
Width = Annotated[int, whole(1, 2**16)]
Depth = Annotated[int, whole(1, 2**10)]
DepthOrZero = Annotated[int, whole(0, 2**10)]
Even = Annotated[int, whole(2, 2**16, step=2)]
Pixels = Annotated[int, whole(1, 2**12)]
Finite = Annotated[float, real()]
Positive = Annotated[float, real(0)]
NonNegative = Annotated[float, real(0, ends="[)")]
Fraction = Annotated[float, real(0, 1, "[]")]
BelowOne = Annotated[float, real(0, 1, "[)")]
Inner = Annotated[float, real(0, 1, "()")]
Percent = Annotated[float, real(0, 100, "[]")]
Class = Annotated[int | str, CLASS]
Values = Annotated[Mapping[str, object], MAPPING]
Device = Annotated[str, matching(r"auto|cpu|mps|cuda(:\d{1,4})?", "auto", "cpu", "cuda", "cuda:N", "mps")]
MaskFile = Annotated[str, matching(r"(?i).+\.(npy|png)", "FILE.npy", "FILE.png")]

PLAIN = {"bool": FLAG, "int": whole(-BIGGEST_INT), "float": real(), "str": TEXT, "None": NULL}


@functools.cache
def range_of(annotation: str) -> Range | None:
    """The range that an annotation means; None for one that says nothing of a range, such as Tensor.

    annotation: as it stands in the source. Words of this module, bool, int, float, str, None, Literal[...],
    Sequence[...], list[...] and tuple[...] (of at least one item; tuple[()] is the empty list), and X | Y of these.

    >>> range_of("Positive | None").text
    'a number > 0, or null'
    """
    return _range_of(ast.parse(annotation, mode="eval").body)


def _range_of(node: ast.expr) -> Range | None:
    if isinstance(node, ast.Constant) and node.value is None:
        return NULL
    if isinstance(node, ast.Name):
        word = PLAIN.get(node.id) or globals().get(node.id)
        return word if isinstance(word, Range) else getattr(word, "__metadata__", (None,))[0]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        first, second = _range_of(node.left), _range_of(node.right)
        return either(first, second) if first and second else None
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            values = (item.value for item in items if isinstance(item, ast.Constant))
            return one_of(*(value for value in values if isinstance(value, str | int)))
        if node.value.id == "tuple" and not items:
            return EMPTY
        if node.value.id in ("Sequence", "list", "tuple"):
            item = _range_of(items[0])
            fixed = node.value.id == "tuple" and not isinstance(items[-1], ast.Constant)
            return item and many(item, len(items) if fixed else None)
    return None


def check_value(name: str, value: object, allowed: Range | None) -> None:
    """Raises ArgumentError for the argument `name` where `value` is not in its range."""
    if allowed is not None and not allowed.accepts(value):
        raise ArgumentError(name, value, f"must be {allowed.text}", allowed.choices)


Made = TypeVar("Made", bound=Callable[..., object])


def checked(made: Made) -> Made:
    """A class or function that refuses arguments outside of the ranges of its annotations: ArgumentError."""
    call = vars(made)["__init__"] if isinstance(made, type) else made
    signature = inspect.signature(call)
    ranges = {name: range_of(p.annotation) for name, p in signature.parameters.items()
              if isinstance(p.annotation, str)}  # fmt: skip

    @functools.wraps(call)
    def guarded(*args: object, **kwargs: object) -> object:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            check_value(name, value, ranges.get(name))
        return call(*args, **kwargs)

    if isinstance(made, type):
        setattr(made, "__init__", guarded)  # noqa: B010
        return made
    return guarded  # type: ignore[return-value]
