"""What a constructor takes, read off its source: nothing is imported, so that help and errors are quick.

A component is described where it is written: its arguments with their annotations (ranges), defaults, and a line each
in the docstring, `name: text`. A dataclass's fields are its arguments; those of base classes come first.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from diffusion_cli.ranges import Range, range_of

PACKAGE = Path(__file__).resolve().parents[1]
MISSING = "???"  # the default of an argument that has none, as OmegaConf writes it
LINE = re.compile(r"(\s*)(\w+(?:, \w+)*): +(\S.*)")


class Argument(NamedTuple):
    """One argument. range: None where its annotation says nothing of one. default: a plain value, or MISSING. text: what
    the docstring says of it."""

    name: str
    annotation: str
    range: Range | None
    default: object
    text: str = ""


class Signature(NamedTuple):
    """title: the first sentence of the docstring. open: whether it takes any further keyword (**options)."""

    title: str
    arguments: dict[str, Argument]
    is_class: bool
    open: bool


@functools.cache
def read(target: str) -> Signature | None:
    """The signature of a class or function, by its dotted name; None where no source of it is found.

    >>> read("diffusion_cli.schedule.constant").arguments["beta"].default
    0.25
    """
    module, _, name = target.rpartition(".")
    file = source_of(module)
    return None if file is None else _of_module(file, name)


def source_of(module: str) -> Path | None:
    """The file of a module, found without importing anything."""
    first, *rest = module.split(".")
    place = PACKAGE
    if first != "diffusion_cli":
        spec = PathFinder.find_spec(first)
        if spec is None or spec.origin is None:
            return None
        origin = Path(spec.origin)
        place = origin.parent if origin.name == "__init__.py" else origin.with_suffix("")
    place = place.joinpath(*rest)
    files = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def _of_module(file: Path, name: str) -> Signature | None:
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(file, node)
        if isinstance(node, ast.FunctionDef) and node.name == name:
            doc = ast.get_docstring(node) or ""
            found = _described(_parameters(file, node), descriptions(doc))
            return Signature(first_sentence(doc), found, is_class=False, open=node.args.kwarg is not None)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return read(f"{node.module}.{alias.name}")
    return None


def _of_class(file: Path, node: ast.ClassDef) -> Signature:
    doc = ast.get_docstring(node) or ""
    named = [_of_module(file, base.id) for base in node.bases if isinstance(base, ast.Name)]
    bases = [base for base in named if base is not None]
    found = {name: argument for base in bases for name, argument in base.arguments.items()}
    is_open = any(base.open for base in bases)
    # an argument without a line of its own is described where the base has it
    texts = {name: argument.text for name, argument in found.items()} | descriptions(doc)
    functions = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    made = next((item for item in functions if item.name == "__init__"), None)
    if made is not None:
        texts |= descriptions(ast.get_docstring(made) or "")
        found = _parameters(file, made, skip=1)
        is_open = made.args.kwarg is not None
    elif any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        found |= _fields(file, node)
    return Signature(first_sentence(doc), _described(found, texts), is_class=True, open=is_open)


def _described(found: dict[str, Argument], texts: Mapping[str, str]) -> dict[str, Argument]:
    return {name: argument._replace(text=texts.get(name, "")) for name, argument in found.items()}


def _fields(file: Path, node: ast.ClassDef) -> dict[str, Argument]:
    """The arguments that a dataclass has of its own fields."""
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            constant = item.value and "init=False" in ast.unparse(item.value)
            if not constant and not ast.unparse(item.annotation).startswith("ClassVar"):
                found[item.target.id] = _argument(file, item.target.id, item.annotation, item.value)
    return found


def _parameters(file: Path, function: ast.FunctionDef, skip: int = 0) -> dict[str, Argument]:
    """The arguments of a function but for the first `skip`."""
    args = function.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [
        *[*zip(positional, defaults, strict=True)][skip:],
        *zip(args.kwonlyargs, args.kw_defaults, strict=True),
    ]
    return {a.arg: _argument(file, a.arg, a.annotation, default) for a, default in pairs}


def _argument(file: Path, name: str, annotated: ast.expr | None, default: ast.expr | None) -> Argument:
    annotation = ast.unparse(annotated).strip("'\"") if annotated else ""
    allowed = range_of(annotation) if annotation else None
    return Argument(name, annotation, allowed, MISSING if default is None else _value(file, default))


def _value(file: Path, node: ast.expr) -> object:
    """A default as a plain value: a literal, or the name of a constant of its module."""
    if isinstance(node, ast.Name):
        for item in _tree(file).body:
            if isinstance(item, ast.Assign) and any(ast.unparse(t) == node.id for t in item.targets):
                return _value(file, item.value)
    return _listed(ast.literal_eval(node))


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, (tuple, list)) else value


def descriptions(doc: str) -> dict[str, str]:
    """name -> text, of the lines `name: text` of a docstring; a line indented further goes on with the one above."""
    found: dict[str, str] = {}
    names: list[str] = []
    depth = 0
    for line in doc.splitlines():
        match = LINE.match(line)
        if match and (not names or len(match[1]) <= depth):
            depth, names = len(match[1]), match[2].split(", ")
            found |= dict.fromkeys(names, match[3].strip())
        elif line.strip() and len(line) - len(line.lstrip()) > depth:
            for name in names:
                found[name] += " " + line.strip()
        else:
            names = []
    return found


def first_sentence(doc: str) -> str:
    """The first sentence of a docstring."""
    first = " ".join(doc.split("\n\n")[0].split())
    # not after "et al." and "eq."
    return re.split(r"(?<!\bal)(?<!\beq)\. (?=[A-Z`])", first, maxsplit=1)[0].rstrip(".:;")
