"""Hydra's composer behind the gate; and each place of Hydra's that is not its public interface, on which we rely."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra._internal.hydra as hydra_module
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from diffusion_cli.__main__ import main
from diffusion_cli.cli import compose, gate, sweep
from diffusion_cli.cli.gate import REMEMBERED, Guarded
from diffusion_cli.errors import UserError
from diffusion_cli.options.files import CONFIGS

CLI = Path(gate.__file__).parent


@pytest.fixture
def runtime() -> Iterator[None]:
    """As `diffusion train` sets it; and as before afterwards."""
    before = Singleton.get_state()
    JobRuntime.instance().set("name", "train")
    yield
    Singleton.set_state(before)


@pytest.fixture
def loader(runtime: None, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """A composer that counts what it composes."""
    loader = Guarded(create_config_search_path(str(CONFIGS)))
    loader.count = 0
    composing = loader._compose

    def counted(*given, **more):
        loader.count += 1
        return composing(*given, **more)

    monkeypatch.setattr(loader, "_compose", counted)
    return loader


def unresolved(config: DictConfig) -> Any:
    """What it says: resolved, the name of a directory holds the second in which that is done."""
    return OmegaConf.to_container(config, resolve=False)


def test_what_was_composed_once_is_remembered_and_not_shared(loader: Guarded) -> None:
    first, second = (loader.load_configuration("train", ["seed=3"], RunMode.RUN) for _ in range(2))
    before = unresolved(second)
    assert loader.count == 1 and unresolved(first) == before and first.seed == 3
    with open_dict(first):
        first.seed, first.model.width = 4, 5
    third = loader.load_configuration("train", ["seed=3"], RunMode.RUN)
    assert loader.count == 1 and unresolved(third) == before and third.seed == 3
    assert loader.load_configuration("train", ["seed=4"], RunMode.RUN).seed == 4 and loader.count == 2


def test_a_sweep_without_end_is_not_remembered_whole(loader: Guarded) -> None:
    config = loader.load_configuration("train", [], RunMode.RUN)
    loader.composed = {(number,): config for number in range(REMEMBERED)}
    loader.load_configuration("train", ["seed=1"], RunMode.RUN)
    assert len(loader.composed) == 1


def test_workers_get_the_composer_without_the_other_jobs() -> None:
    loader = Guarded(create_config_search_path(str(CONFIGS)))
    loader.composed["a"] = "b"
    # by the same way as pickle's
    assert copy.copy(loader).composed == {} and loader.composed == {"a": "b"}


# What the files say is completed, then the words of the line are applied.


def test_every_key_is_there_with_its_default_and_the_line_wins(
    composed: Callable[..., dict[str, Any]],
) -> None:
    config = composed("train", "sampler=ddim", "sampler.eta=0.5", "ema.decay=0.5")
    assert config["sampler"]["eta"] == 0.5 and config["ema"] == {"decay": 0.5}
    assert config["schedule"]["T"] == 50 and config["checkpoint"] == {"every": 1000, "keep": 3}
    # a dataset's file before the constructors' defaults
    assert composed("train", "dataset=gmm2px")["guidance"]["label_dropout"] == 0.1
    assert composed("train")["guidance"]["label_dropout"] == 0.0


def test_a_figure_of_the_users_own_is_completed_too(composed: Callable[..., dict[str, Any]]) -> None:
    config = composed("train", "+figure@figures.extra=density")
    assert config["figures"]["extra"].get("_target_") or config["figures"]["extra"]["figure"]["_target_"]


def test_what_a_key_refers_to_is_found_after_all_words_are_applied(
    composed: Callable[..., dict[str, Any]],
) -> None:
    assert composed("train", "n=${steps}", "steps=7")["n"] == 7


def test_a_value_in_the_place_of_a_section_stays_for_the_check(loader: Guarded) -> None:
    assert loader.load_configuration("train", ["ema=3"], RunMode.RUN).ema == 3


def test_nothing_is_filled_in_below_hydra(loader: Guarded) -> None:
    plain = ConfigLoaderImpl(create_config_search_path(str(CONFIGS))).load_configuration(
        "train", [], RunMode.RUN
    )
    assert unresolved(loader.load_configuration("train", [], RunMode.RUN).hydra) == unresolved(plain.hydra)


# Hydra's inside. When one of these fails, Hydra has changed: see whether the gate still stands.

USED = {
    "gate.py": {
        "hydra._internal.hydra",
        "hydra._internal.config_loader_impl",
        "hydra._internal.config_repository",
    },
    "sweep.py": {"hydra._internal.core_plugins.basic_sweeper"},
}
PATCHED = {"gate.py": {("hydra_module", "ConfigLoaderImpl"), ("hydra_module.Hydra", "get_mode")}}


def test_nothing_else_of_hydra_s_inside_is_used() -> None:
    used: dict[str, set[str]] = {}
    patched: dict[str, set[tuple[str, str]]] = {}
    for file in CLI.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if "._" in name:
                    used.setdefault(file.name, set()).add(name)
            if file.parent == CLI and isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
                patched.setdefault(file.name, set()).add(
                    (ast.unparse(node.args[0]), ast.literal_eval(node.args[1]))
                )
    assert used == USED and patched == PATCHED


def test_hydra_composes_behind_the_gate_while_it_is_closed(runtime: None) -> None:
    """hydra._internal.hydra.ConfigLoaderImpl is the name by which Hydra makes its composer."""

    def loader_of_hydra() -> Any:
        GlobalHydra.instance().clear()
        path = create_config_search_path(str(CONFIGS))
        return hydra_module.Hydra.create_main_hydra2("train", path).config_loader

    with gate.closed():
        assert type(loader_of_hydra()) is Guarded
    assert type(loader_of_hydra()) is ConfigLoaderImpl is hydra_module.ConfigLoaderImpl


def test_the_gate_opens_again_after_an_error() -> None:
    before = hydra_module.Hydra.get_mode
    with pytest.raises(KeyError), gate.closed():
        raise KeyError
    assert hydra_module.ConfigLoaderImpl is ConfigLoaderImpl
    assert hydra_module.Hydra.get_mode is before


def test_what_the_gate_overrides_is_there() -> None:
    for name in ("load_configuration", "_load_single_config", "_compose_config_from_defaults_list"):
        ours, theirs = (
            inspect.signature(getattr(loader, name)).parameters for loader in (Guarded, ConfigLoaderImpl)
        )
        assert list(ours) == list(theirs), name


def test_completing_happens_between_the_files_and_the_words(
    loader: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each configuration, with all files in it, Hydra's node too, and none of the line's words."""
    seen: list[Any] = []

    def look(config: DictConfig, command: str, words: list[str]) -> None:
        seen.append(
            (
                config.seed if "seed" in config else None,
                config.sampler.get("_target_"),
                "hydra" in config,
                words,
            )
        )
        real(config, command, words)

    real = compose.complete_config
    monkeypatch.setattr(compose, "complete_config", look)
    line = ["sampler=ddim", "seed=7", "+hydra.job.env_set.A=1"]
    config = loader.load_configuration("train", line, RunMode.RUN)
    # a group's choice is a file; a key's value is a word
    assert seen == [(None, "diffusion_cli.sampler.DDIM", True, line)] and config.seed == 7


def test_each_file_is_seen_with_its_place(loader: Guarded, tmp_path: Path) -> None:
    """Only what ours says of Hydra counts; what another folder's file says is refused as it is loaded."""
    seen: list[str] = []
    single = loader._load_single_config

    def look(default: Any, repo: Any) -> Any:
        result = single(default, repo)
        seen.append(result.path)
        return result

    loader._load_single_config = look
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("_target_: diffusion_cli.dataset.plane.Circle\n")
    (tmp_path / "dataset" / "bad.yaml").write_text(
        "# @package _global_\ndefaults: [/dataset/circle@dataset]\nhydra: {verbose: true}\n"
    )
    loader.config_search_path.prepend("theirs", f"file://{tmp_path}", anchor="schema")
    loader.repository.initialize_sources(loader.config_search_path)
    loader.load_configuration("train", ["dataset=mine"], RunMode.RUN)
    folders = {gate._folder(path) for path in seen}
    assert folders == {None, CONFIGS, tmp_path}
    with pytest.raises(UserError) as error:
        loader.load_configuration("train", ["dataset=bad"], RunMode.RUN)
    assert str(error.value).startswith("hydra.verbose=true: a file of options says nothing of Hydra")


def test_the_basic_sweeper_makes_the_lines_that_are_judged(runtime: None, loader: Guarded) -> None:
    line = OverridesParser.create().parse_overrides(["a=1,2", "b='x y'", "~c", "+d=range(2)"])
    (lines,) = BasicSweeper.split_arguments(line, None)
    assert len(lines) == 4 and [words[0] for words in lines] == ["a=1", "a=1", "a=2", "a=2"]
    assert [words[3] for words in lines] == ["+d=0", "+d=1"] * 2 and {words[1] for words in lines} == {
        "b='x y'"
    }
    config = loader.load_configuration("train", [], RunMode.MULTIRUN)
    assert config.hydra.sweeper._target_ == sweep.BASIC
    assert config.hydra.launcher._target_.startswith("hydra._internal.")


def test_a_sweep_composes_each_of_its_jobs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though our plan, Hydra's sweeper, which judges its batches, and the launcher all ask for it."""
    composing, lines = Guarded._compose, []
    monkeypatch.chdir(tmp_path)
    task = types.ModuleType("diffusion_cli.commands.train")
    task.main, task.check = lambda *_: None, lambda *_: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, task.__name__, task)
    monkeypatch.setattr(Guarded, "_compose", lambda *given: lines.append(given[2]) or composing(*given))
    assert main(["train", "-m", "seed=0,1", "hydra.sweep.dir=a"]) == 0
    assert [line[-1] for line in lines if "seed=0,1" not in line] == ["seed=0", "seed=1"]


def test_a_single_command_is_composed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    composed, composing = [], Guarded._compose
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Guarded, "_compose", lambda self, *line: composed.append(line) or composing(self, *line)
    )
    monkeypatch.setattr("diffusion_cli.commands.train.main", lambda *_: None)
    assert main(["train", "steps=3"]) == 0
    assert len(composed) == 1


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        ([], None),
        (["seed=1,2", "hydra.mode=MULTIRUN"], RunMode.MULTIRUN),
        (["hydra.mode=MULTIRUN", "hydra.mode=RUN"], RunMode.RUN),
        (["hydra.mode=x"], None),
        (["seed=[", "hydra.mode=RUN"], None),
    ],
)
def test_the_mode_is_the_one_that_hydra_finds(loader: Guarded, line: list[str], mode: RunMode | None) -> None:
    hydra = hydra_module.Hydra("train", loader)
    theirs = hydra.get_mode("train", line)
    with gate.closed():
        assert hydra.get_mode("train", line) == theirs == mode
