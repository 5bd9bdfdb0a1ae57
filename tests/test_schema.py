"""The table of keys, and the gate on `_target_`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from diffusion_cli.errors import UserError
from diffusion_cli.options import schema

CONFIGS = Path(__file__).parents[1] / "configs"


def nested(key: str, value: Any) -> dict[str, Any]:
    """{"a": {"b": value}} for "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def refused(config: dict[str, Any]) -> UserError:
    with pytest.raises(UserError) as caught:
        schema.check(config)
    return caught.value


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("seed", [0, 2**63 - 1], [-1, 2**63, True, 1.0, "1", None]),
        ("steps", [1], [0, -3, 1.5, False, "many", None]),
        ("batch_size", [1], [0, float("nan")]),
        ("n", [1], [0]),
        (
            "device",
            ["auto", "cpu", "cuda", "cuda:7", "mps"],
            ["gpu", "cuda:N", "cuda:", "cuda:x", "CPU", 0, None],
        ),
        ("threads", [None, 1], [0, "all"]),
        ("precision", ["auto", "fp32", "bf16"], ["fp16", 32]),
        ("resume", [True, False], [1, "yes", None]),
        ("label", [None, 3, [0, 1]], [-1, [], [0, "a"], "cat", True]),
        ("optimizer.lr", [1e-3, 1], [0, -1, float("nan"), float("inf"), 10**400, "fast", True]),
        ("optimizer.betas", [[0.9, 0.999], (0, 0)], [[0.9], [0.9, 1.0], 0.9, [0.9, -0.1], "ab"]),
        ("optimizer.weight_decay", [0, 0.1], [-0.1]),
        ("optimizer.warmup", [0, 10], [-1, 0.5]),
        ("optimizer.clip", [None, 1], [0, -1]),
        ("optimizer.decay", ["constant", "cosine"], ["linear"]),
        ("ema.decay", [0, 0.999], [1, -0.1]),
        ("schedule.T", [1, 1000], [0, 2.5, "T"]),
        ("schedule.beta_start", [1e-4], [0, 1, -1]),
        ("schedule.sigma_min", [0.01], [0, float("inf")]),
        ("sampler.steps", [None, 10], [0]),
        ("sampler.eta", [None, 0, 1], [1.5, -0.1]),
        ("guidance.w", [None, -1, 3.5], [float("nan"), "strong"]),
        ("guidance.label_dropout", [0, 0.1], [1, -1]),
        ("dataset.jitter", [0, 0.1], [-0.1]),
        ("dataset.n", [None, 1], [0]),
        ("stages.every", [None, 0, 100], [-1]),
        ("checkpoint.every", [1], [0, None]),
        ("checkpoint.keep", [1], [0]),
    ],
)
def test_a_key_takes_its_range_and_nothing_else(key: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        schema.check(nested(key, value))
    for value in bad:
        error = refused(nested(key, value))
        assert (error.key, error.value) == (key, value) or value != value


def test_the_first_bad_key_is_named_in_the_order_of_the_config() -> None:
    assert refused({"steps": 0, "seed": -1}).key == "steps"
    assert refused({"seed": -1, "steps": 0}).key == "seed"


def test_the_message_is_one_line_with_the_near_choice() -> None:
    assert str(refused({"device": "cdua"})) == (
        "device=cdua: not one of the choices; did you mean cuda? choose from auto, cpu, cuda, mps, cuda:N"
    )
    assert str(refused({"precision": "fp32\nx"})).count("\n") == 0


def test_a_section_is_no_value() -> None:
    assert refused({"ema": 3}).key == "ema"
    assert refused({"optimizer": "adam"}).key == "optimizer"
    assert refused({"ema": None}).key == "ema"


@pytest.mark.parametrize("target", ["diffusion_cli.model.mlp.MLP", "diffusion_cli.model.deep.er.Net"])
def test_our_own_rooms_may_be_named(target: str) -> None:
    schema.check({"model": {"_target_": target, "anything": [1, {"of": "its own"}]}})


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "builtins.eval",
        "diffusion_cli.runs.checkpoint.torch.load",
        "diffusion_cli.modelling.Net",
        "diffusion_cli.model",
        "diffusion_cli.dataset.plane.Circle",
        "diffusion_cli.model.mlp.__builtins__.eval",
        "diffusion_cli.model.mlp._private",
        "diffusion_cli.model..os.system",
        "diffusion_cli.model.mlp.MLP ",
        " diffusion_cli.model.mlp.MLP",
        "",
        None,
        3,
        ["diffusion_cli.model.mlp.MLP"],
        {"_target_": "os.system"},
    ],
)
def test_nothing_else_may_be_named(target: Any) -> None:
    assert refused({"model": {"_target_": target}}).key.startswith("model._target_")


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "diffusion_cli.model.mlp.MLP"},
        {"other": {"_target_": "diffusion_cli.model.mlp.MLP"}},
        {"model": {"block": {"_target_": "diffusion_cli.model.mlp.MLP"}}},
        {"model": {"blocks": [{"_target_": "os.system"}]}},
        {"figures": {"_target_": "diffusion_cli.figures.recipes.training.loss"}},
        {"figures": {"loss": {"deep": {"_target_": "diffusion_cli.figures.recipes.training.loss"}}}},
        *({"model": {directive: True}} for directive in ("_args_", "_partial_", "_recursive_", "_convert_")),
    ],
)
def test_a_class_is_named_by_its_group_and_nowhere_else(config: dict[str, Any]) -> None:
    refused(config)


def test_the_user_trusts_modules_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"dataset": {"_target_": "mine.data.Spiral", "n": "as many as it likes", "jitter": -1}}
    assert refused(own).key == "dataset._target_"
    monkeypatch.setenv("DIFFUSION_CLI_TRUST", "other, mine.data")
    schema.check(own)
    assert refused({"dataset": {"_target_": "mine.database.Spiral"}}).key == "dataset._target_"
    assert (
        refused({"dataset": {"_target_": "mine.data.Spiral", "x": {"_target_": "os.system"}}}).key
        == "dataset.x._target_"
    )
    monkeypatch.setenv("DIFFUSION_CLI_TRUST", ",")
    assert refused(own).key == "dataset._target_"


def test_a_bomb_is_refused_quickly() -> None:
    layer: Any = ["x"] * 10
    for _ in range(12):
        layer = [layer] * 10
    assert "too large" in str(refused({"bomb": layer}))
    deep: dict[str, Any] = {}
    deep["deep"] = deep
    assert "too deep" in str(refused(deep))


def test_what_every_job_needs_cannot_be_missing() -> None:
    whole: dict[str, Any] = {}
    for key in schema.NEEDED:
        section, _, name = key.partition(".")
        if name:
            whole.setdefault(section, {})[name] = 1
        else:
            whole[key] = {} if key in schema.ROOMS else 1
    schema.check_complete(whole)
    for key in whole:
        with pytest.raises(UserError, match=f"^{key}"):
            schema.check_complete({name: value for name, value in whole.items() if name != key})


def test_every_option_that_we_ship_passes() -> None:
    """Group by group, without Hydra: the files themselves obey the table and the gate."""
    files = [file for group in schema.ROOMS for file in (CONFIGS / group).glob("*.yaml")]
    assert len(files) > 20
    for file in files:
        text = file.read_text()
        node = yaml.safe_load(text) or {}
        if "@package _global_" not in text:
            node = {file.parent.name: node}
        node.pop("defaults", None)
        schema.check(_without_missing(node))


def _without_missing(node: dict[str, Any]) -> dict[str, Any]:
    """Without values that the user must give, and with 1e-3, a string to PyYAML, read as OmegaConf reads it."""
    result = {}
    for key, value in node.items():
        if isinstance(value, dict):
            result[key] = _without_missing(value)
        elif isinstance(value, str) and value.replace("e-", "").replace(".", "").isdigit():
            result[key] = float(value)
        elif value != "???" and not (isinstance(value, str) and "${" in value):
            result[key] = value
    return result
