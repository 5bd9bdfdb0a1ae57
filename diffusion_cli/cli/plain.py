"""Parts of Hydra's configurations as plain Python."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf


def tree(config: Any, **how: Any) -> dict[str, Any]:
    """A node of a configuration as nested dicts, unresolved unless resolve=True."""
    content = OmegaConf.to_container(config, **({"resolve": False} | how))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def line_words(config: DictConfig, kind: str = "task") -> list[str]:
    """The words of the command line, unresolved: `seed=${other}` is one of them, not an interpolation. kind: hydra for
    those that speak of Hydra, else task."""
    return [str(word) for word in tree(config.hydra.overrides)[kind]]


def own(config: DictConfig) -> DictConfig:
    """The job's own part of a composed configuration: all but the node `hydra`."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def job_part(config: DictConfig, complete: bool = True) -> dict[str, Any]:
    """The job's own part as plain Python, resolved; raises where a value is missing.

    complete: false leaves keys out whose value is missing.
    """
    content = tree(own(config), resolve=True, throw_on_missing=complete)
    return content if complete else _without_missing(content)


def _without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_missing(item) for key, item in value.items() if item != "???"}
    return value
