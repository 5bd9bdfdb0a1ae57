"""What Hydra itself may be given, before it acts on it.

Hydra builds callbacks, loggers, launchers and sweepers of its own `hydra` node before any code of ours runs, so a
file of options could have anything called there. Therefore every configuration that Hydra composes, for a run, for a
job of a sweep or to be shown, passes here first:

* a file that is not ours says nothing of Hydra: its node is what our own files and the command line make it;
* what the line says of it names no class or function but Hydra's own and Python's plain log handlers;
* a folder of options holds no file that unfolds to something larger than it is.

Here, too, what the files say is completed (compose.py) before the line's words are applied: in
`_compose_config_from_defaults_list`, the only place of Hydra between the two. tests/test_composing.py fails when Hydra
no longer calls it there.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra._internal.hydra as hydra_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from diffusion_cli.cli import compose
from diffusion_cli.cli.node import check_node, leaves_of
from diffusion_cli.cli.plain import tree
from diffusion_cli.cli.strangers import check_folder
from diffusion_cli.errors import UserError
from diffusion_cli.options.files import CONFIGS, FOLDERS

REMEMBERED = 200  # configurations


class Guarded(ConfigLoaderImpl):
    """Hydra's composer of configurations, behind the gate; a launcher takes it along to its workers.

    It composes the same only once: a job of a sweep is asked for by our plan, by Hydra's sweeper and by its launcher, and
    each takes a quarter of a second.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.composed: dict[tuple[object, ...], DictConfig] = {}
        self.words: list[str] | None = None
        self.found: compose.Found | None = None

    def __getstate__(self) -> dict[str, object]:
        # a worker has no use for the other jobs
        return {**self.__dict__, "composed": {}}

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        line = (config_name, tuple(overrides), run_mode, from_shell, validate_sweep_overrides)
        if line not in self.composed:
            if len(self.composed) >= REMEMBERED:
                self.composed.clear()
            self.composed[line] = self._compose(*line)
        return copy.deepcopy(self.composed[line])

    def _compose(
        self, config_name: str | None, line: tuple[str, ...], run_mode: RunMode, *more: bool
    ) -> DictConfig:
        overrides = [*line]
        foreign = _foreign_folders(self, overrides)
        for folder in foreign:
            check_folder(folder)
        if foreign:
            _refuse_searchpath(self, config_name)
        FOLDERS[:] = foreign
        self.words, self.found = overrides, None
        try:
            config = super().load_configuration(config_name, overrides, run_mode, *more)
        finally:
            self.words = None
        if self.found is not None:
            with read_write(config.hydra), open_dict(config.hydra.runtime.choices):
                if self.found.run is not None:
                    config.run = self.found.run
                config.hydra.runtime.choices.update(self.found.choices)
        for group, option in tree(config.hydra.runtime.choices).items():
            if option is not None and (str(option).startswith(("/", "_")) or ".." in str(option).split("/")):
                raise UserError(group, option, "must be the name of an option, not a way to a file")
        check_node(tree(config.hydra))
        return config

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        result = super()._load_single_config(default, repo)
        folder = _folder(result.path)
        content = result.config
        if folder not in (None, CONFIGS) and isinstance(content, DictConfig) and "hydra" in content:
            node = tree(content)["hydra"]
            key, value = next(leaves_of(node, "hydra"), ("hydra", node))
            raise UserError(key, value, "a file of options says nothing of Hydra; say it on the command line")
        return result

    def get_group_options(self, group_name: str, *more: Any, **how: Any) -> list[str]:
        """The options of a group: those that begin with _ are bases of others, and no choice."""
        return [name for name in super().get_group_options(group_name, *more, **how) if name[0] != "_"]

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        config = super()._compose_config_from_defaults_list(defaults, repo)
        if self.words is not None:
            self.found = compose.complete_config(config, compose.command_name(), self.words)
        return config


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """While the block runs, what is begun by Hydra composes behind the gate, and a single command once."""
    before = hydra_module.ConfigLoaderImpl, hydra_module.Hydra.get_mode
    setattr(hydra_module, "ConfigLoaderImpl", Guarded)  # noqa: B010
    setattr(hydra_module.Hydra, "get_mode", _mode)  # noqa: B010
    try:
        yield
    finally:
        setattr(hydra_module, "ConfigLoaderImpl", before[0])  # noqa: B010
        setattr(hydra_module.Hydra, "get_mode", before[1])  # noqa: B010


def _mode(hydra: hydra_module.Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """`hydra.mode` where the line says it, else None. Hydra composes the whole configuration to find out, but behind the
    gate no file can say it. What is no mode, or no word of a line, is refused when the configuration is composed."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        modes = [str(override.value()) for override in parsed if override.key_or_group == "hydra.mode"]
        return RunMode[modes[-1]] if modes else None
    except (HydraException, KeyError):
        return None


def _folder(path: str) -> Path | None:
    """The folder that an entry of Hydra's search path means; None for packages (Hydra's and its plugins')."""
    return None if "://" in path.removeprefix("file://") else Path(path.removeprefix("file://"))


def _foreign_folders(loader: ConfigLoaderImpl, overrides: list[str]) -> list[Path]:
    """The folders of options that are not ours: of --config-dir, --config-path and hydra.searchpath."""
    places: list[tuple[str, object]] = []
    for entry in loader.config_search_path.get_path():
        # packages are Hydra's own and its plugins', unless the line names one
        if entry.provider == "main" or _folder(entry.path) is not None:
            places.append(("--config-path", entry.path))
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.get_key_element() == "hydra.searchpath":
            given = override.value()
            places += [
                (override.get_key_element(), path) for path in (given if isinstance(given, list) else [given])
            ]
    folders = []
    for key, path in places:
        folder = _folder(path) if isinstance(path, str) else None
        if folder is None:
            raise UserError(key, path, "only a folder; to look into a package runs its code")
        if folder != CONFIGS:
            folders.append(folder)
    return folders


def _refuse_searchpath(loader: ConfigLoaderImpl, config_name: str | None) -> None:
    primary = loader.repository.load_config(config_name) if config_name else None
    if primary is not None and OmegaConf.select(primary.config, "hydra.searchpath") is not None:
        raise UserError("hydra.searchpath", ..., f"is not for the file {config_name}; use --config-dir")
