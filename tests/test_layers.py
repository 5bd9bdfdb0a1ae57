"""The layers of the package, read off the import statements: a module imports from lower layers only, and nowhere in a
circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "diffusion_cli"

# A room is a module or a folder directly below the package. Within a room modules may import each other, but not in a
# circle; from elsewhere only what lies in a lower layer. "" is the package's __init__: the version.
LAYERS = [
    {"", "errors"},
    {"ranges"},
    {"noise", "options", "runs", "schedule", "optimizer", "model"},
    {"device", "dataset", "forward"},
    {"prediction"},
    {"denoiser"},
    {"objective", "guidance", "sampler"},
    {"inpainting", "descent", "batches"},
    {"metrics"},
    {"trainer"},
    {"distillation"},
    {"components"},
    {"figures"},
    {"commands"},
    {"cli"},
    {"api", "__main__"},
]
LEVEL = {room: level for level, layer in enumerate(LAYERS) for room in layer}
METHOD = {"schedule", "forward", "prediction", "denoiser", "objective", "guidance", "sampler", "inpainting",
          "descent", "batches", "trainer", "optimizer", "noise", "distillation"}  # fmt: skip
HYDRA = {"hydra", "omegaconf"}
ROOT_MODULES = 18  # at most


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
    rooms = {room_of(path, package) for path in package.rglob("*.py")}
    found = [f"{room}: has no layer; give it one in this test" for room in sorted(rooms - LEVEL.keys())]
    for path in sorted(package.rglob("*.py")):
        room, place = room_of(path, package), path.relative_to(package)
        if room not in LEVEL:
            continue
        for line, name in imported(path, package):
            root, _, rest = name.partition(".")
            if root in HYDRA and room != "cli":
                found.append(f"{place}:{line}: {name}: hydra stays in cli")
            if root != package.name:
                continue
            other = rest.partition(".")[0]
            other = other if other in rooms else ""  # a name of the package's __init__
            if other in LEVEL and other != room and LEVEL[other] >= LEVEL[room]:
                found.append(f"{place}:{line}: {room} may not import {name}")
            if room in METHOD and other in ("options", "runs"):
                found.append(f"{place}:{line}: the method knows no {other}")
    return found


def circles(package: Path) -> list[str]:
    """One line for each module that imports itself in the end, at any depth."""
    modules = {".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
               for path in package.rglob("*.py")}  # fmt: skip
    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = [name for _, name in imported(path, package)]
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        edges[module] = {target for target in targets if target in modules and target != module}
    found = []
    for start in sorted(edges):
        seen, ahead = set(), [*edges[start]]
        while ahead:
            module = ahead.pop()
            if module not in seen:
                seen.add(module)
                ahead += edges[module]
        if start in seen:
            found.append(f"{start}: is in a circle of imports")
    return found


def test_imports_point_downwards() -> None:
    assert violations(PACKAGE) == []


def test_no_imports_in_a_circle() -> None:
    assert circles(PACKAGE) == []


def test_the_root_is_the_method_and_little_else() -> None:
    assert len([*PACKAGE.glob("*.py")]) <= ROOT_MODULES


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
            "runs/directory.py",
            "from diffusion_cli.model import mlp",
            "runs may not import diffusion_cli.model",
        ),
        ("denoiser.py", "from diffusion_cli.runs import checkpoint", "the method knows no runs"),
        ("sampler.py", "from diffusion_cli.options import signature", "the method knows no options"),
        ("errors.py", "from diffusion_cli import schedule", "errors may not import diffusion_cli.schedule"),
        (
            "commands/train.py",
            "import diffusion_cli.cli.app",
            "commands may not import diffusion_cli.cli.app",
        ),
        ("trainer.py", "from omegaconf import OmegaConf", "omegaconf.OmegaConf: hydra stays in"),
        ("toolbox.py", "", "toolbox: has no layer"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, code: str, complaint: str) -> None:
    package = pretend_package(tmp_path)
    (package / file).write_text(code)
    assert any(complaint in line for line in violations(package))


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "denoiser.py",
            "from diffusion_cli import __version__, schedule\nfrom diffusion_cli.model.mlp import MLP",
        ),
        ("model/mlp.py", "from . import embedding\nfrom ..errors import UserError\nimport torch.nn"),
        ("options/signature.py", "from diffusion_cli.errors import UserError"),
        ("cli/app.py", "import hydra\nfrom diffusion_cli import components, figures, runs, trainer"),
    ],
)
def test_an_allowed_import_is_not(tmp_path: Path, file: str, code: str) -> None:
    package = pretend_package(tmp_path)
    (package / file).write_text(code)
    assert violations(package) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    package = pretend_package(tmp_path)
    assert circles(package) == []
    (package / "model" / "mlp.py").write_text("from diffusion_cli.model import embedding")
    (package / "model" / "embedding.py").write_text("def f():\n    from . import mlp")
    assert circles(package) == [
        f"diffusion_cli.model.{name}: is in a circle of imports" for name in ("embedding", "mlp")
    ]


def pretend_package(folder: Path) -> Path:
    """A package with one empty module in every room."""
    package = folder / "diffusion_cli"
    for name in ("dataset/circle", "model/mlp", "model/embedding", "metrics/points", "figures/loss", "commands/train",
                 "runs/directory", "options/signature", "cli/app"):  # fmt: skip
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").touch()
    folders = {path.name for path in package.iterdir()}
    for room in LEVEL.keys() - folders:
        (package / f"{room or '__init__'}.py").touch()
    return package


def test_no_public_name_means_two_things() -> None:
    """A class or function by one name lies in one module. The entries of the commands, one of a kind each, are no
    exception: commands/NAME.py gives `check` and `main`, and the program itself a `main`."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                entry = node.name in ("check", "main") and place.parts[0] in ("commands", "__main__.py")
                found.setdefault(node.name, []).extend([] if entry else [str(place)])
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
