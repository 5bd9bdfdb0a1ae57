"""Files of options that may be a stranger's, judged before Hydra unfolds them."""

from __future__ import annotations

from pathlib import Path

import yaml

from diffusion_cli.runs.atomic import bytes_of

LARGEST = 256 * 1024  # bytes; no file of options of ours was ever a tenth of it
DEEPEST = 32
OPENS = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken,
         yaml.FlowSequenceStartToken)  # fmt: skip
CLOSES = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


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
