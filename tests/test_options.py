"""What may be chosen: ranges, what is read off the constructors, the check before anything is built, help, and junk."""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.options import files, groups, help, reference
from diffusion_cli.options.build import build_component
from diffusion_cli.options.check import TARGET, arguments_of, check_complete, check_config
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.options.keys import COMPOSED, SECTIONS, defaults_of, keys_of
from diffusion_cli.options.signature import MISSING, Argument, Signature, descriptions, first_sentence, read
from diffusion_cli.ranges import BIGGEST_INT, Count, Fraction, checked, range_of

ROOT = Path(__file__).parents[1]
Compose = Callable[..., dict[str, Any]]
NAN, INF = math.nan, math.inf


# Ranges.


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("Whole", [0, 2**63 - 1, np.int64(3)], [-1, 2**63, True, 1.0, "1", None, NAN]),
        ("Count", [1, 2**63 - 1], [0, -3, 1.5, False, "many", None, [1]]),
        ("Several", [2, 10**9], [1, 10**9 + 1]),
        ("Many", [1, 10**9], [0, 10**9 + 1]),
        ("Steps", [1, 10**6], [0, 10**6 + 1]),
        ("int", [-BIGGEST_INT, 0], [1.0, "0", True, None, 2**63]),
        ("Finite", [-1e308, 0, 3], [NAN, INF, -INF, 10**400, -(10**400), "1", True, None, [1.0]]),
        ("float", [-1e308, 0, 3], [NAN, INF, 10**400, "1", True]),
        ("Positive", [1e-300, 1, 1e308], [0, 0.0, -1, NAN, INF, 10**400, "fast", True]),
        ("NonNegative", [0, 0.1], [-0.1, -1e-300, NAN]),
        ("Fraction", [0, 1, 0.5], [-0.001, 1.001, NAN]),
        ("BelowOne", [0, 0.999], [1, -0.1]),
        ("Inner", [0.001, 0.999], [0, 1]),
        ("bool", [True, False], [0, 1, "true", None, []]),
        ("str", ["a", "é b"], ["", "  ", "a\0b", 3, None, ["a"]]),
        ("Device", ["auto", "cpu", "cuda", "cuda:7", "mps"], ["gpu", "cuda:N", "cuda:", "cuda:x", "CPU", 0, None]),
        ("MaskFile", ["a.npy", "a/b.PNG"], ["a.jpg", ".npy", "npy", None]),
        ("Literal['a', 'b']", ["a", "b"], ["A", "c", "", None, 0, ["a"]]),
        ("Count | None", [None, 1], [0, "null", False]),
        ("Literal['last', 'best'] | Count", ["last", 1], ["first", 0, None]),
        ("Sequence[Positive]", [[1], [0.1, 2], (3,)], [[], [0], 1, "ab", [None], {"a": 1}, None]),
        ("tuple[BelowOne, BelowOne]", [[0.9, 0.999], (0, 0)], [[0.9], [0.9, 1.0], 0.9, [0.9, -0.1], "ab", [0, 0, 0]]),
        ("tuple[int, ...]", [[1], [1, 2, 3]], [[], [1.5], 1]),
        ("str | Sequence[str] | None", ["a", ["a", "b"], None], ["", [""], [], 3, [["a"]]]),
        ("Whole | Sequence[Whole] | None", [None, 3, [0, 1]], [-1, [], [0, "a"], "cat", True, [True]]),
    ],
)  # fmt: skip
def test_a_range_accepts_its_values_and_nothing_else(
    annotation: str, good: list[Any], bad: list[Any]
) -> None:
    allowed = range_of(annotation)
    assert allowed is not None
    assert [value for value in good if not allowed.accepts(value)] == []
    assert [value for value in bad if allowed.accepts(value)] == []


@pytest.mark.parametrize(
    ("annotation", "text", "choices"),
    [
        ("Count", "a whole number >= 1", ()),
        ("Steps | None", "a whole number in 1..1000000, or null", ()),
        ("Fraction", "a number in [0, 1]", ()),
        ("BelowOne", "a number in [0, 1)", ()),
        ("Literal['a', 'b'] | Count", "one of the choices, or a whole number >= 1", ("a", "b")),
        # said once, not twice
        ("Literal['a'] | MaskFile | None", "one of the choices, or null", ("a", "FILE.npy", "FILE.png")),
        ("tuple[Fraction, Fraction]", "a list of 2, each a number in [0, 1]", ()),
    ],
)
def test_a_range_says_what_its_values_are(annotation: str, text: str, choices: tuple[str, ...]) -> None:
    allowed = range_of(annotation)
    assert allowed is not None and (allowed.text, allowed.choices) == (text, choices)


@pytest.mark.parametrize(
    "annotation", ["Tensor", "torch.Tensor", "Any", "Tensor | None", "Sequence[Tensor]", "dict"]
)
def test_an_annotation_that_says_nothing_of_a_range_has_none(annotation: str) -> None:
    assert range_of(annotation) is None


def test_what_is_checked_refuses_values_out_of_range_by_the_name_of_the_argument() -> None:
    @checked
    def draw(n: Count, part: Fraction = 0.5, *, anything: Any = None) -> float:
        return n * part

    assert draw(4) == 2 and draw(n=1, part=1, anything=NAN) == 1
    for given, name in (((0,), "n"), ((True,), "n"), ((1, 2), "part")):
        with pytest.raises(ArgumentError) as error:
            draw(*given)
        assert (error.value.argument, error.value.value) == (name, given[-1]) and isinstance(
            error.value, ValueError
        )
    with pytest.raises(TypeError):
        draw()


# What is read off a constructor.

SOURCE = '''
from __future__ import annotations
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from diffusion_cli.ranges import Count, Fraction

RATE = 0.25


@dataclass
class Base:
    """What is shared. More of it.

    width: of a layer,
        in channels.
    rate: of change.
    """

    kind: ClassVar[str] = "x"
    width: Count
    rate: Fraction = RATE
    _state: dict = field(default_factory=dict, init=False)


@dataclass
class Derived(Base):
    """Another one.

    rate: of decay.
    sizes: of the levels
    """

    sizes: Sequence[int] = (1, 2)


class Own(Base):
    """With a constructor of its own.

    depth: of the network.
    """

    def __init__(self, shape, width: Count = 8, *, depth: "Count | None" = None, **more):
        super().__init__(width)


def function(n: Count = 3, flag: bool = True) -> int:
    """Does it: well.

    n, flag: two at once.
    """
'''


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Signature | None]:
    """The signatures of a module that cannot be imported, only read."""
    (tmp_path / "sources_a.py").write_text("raise SystemExit('imported')\n" + SOURCE)
    (tmp_path / "sources_p").mkdir()
    (tmp_path / "sources_p" / "__init__.py").write_text("from sources_a import Derived as Renamed\n")
    monkeypatch.syspath_prepend(tmp_path)
    return read


def test_a_dataclass_is_read_with_its_bases(sources: Callable[[str], Signature]) -> None:
    found = sources("sources_a.Derived")
    assert found.title == "Another one" and found.is_class and not found.open
    assert {name: (a.annotation, a.default, a.text) for name, a in found.arguments.items()} == {
        "width": ("Count", MISSING, "of a layer, in channels."),
        "rate": ("Fraction", 0.25, "of decay."),
        "sizes": ("Sequence[int]", [1, 2], "of the levels"),
    }
    assert sources("sources_a.Base").arguments["rate"].text == "of change."


def test_a_constructor_of_its_own_takes_its_base_s_words_for_what_it_hands_on(
    sources: Callable[[str], Signature],
) -> None:
    found = sources("sources_a.Own")
    assert [*found.arguments] == ["shape", "width", "depth"] and found.open
    assert found.arguments["width"][3:] == (8, "of a layer, in channels.")
    assert found.arguments["depth"][3:] == (None, "of the network.")
    assert found.arguments["shape"].range is None and found.arguments["shape"].default == MISSING


def test_functions_and_renamed_classes_are_read_and_others_are_not(
    sources: Callable[[str], Signature | None],
) -> None:
    found = sources("sources_a.function")
    assert found is not None and not found.is_class and found.title == "Does it: well"
    assert [(a.default, a.text) for a in found.arguments.values()] == [
        (3, "two at once."),
        (True, "two at once."),
    ]
    assert sources("sources_p.Renamed") == sources("sources_a.Derived")
    for target in ("sources_a.Nothing", "nowhere.X", "sources_a.RATE", "torch._C.Generator", "X", ""):
        assert sources(target) is None


def test_descriptions_end_where_the_indentation_does() -> None:
    doc = "A title.\n\nSome text.\n\na: first\n    and more: of it\nb, c: second\n\nnote: that"
    assert descriptions(doc) == {"a": "first and more: of it", "b": "second", "c": "second", "note": "that"}


def test_a_title_is_a_whole_sentence() -> None:
    assert (
        first_sentence("The network of Ho et al. 2020, eq. 7. And more.")
        == "The network of Ho et al. 2020, eq. 7"
    )
    assert first_sentence("One line:\n\nnot this.") == "One line"


def names(group: str) -> list[str]:
    return [f"{group}={name}" for name in files.names_of(group)]


OPTIONS = [option for group in GROUPS for option in names(group)]


def target_of(option: str) -> str:
    group, _, name = option.partition("=")
    node = files.node_of(group, name)
    if TARGET in node:
        return str(node[TARGET])
    # of the base that the file takes
    _, content = files.content_of(group, name)
    (base,) = (entry for entry in content["defaults"] if isinstance(entry, str) and entry.startswith("_"))
    return target_of(f"{group}={base}")


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_read_off_a_source_is_what_python_says(option: str) -> None:
    """The independent truth: the imported object's own signature."""
    found = read(target_of(option))
    assert found is not None
    real = inspect.signature(pkgutil.resolve_name(target_of(option))).parameters
    plain = {name: p for name, p in real.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    assert [*found.arguments] == [*plain] and found.open == any(
        p.kind == p.VAR_KEYWORD for p in real.values()
    )
    for name, argument in found.arguments.items():
        default = plain[name].default
        expected = MISSING if default is inspect.Parameter.empty else default
        assert argument.default == listed(expected), name


def listed(value: Any) -> Any:
    return [listed(item) for item in value] if isinstance(value, tuple) else value


# Every key once.


def described(key: str, argument: Argument) -> list[str]:
    """What a key lacks."""
    lacks = [] if argument.range is not None else ["range"]
    lacks += [] if argument.text else ["text"]
    if (
        argument.range is not None
        and argument.default != MISSING
        and not argument.range.accepts(argument.default)
    ):
        lacks.append(f"default within {argument.range.text}, not {argument.default}")
    return [f"{key}: no {what}" for what in lacks]


@pytest.mark.parametrize("group", [*GROUPS])
def test_every_key_of_every_option_has_a_range_a_default_and_a_text(group: str) -> None:
    lacking = []
    for option in names(group):
        arguments = arguments_of(group, target_of(option))
        assert arguments is not None, option
        lacking += [
            lack for name, argument in arguments.items() for lack in described(f"{option} {name}", argument)
        ]
    assert lacking == []


@pytest.mark.parametrize("command", COMPOSED)
def test_every_key_of_every_command_has_a_range_a_default_and_a_text(command: str) -> None:
    keys = help.flat_keys(command)
    assert [lack for key, argument in keys for lack in described(key, argument) if "repaint" not in key] == []
    assert all(argument.default != MISSING for _, argument in keys)
    assert list(defaults_of(command)) == list(keys_of(command))


def test_a_section_is_described_by_a_class() -> None:
    for target in SECTIONS.values():
        assert read(target) is not None and pkgutil.resolve_name(target)


# What option files may say. A value may stand in a file only where the option exists to set it; a dataset and an
# experiment are whole recipes, and their values may be any that are not the default anyway.

EXISTS_FOR = {
    **{f"figure={name}": {"run"} for name in ("density", "forward1d", "reverse1d", "schedules", "twopoint")},
    "figure=inpainting": {"inpaint", "completions"},
    "guidance=classifier": {"run"},
    "guidance=auto": {"run"},
    "model=mlp_smooth": {"x_embedding"},
    "model=mlp_student": {"width", "depth", "fade"},
    "model=unet2d_cifar": {"width", "levels", "blocks", "middle", "attention", "dropout", "patch", "norm", "skips", "resample",
                           "features"},
    "objective=huber": {"loss"},
    "objective=l1": {"loss"},
    "objective=pseudo_huber": {"loss"},
    "objective=stable": {"targets"},
    "optimizer=adam": {"kind"},
    "optimizer=muon": {"kind"},
    "parameterization=edm": {"sigma_data"},
    "sampler=ddpm_analytic": {"variance"},
    "sampler=deis": {"form"},
    "sampler=dpmpp_3m": {"order"},
    "sampler=unipc": {"corrector"},
    "sampler=ddpm_posterior": {"variance"},
    "schedule=loglinear_fine": {"sigma_min"},
    "schedule=loglinear_wide": {"sigma_min", "sigma_max"},
}  # fmt: skip


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "dataset"])
def test_option_files_state_only_what_they_exist_for(group: str) -> None:
    stated = {}
    for name in files.names_of(group):
        content = {
            key: value
            for key, value in files.content_of(group, name)[1].items()
            if key not in ("defaults", TARGET)
        }
        stated[f"{group}={name}"] = {*content} - {group} | {*content.get(group, {})} - {TARGET}
    known = {option: keys for option, keys in EXISTS_FOR.items() if option.startswith(f"{group}=")}
    assert {option: keys for option, keys in stated.items() if keys} == known


@pytest.mark.parametrize("group", [*GROUPS])
def test_no_option_file_repeats_a_default(group: str) -> None:
    repeated = []
    for name in files.names_of(group):
        arguments = arguments_of(group, target_of(f"{group}={name}")) or {}
        for key, value in files.node_of(group, name).items():
            if key in arguments and number(value) == arguments[key].default and value != MISSING:
                repeated.append(f"{group}={name} {key}={value}")
    assert repeated == []


def number(value: Any) -> Any:
    """1e-3, a string to PyYAML, as OmegaConf reads it."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value


RECIPES = [(group, name) for group in ("dataset", "experiment") for name in files.names_of(group)
           if "_global_" in files.CONFIGS.joinpath(group, f"{name}.yaml").read_text()]  # fmt: skip


@pytest.mark.parametrize(("group", "name"), RECIPES, ids=[f"{g}={n}" for g, n in RECIPES])
def test_no_recipe_says_what_would_be_so_anyway(
    group: str, name: str, composed: Compose, tmp_path: Path, words: dict[str, list[str]]
) -> None:
    """Compared with the same recipe without any of its values."""
    text = files.CONFIGS.joinpath(group, f"{name}.yaml").read_text()
    content = yaml.safe_load(text)
    bare = {"defaults": content["defaults"]} if "defaults" in content else {}
    bare |= {group: {TARGET: content[group][TARGET]}} if TARGET in (content.get(group) or {}) else {}
    (tmp_path / group).mkdir()
    (tmp_path / group / "bare.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(bare)}")
    files_given = [
        word
        for word in words.get(f"{group}={name}", ())
        if word.startswith(("dataset.path=", "dataset.root="))
    ]
    before = composed("train", f"hydra.searchpath=[{tmp_path}]", f"{group}=bare", *files_given)
    values = {
        path: number(value) for path, value in leaves(content) if path[0] != "defaults" and path[-1] != TARGET
    }
    repeated = [
        ".".join(path) for path, value in values.items() if value != MISSING and at(before, path) == value
    ]
    assert repeated == []


@pytest.mark.parametrize("file", sorted(files.CONFIGS.glob("*/_*.yaml")), ids=lambda file: file.stem)
def test_no_base_says_what_is_so_anyway(file: Path) -> None:
    """Whatever is chosen of a group: only heun has another time grid than all others."""
    repeated = []
    for (first, *rest), value in leaves(yaml.safe_load(file.read_text())):
        if first in GROUPS:
            found = [arguments_of(first, target_of(option)) or {} for option in names(first)]
            defaults = [arguments[rest[0]].default for arguments in found if rest[0] in arguments]
            assert defaults, f"no {first} has {rest[0]}"
        else:
            defaults = [at(defaults_of("train"), (first, *rest))]
        if first != "defaults" and all(default == number(value) for default in defaults):
            repeated.append(".".join((first, *rest)))
    assert repeated == []


def leaves(node: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value


def at(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node.get(key, ...) if isinstance(node, Mapping) else ...
    return node


def test_what_every_command_needs_cannot_be_missing(composed: Compose) -> None:
    whole = composed("train")
    check_complete(whole, "train")
    for key in (*keys_of("train"), *(group for group in GROUPS if group != "figure")):
        with pytest.raises(UserError, match=f"^{key}: missing; it can be set, but not deleted"):
            check_complete({name: value for name, value in whole.items() if name != key}, "train")
    for section, keys in keys_of("train").items():
        for key in keys if isinstance(keys, dict) else ():
            less = {name: value for name, value in whole[section].items() if name != key}
            with pytest.raises(UserError, match=rf"^{section}\.{key}: missing"):
                check_complete(whole | {section: less}, "train")


@pytest.mark.parametrize("command", COMPOSED)
def test_what_is_composed_passes(command: str, composed: Compose) -> None:
    config = composed(command, *EXACT[command])
    check_config(config)
    check_complete(config, command)


EXACT = {
    "train": (),
    "distill": ("run=exact",),
    "sample": ("run=exact",),
    "evaluate": ("run=exact",),
    "doctor": ("run=exact",),
    "plot": ("run=exact", "figure=schedules"),
}


# The check of a whole configuration.


def refused(config: dict[str, Any]) -> UserError:
    with pytest.raises(UserError) as caught:
        check_config(config)
    return caught.value


def test_the_first_bad_key_is_named_in_the_order_of_the_config() -> None:
    assert refused({"steps": 0, "seed": -1}).key == "steps"
    assert refused({"seed": -1, "steps": 0}).key == "seed"


def test_the_message_is_one_line_with_the_near_choice() -> None:
    assert str(refused({"device": "cdua"})) == (
        "device=cdua: must be one of the choices; did you mean cuda? choose from auto, cpu, cuda, cuda:N, mps"
    )
    assert str(refused({"precision": "fp32\nx"})).count("\n") == 0


def test_a_section_is_no_value() -> None:
    for config, key in (({"ema": 3}, "ema"), ({"optimizer": "adam"}, "optimizer"), ({"ema": None}, "ema"),
                        ({"figures": 3}, "figures"), ({"figures": {"loss": "x"}}, "figures.loss"),
                        ({"model": {}}, "model._target_")):  # fmt: skip
        assert refused(config).key == key
    check_config({"figures": {"loss": None}})


def test_a_key_that_a_component_does_not_have_is_refused_with_those_that_it_has() -> None:
    node = {"_target_": "diffusion_cli.sampler.DDIM", "variance": "beta"}
    error = refused({"sampler": node})
    assert str(error).startswith("sampler.variance=beta: is no option of DDIM; choose from steps, ")
    assert str(refused({"sampler": {"_target_": node["_target_"], "stepz": 3}})).startswith(
        "sampler.stepz=3: is no option of DDIM; did you mean steps? choose from "
    )
    assert (
        str(refused({"ema": {"decy": 1}}))
        == "ema.decy=1: no such key; did you mean ema.decay? choose from ema.decay"
    )


@pytest.mark.parametrize("target", ["diffusion_cli.model.mlp.MLP", "diffusion_cli.model.deep.er.Net"])
def test_our_own_rooms_may_be_named(target: str) -> None:
    check_config({"model": {"_target_": target}})


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
        {"figures": {"_target_": "diffusion_cli.figures.recipes.sweep.grid"}},
        {"figures": {"loss": {"deep": {"_target_": "diffusion_cli.figures.recipes.sweep.grid"}}}},
        *({"model": {directive: True}} for directive in ("_args_", "_partial_", "_recursive_", "_convert_")),
    ],
)
def test_a_class_is_named_by_its_group_and_nowhere_else(config: dict[str, Any]) -> None:
    refused(config)


@pytest.mark.parametrize("name", ["a/b", "../x", "a b", "", "x" * 101, "a.b"])
def test_a_name_that_a_file_is_called_by_is_plain(name: str) -> None:
    assert "no name of a key" in str(refused({"figures": {name: None}}))
    assert "no name of a key" in str(refused({name: 1}))


def test_the_user_trusts_modules_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"dataset": {"_target_": "mine.data.Spiral", "n": "as many as it likes", "jitter": -1}}
    assert refused(own).key == "dataset._target_"
    monkeypatch.setenv("DIFFUSION_CLI_TRUST", "other, mine.data")
    check_config(own)
    assert refused({"dataset": {"_target_": "mine.database.Spiral"}}).key == "dataset._target_"
    deeper = {"dataset": {"_target_": "mine.data.Spiral", "x": {"_target_": "os.system"}}}
    assert refused(deeper).key == "dataset.x._target_"
    monkeypatch.setenv("DIFFUSION_CLI_TRUST", ",")
    assert refused(own).key == "dataset._target_"


def test_the_users_own_class_has_its_ranges_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read off its source, which is not run; a class that takes further keywords takes them from the file."""
    (tmp_path / "mine_own.py").write_text(
        "raise SystemExit('imported')\nclass Spiral:\n"
        "    def __init__(self, turns: Positive = 2.0, **more): ...\n"
        "class Closed:\n    def __init__(self, turns: Positive = 2.0): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DIFFUSION_CLI_TRUST", "mine_own")
    check_config({"dataset": {"_target_": "mine_own.Spiral", "turns": 1, "colour": "red"}})
    error = refused({"dataset": {"_target_": "mine_own.Spiral", "turns": 0}})
    assert str(error) == "dataset.turns=0: must be a number > 0"
    assert refused({"dataset": {"_target_": "mine_own.Closed", "colour": "red"}}).key == "dataset.colour"


def test_a_bomb_is_refused_quickly() -> None:
    layer: Any = ["x"] * 10
    for _ in range(12):
        layer = [layer] * 10
    assert "too large" in str(refused({"bomb": layer}))
    deep: dict[str, Any] = {}
    deep["deep"] = deep
    assert "too deep" in str(refused(deep))


def test_groups_lie_where_they_are_said_to() -> None:
    assert groups.group_of(("model",)) == "model" and groups.group_of(("figures", "x")) == "figure"
    assert (
        groups.group_of(("figures",))
        is groups.group_of(("model", "x"))
        is groups.group_of(("figures", "x", "y"))
        is None
    )
    for group in GROUPS.values():
        for room in group.rooms:
            assert importlib.util.find_spec(f"diffusion_cli.{room}")
    folders = {folder.name for folder in files.CONFIGS.iterdir() if folder.is_dir()}
    assert folders == {*GROUPS, "experiment", "hydra"}


# Building.


def test_an_argument_out_of_range_is_named_by_its_key() -> None:
    with pytest.raises(UserError) as error:
        build_component({"logger": {"_target_": "diffusion_cli.runs.logger.WandB", "mode": "of"}}, "logger")
    assert error.value.key == "logger.mode" and isinstance(error.value.__cause__, ArgumentError)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "logger._target_=null: must be the name of a class"),
        ({"_target_": "diffusion_cli.runs.logger.Nope"}, "cannot be imported"),
        ({"_target_": "diffusion_cli.runs.logger.Csv", "x": 1}, "got an unexpected keyword argument 'x'"),
    ],
)
def test_what_cannot_be_built_is_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        build_component({"logger": node}, "logger")


# Help and its pages.


def test_a_base_of_options_is_no_choice(tmp_path: Path) -> None:
    (tmp_path / "sampler").mkdir()
    for name in ("_base", "mine"):
        (tmp_path / "sampler" / f"{name}.yaml").write_text(
            "# what it is\n_target_: diffusion_cli.sampler.DDIM\neta: 1.0\n"
        )
    assert "mine" in files.names_of("sampler", [tmp_path]) and "_base" not in files.names_of(
        "sampler", [tmp_path]
    )
    assert files.title_of("sampler", "mine", [tmp_path]) == "what it is"
    keys = dict(help.keys_of_option("sampler", "mine", [tmp_path]))
    # a file's value in the place of the constructor's
    assert keys["sampler.eta"].default == 1.0


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("Literal['a', 'b']", "a|b"),
        ("Literal['a', 'b'] | Count | None", "a|b, or a whole number >= 1, or null"),
        ("Literal['a'] | MaskFile | None", "a|FILE.npy|FILE.png, or null"),
        ("bool", "true|false"),
        ("Count", "a whole number >= 1"),
        ("Tensor", ""),
    ],
)
def test_a_kind_of_value_in_words(annotation: str, kind: str) -> None:
    assert help.kind_of(Argument("x", annotation, range_of(annotation), None, "")) == kind


def test_every_option_has_a_line_and_its_keys_in_help_and_reference() -> None:
    pages = reference.pages()
    assert {f"reference/{group}.md" for group in (*GROUPS, "experiment")} < set(pages)
    for group in GROUPS:
        for name in files.names_of(group):
            text = help.help_of("train" if group != "figure" else "plot", {group: name})
            title, *rest = text.split("\n\n")
            assert title.startswith(f"{group}={name}: ") and len(title) > len(f"{group}={name}: ") + 3
            for key, _ in help.keys_of_option(group, name):
                assert f"  {key} " in rest[0] + " " and f"| `{key}` |" in pages[f"reference/{group}.md"]
    for command in COMPOSED:
        assert all(
            f"| `{key}` |" in pages[f"reference/commands/{command}.md"] for key, _ in help.flat_keys(command)
        )


# Junk, at every key that a composed configuration has.

JUNK: list[Any] = ["abc", "", None, True, -1, 0, 0.5, NAN, INF, 1e308, 2**62, 10**400, [], ["abc", None], {"a": 1},
                   MISSING, "a\0b"]  # fmt: skip
SHAPES = {"unet2d": (1, 28, 28), "unet2d_cifar": (3, 32, 32), "set": (8, 2)}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What must be said with some options: small files, and small sizes."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    np.save(folder / "points.npy", rng.normal(size=(50, 2)))
    np.save(folder / "sets.npy", rng.normal(size=(16, 8, 2)))
    np.save(folder / "images.npy", rng.integers(0, 255, (16, 8, 8, 3), np.uint8))
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (folder / "images" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / "images" / name / "x.png")
    # nothing there: refused, and not downloaded
    (folder / "empty").mkdir()
    return {
        **{f"dataset={name}": [f"dataset.root={folder / 'empty'}"] for name in ("cifar10", "fashion_mnist")},
        "dataset=points": [f"dataset.path={folder / 'points.npy'}"],
        "dataset=point_sets": [f"dataset.path={folder / 'sets.npy'}", "dataset.test=4"],
        "dataset=image_arrays": [f"dataset.path={folder / 'images.npy'}"],
        "dataset=image_folder": [f"dataset.root={folder / 'images'}", "dataset.image_size=8"],
        "dataset=stars": ["dataset.n=16", "dataset.test=4", "dataset.size=16", "dataset.points=8",
                          "dataset.sample_points=8"],
        "dataset=mnist": ["dataset.source=bundled"],
        "guidance=classifier": ["guidance.run=exact"],
        "guidance=auto": ["guidance.run=other"],
        "model=unet2d_cifar": ["model.width=32", "model.features=32"],
        **{f"experiment={name}": [f"dataset.root={folder / 'images'}"] for name in ("cats", "photos")},
    }  # fmt: skip


def paths(node: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a configuration, sections too."""
    for key, value in node.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from paths(value, (*above, key))


def put(node: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**node, first: put(node[first], tuple(rest), value) if rest else value}


def answer(config: dict[str, Any], command: str, make: Callable[[dict[str, Any]], Any]) -> str | None:
    """What is wrong with how a configuration is received: nothing where it is refused, or valid."""
    try:
        check_config(config)
        check_complete(config, command)
        importlib.import_module(f"diffusion_cli.commands.{command}").check(config, None)
        make(config)
    except UserError as error:
        return None if str(error).isprintable() and error.key else f"says {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    return None


def tried(
    config: dict[str, Any],
    where: tuple[tuple[str, ...], ...],
    command: str = "train",
    make: Callable[[dict[str, Any]], Any] = lambda config: None,
) -> list[str]:
    """Every junk value at every key below `where`: what is neither refused nor valid."""
    found = []
    for path in paths(config):
        if any(path[: len(above)] == above for above in where):
            for value in JUNK:
                wrong = answer(put(config, path, value), command, make)
                found += [f"{command} {'.'.join(path)}={value!r:.20}: {wrong}"] if wrong else []
    return found


def builder(option: str) -> Callable[[dict[str, Any]], Any]:
    """Builds the component of an option. What the program hands in is empty where it is not looked at."""
    group, _, name = option.partition("=")
    signature = read(target_of(option))
    given = {key: None for key in GROUPS[group].given if signature and key in signature.arguments}
    if group == "model":
        given = {"shape": SHAPES.get(name, (2,)), "num_classes": 0}
    # a run that is named is replaced by what it holds, before the component is built
    return lambda config: build_component(
        {group: {k: v for k, v in config[group].items() if k != groups.RUN}}, group, **given
    )


def composed_with(option: str, composed: Compose, words: dict[str, list[str]]) -> dict[str, Any]:
    command = ("plot", "run=exact") if option.startswith("figure=") else ("train",)
    return composed(*command, option, *words.get(option, ()))


@pytest.mark.parametrize("group", [*GROUPS])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_junk_at_any_key_of_any_option_is_refused_or_valid(
    group: str, composed: Compose, words: dict[str, list[str]]
) -> None:
    found = []
    for option in names(group):
        command = "plot" if group == "figure" else "train"
        config = composed_with(option, composed, words)
        # to draw a figure is not cheap
        make = builder(option) if group != "figure" else lambda config: None
        assert answer(config, command, make) is None, option
        found += [f"{option}: {line}" for line in tried(config, ((group,),), command, make)]
    assert found == []


@pytest.mark.parametrize("group", [*GROUPS])
def test_a_constructor_refuses_what_the_command_line_refuses(
    group: str, composed: Compose, words: dict[str, list[str]]
) -> None:
    """By the same words: ArgumentError, which names the argument."""
    found = []
    for option in names(group):
        config, make = composed_with(option, composed, words), builder(option)
        for name, argument in (arguments_of(group, target_of(option)) or {}).items():
            refused = [v for v in JUNK if v != MISSING and argument.range and not argument.range.accepts(v)]
            # these are built around a trained run
            for value in refused if option not in ("guidance=classifier", "guidance=auto") else ():
                try:
                    make(put(config, (group, name), value))
                except UserError as error:
                    said = str(error)
                except BaseException as error:
                    said = f"{type(error).__name__}: {error}"
                else:
                    said = "accepted"
                with pytest.raises(UserError) as expected:
                    check_config(put(config, (group, name), value))
                if said != str(expected.value):
                    found.append(f"{option} {name}={value!r:.20}: {said:.100}")
    assert found == []


@pytest.mark.parametrize("command", COMPOSED)
def test_junk_at_any_key_of_any_command_is_refused_or_valid(command: str, composed: Compose) -> None:
    config = composed(command, *EXACT[command])
    own = tuple((key,) for key in config if key not in GROUPS)
    assert len(own) >= len(keys_of(command))
    assert tried(config, own, command) == []


@pytest.mark.parametrize("option", names("experiment"))
def test_an_experiment_passes(option: str, composed: Compose, words: dict[str, list[str]]) -> None:
    config = composed("train", option, *words.get(option, ()))
    assert answer(config, "train", lambda config: build_component(config, "schedule")) is None


LINES = ["train optimizer.lr=abc", "train schedule=linear schedule.beta_min=abc", "train dataset.jitter=[]",
         "train evaluation=likelihood evaluation.steps=abc", "train ema.decay=nan", "train model.width=null",
         "train sampler.steps={a:1}", "train figures.loss=7", "train guidance.label_dropout=true",
         "train logger=wandb logger.mode=''", "sample run=exact repaint.passes=-1", "evaluate run=exact n=1e400",
         "plot run=exact figure=schedules schedule.T=99999999999999999999"]  # fmt: skip
SCRIPT = """
import sys
from diffusion_cli.__main__ import main
before = {name.partition(".")[0] for name in sys.modules}
code = main(sys.argv[1:])
heavy = sorted({"torch", "numpy", "matplotlib", "scipy"} & {name.partition(".")[0] for name in sys.modules})
print(code, *heavy)
"""


@pytest.mark.parametrize("line", LINES)
def test_junk_on_a_real_line_is_one_line_of_answer(line: str, tmp_path: Path) -> None:
    """Exit code 2, nothing left, and nothing heavy imported."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, *line.split()], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    key, _, _value = line.split()[-1].partition("=")
    assert done.stdout == "2\n"
    assert done.stderr.startswith(f"error: {key}=") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_junk_is_not_left_in_what_is_tried_next(composed: Compose) -> None:
    config = composed("train")
    before = copy.deepcopy(config)
    tried(config, (("ema",),))
    assert config == before
