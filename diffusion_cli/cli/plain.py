"""Parts of Hydra's configurations as plain Python."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from diffusion_cli.ranges import Config


def tree(config: object, resolve: bool = False, throw_on_missing: bool = False) -> Config:
    """A node of a configuration as nested dicts, unresolved unless resolve=True."""
    content = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=throw_on_missing)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def line_words(config: DictConfig, kind: str = "task") -> list[str]:
    """The words of the command line, unresolved: `seed=${other}` is one of them, not an interpolation. kind: hydra for
    those that speak of Hydra, else task."""
    return [str(word) for word in tree(config.hydra.overrides)[kind]]


def is_said(config: DictConfig, key: str, kind: str = "task") -> bool:
    """Whether one of these words sets a key."""
    return any(word.lstrip("+").startswith(f"{key}=") for word in line_words(config, kind))


def say_more(config: DictConfig, word: str, kind: str = "task") -> None:
    """Adds a word to the line, of which the jobs of a sweep are composed."""
    set_hydra(config, f"overrides.{kind}", [*line_words(config, kind), word])


def set_hydra(config: DictConfig, key: str, value: object) -> None:
    """Sets a key of the node `hydra`, which is read-only otherwise."""
    with read_write(config.hydra), open_dict(config.hydra):
        OmegaConf.update(config.hydra, key, value)


def quoted(text: str) -> str:
    """A text as Hydra reads it, whatever it holds."""
    # within quotes a backslash means itself, but before a quote
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


@contextlib.contextmanager
def current(config: DictConfig) -> Iterator[None]:
    """Make `${hydra:...}` resolve, which Hydra itself does only when the job begins."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before


def own(config: DictConfig) -> DictConfig:
    """The job's own part of a composed configuration: all but the node `hydra`."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def job_part(config: DictConfig, complete: bool = True) -> Config:
    """The job's own part as plain Python, resolved; raises where a value is missing.

    complete: false leaves keys out whose value is missing.
    """
    content = tree(own(config), resolve=True, throw_on_missing=complete)
    return content if complete else _without_missing(content)


def _without_missing(content: Config) -> Config:
    return {
        key: _without_missing(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value != "???"
    }
