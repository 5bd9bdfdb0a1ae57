"""What a figure was made by: kept in its PNG, and compared with the list by scripts/reproduce --check.

It is a digest of the figure's entry in the list with the defaults of its figure, of the entries of the runs that it needs with
their resolved configurations, and of the list's recipe number, raised by hand where the code changes what is drawn.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from listing import PLACE, Listing, command_of
from PIL import Image

KEY = "provenance"
BUDGETS = ("quick", "full")


def provenances(listing: Listing, budget: str) -> dict[str, str]:
    """Name of each figure -> its digest with this budget, 16 hex digits; the same on every machine."""
    found = {}
    runs = {name: (group, entry) for group, content in listing.groups.items()
            for name, entry in content.get("runs", {}).items()}  # fmt: skip
    with composing() as composed:
        resolved = {
            name: [
                words := words_of(entry, command := command_of(entry), budget),
                composed(command, first_job(words)),
            ]
            for name, (_, entry) in runs.items()
        }
    for content in listing.groups.values():
        for name, entry in content.get("figures", {}).items():
            needed = [*named(entry, "plot", budget, runs)]
            for run in needed:
                # of a student also its teacher: the list grows while it is gone through
                of = runs[run][1]
                needed += [name for name in named(of, command_of(of), budget, runs) if name not in needed]
            words = words_of(entry, "plot", budget)
            about = [listing.recipe, words, defaults_of(words), {run: resolved[run] for run in needed}]
            text = json.dumps(about, sort_keys=True, default=str)
            found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def named(entry: Mapping[str, str], key: str, budget: str, runs: Mapping[str, tuple[str, Any]]) -> list[str]:
    """The runs that the words of an entry name."""
    places = PLACE.findall(f"{entry[key]} {entry.get(budget, '')}")
    return [run for place in places for run, (group, _) in runs.items() if place in (run, f"{group}/")]


def words_of(entry: Mapping[str, str], key: str, budget: str) -> list[str]:
    """The words of an entry, with the names of runs and folders in place of where they are."""
    return PLACE.sub(
        lambda match: match[1].strip("/").upper(), f"{entry[key]} {entry.get(budget, '')}"
    ).split()


def first_job(words: list[str]) -> list[str]:
    """The words of the first job of a sweep, which stands for all; a single run's own. The exact denoiser stands for a
    teacher, who need not be trained yet."""
    words = ["run=exact" if word.startswith("run=") else word for word in words]
    if "-m" not in words:
        return words
    return [word if "[" in word else word.split(",")[0] for word in words if word != "-m"]


def defaults_of(words: list[str]) -> dict[str, Any]:
    """The arguments of the figure that these words draw, with their defaults."""
    from diffusion_cli.options.check import arguments_of
    from diffusion_cli.options.files import node_of

    node = node_of("figure", next(word for word in words if word.startswith("figure=")).partition("=")[2])
    arguments = arguments_of("figure", node["_target_"]) or {}
    return {name: argument.default for name, argument in arguments.items()} | node


@contextmanager
def composing() -> Iterator[Callable[[str, list[str]], dict[str, Any]]]:
    """composed(command, words): the configuration of a line, plain, as the command is given it. Hydra's state is put back."""
    from hydra._internal.utils import create_config_search_path
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime
    from hydra.types import RunMode

    from diffusion_cli.cli.gate import Guarded
    from diffusion_cli.cli.plain import job_part
    from diffusion_cli.options.files import CONFIGS

    before = Singleton.get_state()
    loader = Guarded(create_config_search_path(str(CONFIGS)))

    def composed(command: str, words: list[str]) -> dict[str, Any]:
        JobRuntime.instance().set("name", command)
        return job_part(loader.load_configuration(command, words, RunMode.RUN))

    try:
        yield composed
    finally:
        Singleton.set_state(before)


def stamped(png: bytes, digest: str) -> bytes:
    """A PNG with its provenance as one more text; no pixel is touched."""
    text = f"{KEY}\0{digest}".encode("latin-1")
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]


def check(listing: Listing, report: Path) -> dict[str, str]:
    """Name of each figure in `report` that is not what the list says -> why not."""
    names = [name for content in listing.groups.values() for name in content.get("figures", {})]
    found = {name: digest_of(file) for name in names if (file := report / f"{name}.png").is_file()}
    wrong = {name: "says nothing of what it was made by" for name, digest in found.items() if digest is None}
    marks = [provenances(listing, budget) for budget in BUDGETS if len(wrong) < len(found)]
    reason = "its entry, a configuration or the recipe has changed since it was drawn"
    return wrong | {name: reason for name, digest in found.items()
                    if digest is not None and all(digest != mark[name] for mark in marks)}  # fmt: skip


def digest_of(file: Path) -> str | None:
    """The provenance that a PNG carries, or None."""
    with Image.open(file, formats=("PNG",)) as image:
        return image.text.get(KEY)
