"""Files of options that may be a stranger's, judged before Hydra unfolds them."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from diffusion_cli.errors import UserError
from diffusion_cli.runs.atomic import bytes_of

MOST_FILES = 5000
LARGEST = 256 * 1024  # bytes; no file of options of ours was ever a tenth of it
DEEPEST = 32
OPENS = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken,
         yaml.FlowSequenceStartToken)  # fmt: skip
CLOSES = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def check_folder(folder: Path) -> None:
    """Refuses a folder of options with too many files, or with one that `check_yaml` refuses: UserError."""
    count = 0
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += len(names) + len(folders)
        if count > MOST_FILES:
            reason = f"holds more than {MOST_FILES} files; name a smaller folder"
            raise UserError("--config-dir", str(folder), reason)
        for file in (Path(where, name) for name in names if name.endswith((".yaml", ".yml"))):
            try:
                check_yaml(file)
            except yaml.YAMLError:
                # Hydra will say where, if this option is chosen at all
                pass
            except (ValueError, OSError) as error:
                raise UserError("--config-dir", str(file), str(error)) from None


def check_yaml(file: Path) -> None:
    """Refuses a file that is large or deep, and one with aliases: 230 bytes of them can take a minute to unfold.

    Raises ValueError, OSError (both with a reason that follows the file's name) or yaml.YAMLError.
    """
    try:
        text = bytes_of(file, LARGEST).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is no text") from None
    depth = 0
    for token in yaml.scan(text):
        depth += isinstance(token, OPENS) - isinstance(token, CLOSES)
        if depth > DEEPEST:
            raise ValueError("is nested too deeply")
        if isinstance(token, yaml.AliasToken):
            raise ValueError("has YAML aliases")
