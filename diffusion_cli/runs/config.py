"""config.json: what a run is, written when it first starts and read by every command. (No torch, no Hydra.)

It holds the resolved configuration and, beside its keys, those of RECORD: the command, the option chosen of each group,
the words of the command line, and by what a finished run was extended. Each checkpoint has a copy, for when the file is lost.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs.atomic import LARGEST, read_json, write_json

log = logging.getLogger(__name__)
FILE = "config.json"
# Commands that leave a trained run.
TRAININGS = ("train", "distill")
CHECKPOINTS = "checkpoints"
# Keys of a dataset that say where its files are, which may have moved.
DATA_PLACES = ("path", "root")
# Files of which it has been said that they are lost.
_said: set[Path] = set()
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

    config: Config
    command: str = "train"
    choices: dict[str, str] = {}  # noqa: RUF012
    overrides: list[str] = []  # noqa: RUF012
    extensions: list[Facts] = []  # noqa: RUF012
    paths: dict[str, str] = {}  # noqa: RUF012

    @property
    def current(self) -> Config:
        """The configuration as the extensions have left it."""
        return self.config | (dict([length(self.extensions[-1])]) if self.extensions else {})

    @property
    def content(self) -> Facts:
        """As it is written."""
        return self.config | {key: getattr(self, key) for key in self._fields[1:]}


def length(config: Config) -> tuple[str, Any]:
    """What says how long is trained, and its value: steps, or epochs where these are not null."""
    key = "epochs" if config.get("epochs") is not None else "steps"
    return key, config.get(key)


def write_record(folder: Path, record: Record) -> None:
    """Writes config.json, whole or not at all."""
    write_json(folder / FILE, record.content)


def is_recorded(folder: Path) -> bool:
    """Whether anything says what the run in a directory is, config.json or a checkpoint; it need not be readable."""
    return not _is_lost(folder / FILE) or copy_in(folder) is not None


def restore(folder: Path) -> None:
    """Writes config.json anew where it is lost and a checkpoint has its copy."""
    if _is_lost(folder / FILE) and copy_in(folder) is not None:
        write_record(folder, read_record(folder))
        log.info("%s is written anew from its copy", folder / FILE)


def read_record(folder: Path, key: str = "run") -> Record:
    """The record of a run, which may be a stranger's: of config.json, or where that is lost of the newest checkpoint, saying
    so. UserError for `key` where there is none that can be read."""
    file = folder / FILE

    def refused(reason: str) -> UserError:
        return UserError(key, str(folder), f"{FILE} {reason}")

    copy = copy_in(folder) if _is_lost(file) else None
    if copy is not None:
        if file.resolve() not in _said:
            _said.add(file.resolve())
            log.warning("%s is lost; its copy in %s is taken", file, copy[0])
        return _checked(copy[1], refused)
    if (folder / ".hydra" / "config.yaml").is_file() and not file.exists():
        reason = f"has no {FILE}: it was made by an older version, whose runs are not read"
        raise UserError(key, str(folder), reason)
    try:
        return _checked(read_json(file), refused)
    except FileNotFoundError:
        raise refused("is missing") from None
    except OSError as error:
        raise refused(f"cannot be read ({type(error).__name__})") from None
    except ValueError as error:
        raise refused(str(error)) from None


def copy_in(folder: Path) -> tuple[Path, object] | None:
    """The newest checkpoint with a whole copy of the record, and that copy; None where there is none.

    Only what the copy itself is written in is read and verified here; the tensors are when they are loaded.
    """
    files = folder.glob(f"{CHECKPOINTS}/step_*.safetensors")
    for file in sorted(files, key=lambda file: (len(file.name), file.name), reverse=True):
        try:
            if not file.is_file():
                continue
            with file.open("rb") as stream:
                size = int.from_bytes(stream.read(8), "little")
                about = json.loads(stream.read(size))["__metadata__"] if size <= 4 * LARGEST else {}
            text = about["content"]
            if about["text_digest"] == digest_of(text):
                return file, json.loads(text)["record"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # none of ours, or damaged
            continue
    return None


def digest_of(text: str) -> str:
    """SHA-256 of a text: 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _is_lost(file: Path) -> bool:
    """Whether a file is missing or has nothing in it, as a crash of the machine may leave it."""
    try:
        if not file.exists():
            return True
        return file.is_file() and file.stat().st_size <= LARGEST and not file.read_bytes().strip(b"\0 \n")
    except OSError:
        return False


def _checked(content: object, refused: Callable[[str], UserError]) -> Record:
    """The record that this content is; raises what `refused` makes of the reason where it is none."""
    try:
        # what is read, not how it is written: a dollar may be \\u0024 there
        text = json.dumps(content)
    except RecursionError as error:
        raise refused(f"cannot be read ({type(error).__name__})") from None
    if OUTSIDE in text:
        raise refused("refers to values from outside (${...})")
    if not isinstance(content, dict):
        raise refused("is no config of a run")
    record = Record({name: value for name, value in content.items() if name not in Record._fields},
                    **{name: content[name] for name in Record._fields[1:] if name in content})  # fmt: skip
    whole = all(
        isinstance(getattr(record, name), type(value)) for name, value in Record._field_defaults.items()
    )
    extended = whole and all(isinstance(e, dict) and isinstance(length(e)[1], int) for e in record.extensions)
    if not (extended and "seed" in record.config):
        raise refused("is no config of a run")
    return record
