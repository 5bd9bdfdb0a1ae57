"""What Hydra composes from files, completed before the words of the line are applied to it: every key with its default,
and for sample, evaluate and plot the configuration of the run that they take.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, OmegaConf, open_dict

from diffusion_cli.cli.plain import quoted, tree
from diffusion_cli.errors import UserError, shown
from diffusion_cli.options.check import TARGET, arguments_of, check_config
from diffusion_cli.options.groups import EXACT, FIGURES, GROUPS
from diffusion_cli.options.keys import defaults_of, keys_of
from diffusion_cli.options.signature import MISSING, read
from diffusion_cli.ranges import Config
from diffusion_cli.runs.config import DATA_PLACES, FILE, TRAININGS, Record, length
from diffusion_cli.runs.directory import RunDirectory

ANEW = ("sampler", "guidance", "evaluation")  # groups of which a run's own choice may be replaced
# What a student has of its teacher: the data, the noise, and what is drawn and measured; and where its network is its teacher's,
# how that is trained. In the plane it has one of its own (configs/distill.yaml), in which no wave fades with the noise.
OF_TEACHER = ("dataset", "schedule", "guidance", "evaluation", "figures", "stages", "n", "sample_batch")
OF_ITS_NETWORK = ("model", "parameterization", "optimizer", "batch_size", "ema", "threads")
REPLACED_NETWORKS = ("diffusion_cli.model.mlp.MLP", "diffusion_cli.model.unet1d.UNet1d")
OF_STUDENT = ("model", "parameterization", "objective", "optimizer", "logger")
# In a file: what a sweep goes through.
GRID = "grid"
PLAIN = re.compile(r"[\w.+-]+")
MANY = "results"  # the argument of a figure of many runs


class Found(NamedTuple):
    """What the line's `run=` or `like=` has come to, to be set once its words have been applied.

    run: the run that is taken; None: none.
    choices: group -> the option that the configuration comes from.
    """

    run: str | None
    choices: dict[str, str]


def complete_config(config: DictConfig, command: str, words: Sequence[str]) -> Found | None:
    """Completes what the files of a command have composed, in place.

    command: train, distill, sample, evaluate or plot.
    words: the line's, which have not been applied yet.
    """
    said = {override.key_or_group: override for override in parsed(words)}
    with open_dict(config):
        take_grid(config, said)
        for key, value in (defaults_of("train") | defaults_of(command)).items():
            fill(config, key, value)
        found = lay_like_under(config, said) if command == "train" else lay_run_under(config, command, said)
        if command in TRAININGS:
            choose_length(config, said)
        for group in GROUPS:
            if group != "figure" or command == "plot":
                fill_component(config, group, group)
        for figure in config.get(FIGURES) or ():
            fill_component(config[FIGURES], figure, "figure")
    return found


def choose_length(config: DictConfig, said: dict[str, Override]) -> None:
    """Of steps and epochs the one that the line says, or else the files, is left: in it checkpoint.every and stages.every
    count, which keep their fraction of the training where the line changes from one to the other."""
    given = {
        key: said[key].value()
        for key in ("steps", "epochs")
        if key in said and not said[key].is_sweep_override() and said[key].value() is not None
    }
    if len(given) > 1:
        raise UserError("epochs", given["epochs"], "is instead of steps; leave one of them out")
    unit, planned = length({key: config[key] for key in ("steps", "epochs")})
    chosen, value = next(iter(given.items()), (unit, planned))
    for key in ("checkpoint.every", "stages.every") if chosen != unit else ():
        every = OmegaConf.select(config, key)
        if every and all(isinstance(number, int) and number > 0 for number in (every, value, planned)):
            OmegaConf.update(config, key, max(1, round(every * value / planned)))
    config["steps" if chosen == "epochs" else "epochs"] = None


def take_grid(config: DictConfig, said: dict[str, Override]) -> None:
    """Makes a file's `grid`, key -> values, what Hydra's sweeper goes through; a key that the line says is the line's."""
    grid = config.pop(GRID, None)
    if grid is None:
        return
    given = OmegaConf.to_container(grid) if OmegaConf.is_config(grid) else grid
    if not isinstance(given, dict):
        raise UserError(GRID, given, "holds keys, each with a list of values")
    with open_dict(config.hydra.sweeper):
        config.hydra.sweeper.params = {
            str(key): values_text(str(key), values) for key, values in given.items() if key not in said
        }


def values_text(key: str, values: object) -> str:
    """The values of a key as a line would have them: 1,2,3."""
    if not isinstance(values, list) or not values or any(isinstance(value, dict) for value in values):
        raise UserError(f"{GRID}.{key}", values, "must be a list of values")
    return ",".join(
        quoted(value) if isinstance(value, str) and not PLAIN.fullmatch(value) else shown(value)
        for value in values
    )


def command_name() -> str:
    """The command whose configuration is composed, after which its module in cli/entries is named."""
    return str(JobRuntime.instance().get("name"))


def parsed(words: Sequence[str]) -> list[Override]:
    """The words of a line as Hydra understands them, without those that speak of Hydra itself."""
    overrides = OverridesParser.create().parse_overrides([*words])
    return [override for override in overrides if not override.is_hydra_override()]


def fill(config: DictConfig, key: str, value: object) -> None:
    """Sets what is not set, key by key in a section."""
    if isinstance(value, dict):
        if key not in config:
            config[key] = {}
        if OmegaConf.is_dict(config[key]):
            for name, item in value.items():
                fill(config[key], name, item)
    elif key not in config:
        config[key] = value


def fill_component(config: DictConfig, key: str, group: str) -> None:
    """The arguments of a component that no file has set, with their defaults."""
    node = tree(config).get(key)
    if not isinstance(node, dict) or not isinstance(node.get(TARGET), str):
        return
    for name, argument in (arguments_of(group, node[TARGET]) or {}).items():
        fill(config[key], name, argument.default)


def lay_run_under(config: DictConfig, command: str, said: dict[str, Override]) -> Found | None:
    """Replaces what the files say by what the run says that the line names (or the figure's own file)."""
    if "run" in said and said["run"].is_sweep_override():
        # of a sweep as a whole: each of its jobs is composed with a run of its own
        return None
    name = said["run"].value() if "run" in said else config.run
    if "run" in said:
        check_config({"run": name})
    elif takes_many(config, said):
        return Found(EXACT, {"dataset": "sweep"})
    if name == EXACT:
        for key in ("weights", "export"):
            if key in said and key in keys_of(command):
                raise UserError(key, said[key].value(), "needs a trained run")
        return None
    run = RunDirectory.find(str(name))
    record = run.record
    saved = checked_part(record)
    missing = [group for group in GROUPS if group != "figure" and group not in saved]
    if missing:
        raise UserError("run", str(run.path), f"its {FILE} says nothing of {', '.join(missing)}")
    anew = (*ANEW, *(OF_STUDENT if command == "distill" else ()))
    of_the_line = {*keys_of(command), *anew, "figure", FIGURES}
    for key, override in said.items():
        first = key.partition(".")[0]
        moved = key in [f"dataset.{place}" for place in DATA_PLACES]
        if first not in of_the_line and not moved and not override.is_add():
            reason = "comes from the run; leave it out, or say run=exact for no run at all"
            for group in ANEW:
                if key in (saved.get(group) or {}):
                    reason = f"no such key; did you mean {group}.{key}?"
            raise UserError(key, override.value(), reason)
    anyway = ("label", "resume", "plots", "processes")
    own = {key for key in keys_of(command) if key not in saved or key in anyway}
    if command == "distill":
        replaced = saved["model"].get(TARGET) in REPLACED_NETWORKS
        own = {*saved} - {*OF_TEACHER, *(() if replaced else OF_ITS_NETWORK)}
        config.init = None if replaced else str(run.path)
    taken = [key for key in saved if key not in own and not (key in anew and key in said)]
    for key in taken:
        config[key] = saved[key]
    if "guidance" in said:
        keep_label_dropout(config, said["guidance"].value(), saved["guidance"].get("label_dropout", 0.0))
    return Found(str(run.path), {"dataset": "unknown"} | options_in(record, taken))


def lay_like_under(config: DictConfig, said: dict[str, Override]) -> Found | None:
    """Replaces what the files say by the configuration of the run `like`, but for the groups that the line chooses anew."""
    if "like" not in said or said["like"].value() is None:
        return None
    run = RunDirectory.find(str(said["like"].value()), "like")
    record = run.record
    saved = checked_part(record)
    left = {*said, "like", "resume", "processes"}
    taken = [key for key in saved if key not in left and (key in GROUPS or key in config)]
    for key in taken:
        config[key] = saved[key]
    return Found(None, options_in(record, taken))


def options_in(record: Record, groups: Collection[str]) -> dict[str, str]:
    """The options of these groups that a run was begun with, as far as they are names."""
    return {
        group: str(option)
        for group, option in record.choices.items()
        if group in groups and group in GROUPS and re.fullmatch(r"\w+", str(option))
    }


def checked_part(record: Record) -> Config:
    """The configuration of a run, which may be a stranger's, with the places of its data as they are found from anywhere."""
    saved = record.current
    for key, path in record.paths.items():
        group, _, argument = key.partition(".")
        if group == "dataset" and argument in DATA_PLACES and argument in saved.get(group, {}):
            saved = saved | {group: saved[group] | {argument: str(path)}}
    check_config(saved)
    return saved


def keep_label_dropout(config: DictConfig, chosen: object, dropout: float) -> None:
    """What a network has learned of "no label" was decided when it was trained."""
    config.guidance.label_dropout = dropout
    if dropout == 0 and chosen == "cfg":
        reason = "this model was trained without label dropout; train it with guidance=cfg"
        raise UserError("guidance", "cfg", reason)


def takes_many(config: DictConfig, said: dict[str, Override]) -> bool:
    """Whether the figure is one of many runs: always, or since the line names some."""
    if "figure" not in config or OmegaConf.is_missing(config, "figure"):
        return False
    signature = read(str(config.figure.get(TARGET)))
    argument = signature.arguments.get(MANY) if signature else None
    return argument is not None and (argument.default == MISSING or "sweep" in said or "runs" in said)
