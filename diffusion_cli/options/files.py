"""The files of options: one YAML for each option of a group, ours and those of other folders. (No Hydra here.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from diffusion_cli.options.check import TARGET
from diffusion_cli.options.groups import FIGURES
from diffusion_cli.options.signature import PACKAGE, Signature, read
from diffusion_cli.ranges import Config

# The folder of options lies within the package in a wheel, beside the package in a checkout. Found by file, not as `pkg://`:
# an editable install may leave an old copy of the folder in site-packages.
IN_WHEEL = PACKAGE / "configs"
CONFIGS = IN_WHEEL if IN_WHEEL.is_dir() else PACKAGE.parent / "configs"
# Folders of the user's own options, beside ours: what --config-dir names, as the command line has found it.
FOLDERS: list[Path] = []


def names_of(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """The options of a group, sorted; those that begin with _ are bases of others and no choice."""
    found = {file.stem for folder in (CONFIGS, *folders) for file in (folder / group).glob("*.yaml")}
    return sorted(name for name in found if not name.startswith("_"))


def content_of(group: str, name: str, folders: Sequence[Path] = ()) -> tuple[str, Config]:
    """The first line of comment of an option's file ("" where there is none), and what the file holds."""
    file = next(f for folder in (*folders, CONFIGS) if (f := folder / group / f"{name}.yaml").is_file())
    text = file.read_text(encoding="utf-8")
    comments = (line for line in text.splitlines() if line.startswith("#") and "@package" not in line)
    return next(comments, "").lstrip("# "), yaml.safe_load(text) or {}


def node_of(group: str, name: str, folders: Sequence[Path] = ()) -> Config:
    """The node of an option: `_target_`, and the keys that the option sets."""
    _, content = content_of(group, name, folders)
    node = content if TARGET in content else content.get(group)
    return node if isinstance(node, dict) else {}


def signature_of(group: str, name: str, folders: Sequence[Path] = ()) -> Signature | None:
    """What the component of an option takes; None where its file names none, or its source is not found."""
    target = node_of(group, name, folders).get(TARGET)
    return read(target) if isinstance(target, str) else None


def title_of(group: str, name: str, folders: Sequence[Path] = ()) -> str:
    """An option in one line: the comment of its file, else the first sentence of its component."""
    comment, _ = content_of(group, name, folders)
    signature = signature_of(group, name, folders)
    return comment or (signature.title if signature else "")


def default_figures() -> dict[str, str]:
    """The figures that training draws of every run: name -> option, as configs/train.yaml lists them."""
    content = yaml.safe_load((CONFIGS / "train.yaml").read_text(encoding="utf-8"))
    pairs = [pair for entry in content["defaults"] if isinstance(entry, dict) for pair in entry.items()]
    place = f"figure@{FIGURES}."
    return {key.removeprefix(place): option for key, option in pairs if key.startswith(place)}


def is_default_figure(name: str, node: Mapping[str, object]) -> bool:
    """Whether the figure of this name is the one that training draws of every run."""
    option = default_figures().get(name)
    return option is not None and node_of("figure", option)[TARGET] == node[TARGET]
