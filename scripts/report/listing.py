"""The list of scripts/report/list.yaml: which runs there are, which figures, and what each needs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PLACE = re.compile(
    r"\{(\w+/?)\}"
)  # {run}: its directory, {data}: a folder of data, {group/}: all runs of a group
DATA = "DIFFUSION_CLI_DATA"


@dataclass(frozen=True)
class Run:
    """One training or sweep: `words` of its command line, into `directory`."""

    name: str
    group: str
    words: tuple[str, ...]
    directory: str
    needs: tuple[str, ...] = ()
    problem: str = ""  # why it cannot be done

    @property
    def command(self) -> str:
        return shlex.join(["diffusion", *self.words])


@dataclass(frozen=True)
class Figure:
    """One figure, drawn by `words` into `directory`. says: what is to be seen. needs: names of runs."""

    name: str
    group: str
    words: tuple[str, ...]
    directory: str
    says: str
    needs: tuple[str, ...] = ()
    problem: str = ""
    provenance: str = ""  # see provenance.py

    @property
    def command(self) -> str:
        return shlex.join(
            ["diffusion", *(word for word in self.words if not word.startswith("hydra.run.dir="))]
        )


class Place(NamedTuple):
    """A directory, and the runs that must be there before it is used."""

    directory: str
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """The file as it stands: groups -> title, runs, figures; data -> where folders of data are found; recipe: a number
    that is raised by hand where the code changes what is drawn."""

    groups: Mapping[str, Any]
    data: Mapping[str, Any]
    recipe: int = 1

    @classmethod
    def read(cls, file: Path) -> Listing:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return cls(content["groups"], content["data"], content["recipe"])

    def items(self, only: Sequence[str] | None, budget: str, home: Path) -> list[Run | Figure]:
        """Runs and figures of all groups, or of these and the runs they borrow; in each group the runs first."""
        chosen = [name for name in self.groups if not only or name in only]
        places = {
            name: Place(str(home / budget / group / name), (name,))
            for group, content in self.groups.items()
            for name in content.get("runs", {})
        }
        for group, content in self.groups.items():
            places[f"{group}/"] = Place(str(home / budget / group), tuple(content.get("runs", {})))
        folders = {name: find(name, entry, home) for name, entry in self.data.items()}
        runs: dict[str, Run] = {}
        for group, content in self.groups.items():
            for name, entry in content.get("runs", {}).items():
                runs[name] = self._run(name, group, entry, budget, places, folders)
        figures = [
            self._figure(name, group, entry, budget, places, folders, home)
            for group in chosen
            for name, entry in self.groups[group].get("figures", {}).items()
        ]
        wanted = {name for run in runs.values() if run.group in chosen for name in (run.name, *run.needs)}
        wanted |= {name for figure in figures for need in figure.needs for name in (need, *runs[need].needs)}
        return [*(run for run in runs.values() if run.name in wanted), *figures]

    def _run(
        self, name: str, group: str, entry: Any, budget: str, places: Mapping[str, Place], folders: Any
    ) -> Run:
        command = command_of(entry)
        words, needs, problem = filled(entry, command, budget, places, folders)
        directory = places[name].directory
        into = f"hydra.{'sweep' if '-m' in words else 'run'}.dir={directory}"
        return Run(
            name, group, (command, *words, "threads=1", "resume=true", into), directory, needs, problem
        )

    def _figure(
        self,
        name: str,
        group: str,
        entry: Any,
        budget: str,
        places: Mapping[str, Place],
        folders: Any,
        home: Path,
    ) -> Figure:
        words, needs, problem = filled(entry, "plot", budget, places, folders)
        directory = str(home / "drawn" / name)
        words = ("plot", *words, "threads=1", f"hydra.run.dir={directory}")
        return Figure(name, group, words, directory, entry["says"], needs, problem)


def command_of(entry: Mapping[str, str]) -> str:
    """By which a run is made."""
    return "distill" if "distill" in entry else "train"


def filled(
    entry: Mapping[str, str], key: str, budget: str, places: Mapping[str, Place], folders: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """The words of an entry with runs and folders put in, the runs it needs, and what data are missing."""
    text = " ".join([entry[key], entry.get(budget, "")])
    names = list(dict.fromkeys(PLACE.findall(text)))
    missing = [folders[name][1] for name in names if name in folders and folders[name][0] is None]
    known = {name: folder or name.upper() for name, (folder, _) in folders.items()}
    known |= {name: place.directory for name, place in places.items()}
    needs = tuple(run for name in names if name in places for run in places[name].runs)
    return tuple(word.format_map(known) for word in text.split()), needs, missing[0] if missing else ""


def find(name: str, entry: Mapping[str, Any], home: Path) -> tuple[str | None, str]:
    """A folder of data, or None and where it was looked for: the first of `folders` that holds `holds`, below the data
    folder, or what `archive` unpacks to."""
    roots = [Path(root) for root in (os.environ.get(DATA),) if root]
    unpacked = home / "data" / name
    for folder in [*(root / one for root in roots for one in entry["folders"]), unpacked]:
        if (folder / entry["holds"]).is_dir():
            return str(folder), ""
    for root in roots:
        if (root / entry["archive"]).is_file():
            unpack(root / entry["archive"], unpacked)
            return str(unpacked), ""
    places = " or ".join([*(f"{one}/{entry['holds']}" for one in entry["folders"]), entry["archive"]])
    where = f"in {roots[0]}" if roots else f"anywhere: give the folder of the data by --data DIR or {DATA}"
    return None, f"no {places} {where}"


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive whole, or not at all."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        with tarfile.open(archive) as file:
            file.extractall(part, filter="data")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
