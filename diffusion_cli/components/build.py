"""options -> the objects of a run, with the network of a trained one where there is one."""

from __future__ import annotations

import logging
from dataclasses import replace

from diffusion_cli.components.composed import sampler_for
from diffusion_cli.components.drawing import Components
from diffusion_cli.components.guiding import guidance_of
from diffusion_cli.components.learned import Learned, learned_of
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.dataset.remembered import Remembered, is_memory
from diffusion_cli.errors import UserError, in_group
from diffusion_cli.metrics.classification import ClassifierEvaluation
from diffusion_cli.metrics.protocol import Evaluation
from diffusion_cli.options.build import build_component
from diffusion_cli.options.check import check_config
from diffusion_cli.options.groups import EXACT
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs.config import DATA_PLACES
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.restore import LAST, chosen

log = logging.getLogger(__name__)


def build(config: Config, dataset: Dataset | None = None) -> Components:
    """The components of a config, without a network. Raises UserError for options that do not fit each other.

    dataset: the one to take, in place of the config's.
    """
    learned = learned_of(config, dataset)
    return Components(
        **vars(learned),
        optimizer=build_component(config, "optimizer"),
        guidance=guidance_of(config, learned.dataset),
        sampler=sampler_for(config, learned.dataset),
        evaluation=_evaluation(learned),
        label=config.get("label"),
    )


def of(config: Config) -> Components:
    """The components that `run=` of a config means: with the network of that run, or `exact`."""
    return build(config) if config["run"] == EXACT else trained(config, RunDirectory(config["run"]))


def trained(config: Config, run: RunDirectory) -> Components:
    """The components of a config with the network of a trained run (config `weights`: last, best, or a step); of a student
    also its teacher, unless that is the exact denoiser."""
    saved = chosen(run, config.get("weights", LAST))
    components = build(config, _data_of(config, run, saved.get("data", {}))).with_weights(
        saved["state"]["ema"], run
    )
    kept = saved.get("teacher")
    if kept is None:
        return components
    # a checkpoint may be a stranger's
    check_config(kept["config"])
    ours = {key: config[key] for key in ("device", "sample_batch")}
    teacher = learned_of(kept["config"] | ours, components.dataset).with_weights(kept["ema"], run)
    return replace(components, teacher=teacher)


def _data_of(config: Config, run: RunDirectory, saved: Facts) -> Dataset:
    """The dataset of a trained run; where its files are gone or have changed, what the run remembers of it.

    Raises UserError where the config says of another place than the run's that they are there, and they are not.
    """
    if not is_memory(saved):
        raise UserError("run", str(run.path), "its checkpoint says nothing of its data")
    ours, record = config["dataset"], run.record
    argument = next((key for key in DATA_PLACES if key in ours), None)
    if saved["fingerprint"] is None or argument is None:
        return build_component(config, "dataset")
    key, place = f"dataset.{argument}", ours[argument]
    anew = place not in (record.config["dataset"].get(argument), record.paths.get(key))
    try:
        dataset = build_component(config, "dataset")
        if dataset.fingerprint == saved["fingerprint"]:
            return dataset
        reason = "holds other data than those that the run was trained on"
    except UserError as error:
        if anew:
            raise
        reason = error.reason
    if anew:
        raise UserError(key, place, reason)
    log.info("%s=%s: %s; samples do not need the data", key, place, reason)
    return Remembered(saved, (argument, place))


def _evaluation(learned: Learned) -> Evaluation:
    """The evaluation, if it is for such data; a classifier's own."""
    if not learned.objective.generates:
        return ClassifierEvaluation()
    evaluation: Evaluation = build_component(learned.config, "evaluation")
    if not isinstance(learned.dataset, Remembered):
        with in_group("evaluation"):
            evaluation.check(learned.dataset)
    return evaluation
