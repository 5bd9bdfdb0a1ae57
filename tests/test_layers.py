"""The layers of the package, read off the import statements: a module imports from lower layers only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "diffusion_cli"

# A room is a module or a folder directly below the package. Within a room modules may import each other, from
# elsewhere only what lies in a lower layer.
LAYERS = [
    {"noise", "device"},
    {"schedule", "dataset", "model"},
    {"step"},
    {"prediction", "process"},
    {"denoiser", "metrics"},
    {"optimizer", "objective", "guidance", "sampler"},
    {"trainer", "build", "saved", "inpainting", "gather"},
    {"experiment", "tables"},
    {"completions"},
    {"gallery"},
    {"commands"},
    {"__main__"},
]
LEVEL = {room: level for level, layer in enumerate(LAYERS) for room in layer}
EVERYWHERE = {"", "errors", "atomic", "schema"}  # "" is the package's __init__: the version
BESIDE = {
    "run",
    "checkpoint",
    "figures",
    "logger",
    "jobs",
    "resume",
    "signals",
}  # know no layer, serve the upper ones
KEPT = {("metrics", "checkpoint")}  # the judge of images is a trained network, kept and verified as any other
HYDRA = {"hydra", "omegaconf"}
USERS_OF_HYDRA = {"commands"}


def may_import(room: str, other: str) -> bool:
    """Whether a module in `room` may import from the room `other` of the package."""
    if other == room:
        return True
    if room in EVERYWHERE:
        return other == "errors"
    if other in EVERYWHERE:
        return True
    if room in BESIDE:
        return False
    if other in BESIDE:
        return LEVEL[room] >= LEVEL["trainer"] or (room, other) in KEPT
    return LEVEL[other] < LEVEL[room]


def room_of(path: Path, package: Path) -> str:
    """`diffusion_cli/model/mlp.py` -> "model"; `diffusion_cli/__init__.py` -> ""."""
    first = path.relative_to(package).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that a file imports, at any depth of its code; relative imports resolved."""
    here = path.relative_to(package.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parent = here[: len(here) - node.level] if node.level else ()
            source = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:  # the name may be a submodule: from diffusion_cli import schedule
                yield node.lineno, f"{source}.{alias.name}"


def violations(package: Path) -> list[str]:
    """One line for each import that the layers forbid, and for each module that has no layer."""
    found = []
    rooms = {room_of(path, package) for path in package.rglob("*.py")}
    known = LEVEL.keys() | EVERYWHERE | BESIDE
    found += [f"{room}: has no layer; give it one in this test" for room in sorted(rooms - known)]
    for path in sorted(package.rglob("*.py")):
        room, place = room_of(path, package), path.relative_to(package)
        if room not in known:
            continue
        for line, name in imported(path, package):
            root, _, rest = name.partition(".")
            if root in HYDRA and room not in USERS_OF_HYDRA:
                found.append(f"{place}:{line}: {name}: hydra stays in {' and '.join(sorted(USERS_OF_HYDRA))}")
            if root != package.name:
                continue
            other = rest.partition(".")[0]
            other = other if other in rooms else ""  # a name of the package's __init__
            if other in known and not may_import(room, other):
                found.append(f"{place}:{line}: {room} may not import {name}")
    return found


def test_imports_point_downwards() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "code", "complaint"),
    [
        ("schedule.py", "import diffusion_cli.denoiser", "schedule may not import diffusion_cli.denoiser"),
        ("model/mlp.py", "from ..sampler import ddpm", "model may not import diffusion_cli.sampler.ddpm"),
        ("model/mlp.py", "from ..dataset import circle", "model may not import diffusion_cli.dataset.circle"),
        (
            "guidance.py",
            "def f():\n    from . import sampler",
            "guidance may not import diffusion_cli.sampler",
        ),
        (
            "figures/loss.py",
            "from diffusion_cli.model import mlp",
            "figures may not import diffusion_cli.model.mlp",
        ),
        (
            "denoiser.py",
            "from diffusion_cli import checkpoint",
            "denoiser may not import diffusion_cli.checkpoint",
        ),
        ("errors.py", "from diffusion_cli import schedule", "errors may not import diffusion_cli.schedule"),
        (
            "experiment.py",
            "import diffusion_cli.commands.train",
            "experiment may not import diffusion_cli.commands",
        ),
        ("trainer.py", "from omegaconf import OmegaConf", "omegaconf.OmegaConf: hydra stays in"),
        ("toolbox.py", "", "toolbox: has no layer"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, code: str, complaint: str) -> None:
    package = pretend_package(tmp_path)
    (package / file).write_text(code)
    (found,) = violations(package)
    assert complaint in found


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "denoiser.py",
            "from diffusion_cli import __version__, schedule\nfrom diffusion_cli.model.mlp import MLP",
        ),
        ("model/mlp.py", "from . import embedding\nfrom ..errors import UserError\nimport torch.nn"),
        ("schema.py", "from diffusion_cli.errors import UserError"),
        ("commands/train.py", "import hydra\nfrom diffusion_cli import experiment, figures, run, trainer"),
    ],
)
def test_an_allowed_import_is_not(tmp_path: Path, file: str, code: str) -> None:
    package = pretend_package(tmp_path)
    (package / file).write_text(code)
    assert violations(package) == []


def pretend_package(folder: Path) -> Path:
    """A package with one empty module in every room."""
    package = folder / "diffusion_cli"
    for name in (
        "dataset/circle",
        "model/mlp",
        "model/embedding",
        "metrics/points",
        "figures/loss",
        "commands/train",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").touch()
    folders = {path.name for path in package.iterdir()}
    for room in (LEVEL.keys() | EVERYWHERE | BESIDE) - folders:
        (package / f"{room or '__init__'}.py").touch()
    return package
