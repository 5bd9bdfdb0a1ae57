"""config.json: what a run is, written when it first starts and read by every command. (No torch, no Hydra.)

It holds the resolved configuration and, beside its keys, those of RECORD: the command, the option chosen of each group,
the words of the command line, and by what a finished run was extended.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_cli.errors import UserError
from diffusion_cli.runs.atomic import write_json

FILE = "config.json"
# Commands that leave a trained run.
TRAININGS = ("train", "distill")
# Keys of a dataset that say where its files are, which may have moved.
DATA_PLACES = ("path", "root")
LARGEST = 2**20  # bytes; no config of ours was ever a hundredth of it
OUTSIDE = "${"  # would be looked up when OmegaConf reads it: no resolved configuration holds it


class Record(NamedTuple):
    """The content of config.json.

    config: the resolved configuration, a plain nested dict.
    command: that made the directory.
    choices: group -> the option chosen.
    overrides: the words of the command line.
    extensions: the later plans of a run that was continued, oldest first.
    paths: key -> the absolute path, of keys that name the data's files.
    """

    config: dict[str, Any]
    command: str = "train"
    choices: dict[str, str] = {}  # noqa: RUF012
    overrides: list[str] = []  # noqa: RUF012
    extensions: list[dict[str, Any]] = []  # noqa: RUF012
    paths: dict[str, str] = {}  # noqa: RUF012

    @property
    def current(self) -> dict[str, Any]:
        """The configuration as the extensions have left it."""
        return self.config | (dict([length(self.extensions[-1])]) if self.extensions else {})


def length(config: dict[str, Any]) -> tuple[str, Any]:
    """What says how long is trained, and its value: steps, or epochs where these are not null."""
    key = "epochs" if config.get("epochs") is not None else "steps"
    return key, config.get(key)


def write_record(folder: Path, record: Record) -> None:
    """Writes config.json, whole or not at all."""
    write_json(folder / FILE, record.config | {key: getattr(record, key) for key in Record._fields[1:]})


def read_record(folder: Path, key: str = "run") -> Record:
    """The record of a run, which may be a stranger's. UserError for `key` where there is none that can be read."""
    file = folder / FILE

    def refused(reason: str) -> UserError:
        return UserError(key, str(folder), f"{FILE} {reason}")

    if (folder / ".hydra" / "config.yaml").is_file() and not file.exists():
        raise UserError(
            key, str(folder), f"has no {FILE}: it was made by an older version, whose runs are not read"
        )
    if not file.is_file():  # a pipe would be waited for without end
        raise refused("is missing" if not file.exists() else "is no ordinary file")
    try:
        if file.stat().st_size > LARGEST:
            raise refused(f"is larger than {LARGEST >> 10} kB")
        content = json.loads(file.read_text(encoding="utf-8"))
        # what is read, not how it is written: a dollar may be \\u0024 there
        text = json.dumps(content)
    except (OSError, ValueError, RecursionError) as error:
        raise refused(f"cannot be read ({type(error).__name__})") from None
    if OUTSIDE in text:
        raise refused("refers to values from outside (${...})")
    if not isinstance(content, dict):
        raise refused("is no config of a run")
    record = Record({name: value for name, value in content.items() if name not in Record._fields},
                    **{name: content[name] for name in Record._fields[1:] if name in content})  # fmt: skip
    kinds = (
        (record.command, str),
        (record.choices, dict),
        (record.overrides, list),
        (record.extensions, list),
        (record.paths, dict),
    )
    extended = all(isinstance(e, dict) and isinstance(length(e)[1], int) for e in record.extensions)
    if not (all(isinstance(value, kind) for value, kind in kinds) and extended and "seed" in record.config):
        raise refused("is no config of a run")
    return record
