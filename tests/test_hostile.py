"""What strangers send: nothing of it is executed, waited for or written elsewhere."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from diffusion_cli.cli import claim, gate, strangers
from diffusion_cli.cli.node import OURS, check_node
from diffusion_cli.errors import UserError
from diffusion_cli.options.build import build_component
from diffusion_cli.options.check import check_config
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.directory import RunDirectory
from trials import hostile
from trials.attacks import ATTACKS

# One of each kind goes all the way here, through a process of its own; scripts/faults hostile tries them all.
CHOSEN = ("line: log class", "option: callback by package", "run: class behind ours", "run: pickle",
          "resume: log is a link")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all attacks: the honest run that they tamper with is trained once."""
    return tmp_path_factory.mktemp("attacks")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", CHOSEN)
def test_an_attack_fails(folder: Path, name: str) -> None:
    (attack,) = (attack for attack in ATTACKS if attack.name == name)
    assert hostile.attempt(attack, folder / str(CHOSEN.index(name)))[0] == []


def test_there_are_many_attacks_of_different_names() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 60


# The gate before Hydra.


@pytest.mark.parametrize(
    ("node", "key"),
    [
        ({"callbacks": {"checked": {"_target_": "evil.X"}}}, "hydra.callbacks"),
        ({"callbacks": {**OURS, "x": {"_target_": "os.system"}}}, "hydra.callbacks.x._target_"),
        ({"callbacks": "${x}"}, "hydra.callbacks"),
        ({"job_logging": {"handlers": {"a": {"()": "evil.x"}}}}, "hydra.job_logging.handlers.a.()"),
        ({"job_logging": {"handlers": {"a": {"class": "${x}"}}}}, "hydra.job_logging.handlers.a.class"),
        ({"job_logging": "${x}"}, "hydra.job_logging"),
        ({"hydra_logging": {"formatters": {"a": {"class": "os.x"}}}}, "hydra.hydra_logging.formatters.a.class"),
        ({"hydra_logging": {"handlers": {"a": {"stream": "ext://os"}}}}, "hydra.hydra_logging.handlers.a.stream"),
        ({"sweeper": {"sampler": {"_target_": "os.system"}}}, "hydra.sweeper.sampler._target_"),
        ({"sweeper": {"sampler": {"_target_": "optuna.samplers.os.system"}}}, "hydra.sweeper.sampler._target_"),
        ({"sweeper": {"custom_search_space": "evil.configure"}}, "hydra.sweeper.custom_search_space"),
        ({"job": {"env_set": {"DIFFUSION_CLI_TRUST": "evil"}}}, "hydra.job.env_set.DIFFUSION_CLI_TRUST"),
        ({"output_subdir": "../x"}, "hydra.output_subdir"),
        ({"output_subdir": "/etc"}, "hydra.output_subdir"),
        ({"job": {"name": "a/b"}}, "hydra.job.name"),
        ({"sweep": {"subdir": "../x"}}, "hydra.sweep.subdir"),
        ({"sweep": {"subdir": "/x"}}, "hydra.sweep.subdir"),
    ],
)  # fmt: skip
def test_a_node_that_would_call_something_is_refused(node: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as error:
        check_node(node)
    assert error.value.key == key


def test_what_hydra_and_its_plugins_bring_passes() -> None:
    check_node(
        {
            "callbacks": OURS,
            "job_logging": {"handlers": {"file": {"class": "logging.FileHandler", "filename": "${x}.log"}}},
            "hydra_logging": {"handlers": {"console": {"stream": "ext://sys.stdout"}}},
            "launcher": {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"},
            "sweeper": {"sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 1}},
            "job": {"name": "train", "env_set": {"OMP_NUM_THREADS": "1"}},
            "output_subdir": ".hydra",
            "sweep": {"subdir": "${hydra:job.num}"},
        }
    )


def test_ours_is_what_our_file_says() -> None:
    file = gate.CONFIGS / "hydra" / "ours.yaml"
    assert yaml.safe_load(file.read_text())["callbacks"] == OURS


# Files that may be a stranger's.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: " + "[" * 40 + "]" * 40, "deeply"),
        ("\n".join("  " * depth + "a:" for depth in range(40)), "deeply"),
        ("a: " + "x" * 2**18, "larger than 256 kB"),
        ("a: \xff\xfe", "no text"),
    ],
)
def test_options_that_unfold_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=reason):
        strangers.check_yaml(tmp_path / "a.yaml")


def test_honest_options_pass(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\nb: ${a}\nc: {d: [${b}, ' * & ']}\ne: $HOME")
    strangers.check_yaml(tmp_path / "a.yaml")


def test_a_config_is_read_as_it_is_and_looks_nowhere_else(tmp_path: Path) -> None:
    record = run_config.Record(
        {"seed": 0, "a": {"b": [1, None, "é", 1.5]}}, "train", {"model": "mlp"}, ["seed=0"]
    )
    run_config.write_record(tmp_path, record)
    assert run_config.read_record(tmp_path) == record
    # in whatever way it is written: the dollar by its number is a dollar
    for text in ('"${oc.env:HOME}"', '"\\u0024{oc.env:HOME}"', '{"${a}": 1}', '["a", {"b": "x${now:%Y}"}]'):
        (tmp_path / "config.json").write_text('{"seed": 0, "x": ' + text + "}")
        with pytest.raises(UserError, match="refers to values from outside"):
            run_config.read_record(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    signal.alarm(20)
    try:
        for name in ("config.json", "checkpoints/step_00000001.safetensors", "summary.json", "a.yaml"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match="no ordinary file"):
            run_config.read_record(tmp_path)
        with pytest.raises(ValueError, match="no ordinary file"):
            strangers.check_yaml(tmp_path / "a.yaml")
        assert RunDirectory(tmp_path).checkpoints() == [] and RunDirectory(tmp_path).summary == {}
    finally:
        signal.alarm(0)


# What is built.


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("dataset", "diffusion_cli.dataset.download.fetch"),  # a function: it would write where it is told
        ("dataset", "diffusion_cli.dataset.cache.cached"),
        ("dataset", "diffusion_cli.dataset.plane.np.load"),
        ("model", "diffusion_cli.model.embedding.torch.load"),
        ("model", "diffusion_cli.model.mlp.nn.Linear"),
        ("figure", "diffusion_cli.figures.recipes.samples.np.save"),
        ("logger", "diffusion_cli.runs.logger.Path"),
    ],
)
def test_what_only_lies_in_our_rooms_is_no_component(group: str, target: str) -> None:
    message = f"{group}._target_={target}: (is not a component|cannot be imported)"
    with pytest.raises(UserError, match=message):
        build_component({group: {"_target_": target}}, group)


def test_a_function_of_ours_is_refused_before_anything_is_imported() -> None:
    with pytest.raises(UserError, match=r"download\.fetch: is not a component of dataset"):
        check_config({"dataset": {"_target_": "diffusion_cli.dataset.download.fetch", "radius": 1.0}})


def test_a_foreign_module_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="not one of ours"):
        build_component({"model": {"_target_": "evil_module.X"}}, "model")


def test_a_link_in_a_run_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="symbolic link"):
        claim.claim_directory("hydra.run.dir", str(tmp_path / "run"), exclusive=False)
    (tmp_path / "run" / ".lock").unlink()
    (tmp_path / "to_run").symlink_to(tmp_path / "run")  # one's own name for a directory is no attack
    assert claim.claim_directory("hydra.run.dir", str(tmp_path / "to_run"), exclusive=False)
    claim.keep()
