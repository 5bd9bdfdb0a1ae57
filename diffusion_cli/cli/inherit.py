"""`run=`: what sample, evaluate and plot take from a trained run, and what the line may say anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from diffusion_cli.cli import strangers
from diffusion_cli.cli.app import CONFIGS
from diffusion_cli.errors import UserError
from diffusion_cli.runs.directory import Run

EXACT = "exact"  # run=exact: no network, but the exact denoiser of dataset=...
# what a run does not have
OURS = ("run", "weights", "export", "label", "figure", "hydra", "inpaint", "completions", "repaint", "sweep")
AGAIN = (
    "seed",
    "n",
    "device",
    "threads",
    "sample_batch",
    "plots",
    "evaluation",
)  # the run's, unless the line says otherwise
GROUPS = {
    "sampler": "ddpm",
    "guidance": "none",
}  # groups with an option `inherit`; the option behind it for run=exact


def inherit(config: DictConfig) -> None:
    """Completes `config`, a command's own, by the config of the run that it names (in place).

    What the line says of the sampler, the guidance and the keys in AGAIN takes the place of the run's; all else that
    makes a run is the run's alone: UserError for it, and for a run that is none.
    """
    said = _said(config)
    if config.run == EXACT:
        for key in ("weights", "export"):
            if key in said:
                raise UserError(key, said[key], "needs a trained run")
        base = OmegaConf.create({})
        saved: dict[str, Any] = {g: OmegaConf.load(CONFIGS / g / f"{o}.yaml") for g, o in GROUPS.items()}
    else:
        foreign = [key for key in said if key.partition(".")[0] not in (*OURS, *AGAIN, *GROUPS)]
        if foreign:
            value = said[foreign[0]]
            raise UserError(
                foreign[0], value, "comes from the run; leave it out, or say run=exact for no run at all"
            )
        run = Run.find(config.run)
        base = read_config(run.config_file)
        saved = base
        config.run = str(run.path)
        config.hydra.runtime.choices.dataset = _dataset_name(run)
    with open_dict(config):
        for group in GROUPS:
            if "_target_" not in config[group]:
                given = {key: value for key, value in config[group].items() if value is not None}
                config[group] = OmegaConf.merge(saved[group], given)
        if "guidance" in base:  # what a network knows of "no label" was decided when it was trained
            config.guidance.label_dropout = base.guidance.label_dropout
            if config.guidance.label_dropout == 0 and config.hydra.runtime.choices.guidance == "cfg":
                raise UserError(
                    "guidance",
                    "cfg",
                    "this model was trained without label dropout; train it with guidance=cfg",
                )
        for key, value in base.items():
            if key in OURS or key in GROUPS:
                continue
            if key in AGAIN and key not in said and isinstance(value, DictConfig):
                changes = {k.partition(".")[2]: v for k, v in said.items() if k.startswith(f"{key}.")}
                config[key] = OmegaConf.merge(value, changes)
            elif key not in said or key not in AGAIN:
                config[key] = value


def read_config(file: Path) -> DictConfig:
    """The config of a run, which may be a stranger's: plain values only, nothing that is looked up or expanded."""
    try:
        text = strangers.read_text(file)
        strangers.check_yaml(text, outside=False)
        content = OmegaConf.create(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = str(error).partition("\n")[0]
        raise UserError("run", str(file.parent.parent), f".hydra/config.yaml {reason}") from None
    if not isinstance(content, DictConfig) or not {"dataset", "model", *GROUPS} <= set(content):
        raise UserError("run", str(file.parent.parent), ".hydra/config.yaml is no config of a run")
    return content


def without_hydra(config: DictConfig) -> DictConfig:
    """The job's own part of a composed config."""
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def _said(config: DictConfig) -> dict[str, Any]:
    """Dotted key (or group) -> value, as overridden on the line."""
    parsed = OverridesParser.create().parse_overrides(
        OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    )
    return {override.key_or_group: override.value() for override in parsed}


def _dataset_name(run: Run) -> str:
    """The option of `dataset` that the run was trained with, for the name of a folder."""
    try:
        text = strangers.read_text(run.config_file.parent / "hydra.yaml")
        strangers.check_yaml(text, outside=True)
        name = yaml.safe_load(text)["hydra"]["runtime"]["choices"]["dataset"]
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError):
        return "unknown"
    return name if isinstance(name, str) and re.fullmatch(r"\w+", name) else "unknown"
