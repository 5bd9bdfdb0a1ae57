"""What a constructor takes, read off its source: nothing is imported, so that help and errors are quick.

A component is described where it is written: its arguments with their annotations (ranges), defaults, and a line each
in the docstring, `name: text`. A dataclass's fields are its arguments; those of base classes come first.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_cli.ranges import Range, range_of

PACKAGE = Path(__file__).parents[1]
MISSING = "???"  # the default of an argument that has none, as OmegaConf writes it
LINE = re.compile(r"(\s*)(\w+(?:, \w+)*): +(\S.*)")


class Argument(NamedTuple):
    """One argument. range: None where its annotation says nothing of one. default: a plain value, or MISSING. text: what
    the docstring says of it."""

    name: str
    annotation: str
    range: Range | None
    default: Any
    text: str


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
    if first == "diffusion_cli":
        place: Path | None = PACKAGE
    else:
        spec = PathFinder.find_spec(first, [*sys.path])
        origin = spec and spec.origin
        place = Path(origin) if origin else None
        if place is not None and place.name == "__init__.py":
            place = place.parent
    for part in rest:
        place = place and next((p for p in (place / part, place / f"{part}.py") if p.exists()), None)
    if place is not None and place.is_dir():
        place = place / "__init__.py"
    return place if place is not None and place.is_file() and place.suffix == ".py" else None


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def _of_module(file: Path, name: str) -> Signature | None:
    tree = _tree(file)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(file, node)
        if isinstance(node, ast.FunctionDef) and node.name == name:
            doc = ast.get_docstring(node) or ""
            return _signature(file, node.args, doc, skip=0, is_class=False)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return read(f"{node.module}.{alias.name}")
    return None


def _of_class(file: Path, node: ast.ClassDef) -> Signature:
    doc = ast.get_docstring(node) or ""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            own = _signature(
                file, item.args, f"{doc}\n{ast.get_docstring(item) or ''}", skip=1, is_class=True
            )
            inherited = {n: a for base in _bases(file, node) for n, a in base.arguments.items()}
            described = {  # an argument that a class hands on to its base is described there
                name: argument
                if argument.text or name not in inherited
                else argument._replace(text=inherited[name].text)
                for name, argument in own.arguments.items()
            }
            return own._replace(title=first_sentence(doc), arguments=described)
    found: dict[str, Argument] = {}
    is_open = False
    for base in _bases(file, node):
        found |= base.arguments
        is_open |= base.open
    texts = descriptions(doc)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            name, annotation = item.target.id, ast.unparse(item.annotation)
            if annotation.startswith("ClassVar") or (item.value and "init=False" in ast.unparse(item.value)):
                continue
            found[name] = _argument(file, name, annotation, item.value, texts.get(name, ""))
    return Signature(
        first_sentence(doc),
        {name: argument._replace(text=texts.get(name, argument.text)) for name, argument in found.items()},
        True,
        is_open,
    )


def _bases(file: Path, node: ast.ClassDef) -> Iterator[Signature]:
    for base in node.bases:
        found = _of_module(file, ast.unparse(base)) if isinstance(base, ast.Name) else None
        if found is not None:
            yield found


def _signature(file: Path, args: ast.arguments, doc: str, skip: int, is_class: bool) -> Signature:
    texts, found = descriptions(doc), {}
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [
        *[*zip(positional, defaults, strict=True)][skip:],
        *zip(args.kwonlyargs, args.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        name = argument.arg
        found[name] = _argument(file, name, annotation, default, texts.get(name, ""))
    return Signature(first_sentence(doc), found, is_class, args.kwarg is not None)


def _argument(file: Path, name: str, annotation: str, default: ast.expr | None, text: str) -> Argument:
    annotation = annotation.strip("'\"")
    known = range_of(annotation) if annotation else None
    return Argument(name, annotation, known, MISSING if default is None else _value(file, default), text)


def _value(file: Path, node: ast.expr) -> Any:
    """A default as a plain value: a literal, or the name of a constant of its module."""
    if isinstance(node, ast.Name):
        for item in _tree(file).body:
            if isinstance(item, ast.Assign) and any(ast.unparse(t) == node.id for t in item.targets):
                return _value(file, item.value)
    value = ast.literal_eval(node)
    return _listed(value) if isinstance(value, tuple) else value


def _listed(value: Any) -> Any:
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
