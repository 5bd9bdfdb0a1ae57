"""What guides samples: options alone, or another run that they name."""

from __future__ import annotations

from diffusion_cli.components.learned import learned_of
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.denoiser import Denoiser
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.guidance import Classifier, ClassifierFree, ExactClassifier, Guidance
from diffusion_cli.options.build import build_component
from diffusion_cli.options.check import check_config
from diffusion_cli.options.groups import EXACT, RUN, WEIGHTS
from diffusion_cli.ranges import Config
from diffusion_cli.runs.config import DATA_PLACES
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.restore import LAST, chosen


def guidance_of(config: Config, dataset: Dataset) -> Guidance:
    """Denoiser -> denoiser. To one that names a run, what that run has learned is handed in."""
    node = dict(config["guidance"])
    if RUN in node:
        name, weights = node.pop(RUN), node.pop(WEIGHTS, None)
        if weights is None:
            classifier = _classifier(config, dataset, name)
            return build_component({"guidance": node}, "guidance", classifier=classifier)
        weak = _weak(config, dataset, name, weights)
        return build_component({"guidance": node}, "guidance", weak=weak)
    guidance = build_component(config, "guidance")
    if isinstance(guidance, ClassifierFree) and not dataset.num_classes:
        reason = "this dataset has no labels, and so its model knows none"
        raise UserError("guidance", "cfg", reason, ["none", "auto"])
    return guidance


def _classifier(config: Config, dataset: Dataset, name: str) -> Classifier:
    """The classifier of a run of objective=classifier, or `exact`: that of the dataset's density."""
    if name == EXACT:
        try:
            return ExactClassifier(dataset.density)
        except ArgumentError as error:
            raise UserError("guidance.run", name, error.reason) from None
    run, saved = _checkpoint(config, name, LAST)
    other = learned_of(saved["config"] | {"device": config["device"]})
    if other.objective.generates:
        raise UserError("guidance.run", name, "is no classifier; train one with objective=classifier")
    net = other.with_weights(saved["state"]["ema"], run).net
    assert net is not None
    return net.requires_grad_(False)


def _weak(config: Config, dataset: Dataset, name: str, weights: str | int) -> Denoiser:
    """The denoiser of a run by which guidance=auto is guided, without guidance of its own."""
    run, saved = _checkpoint(config, name, weights)
    if saved["config"]["schedule"] != config["schedule"]:
        raise UserError("guidance.run", name, "was trained with another schedule")
    ours = {key: config[key] for key in ("device", "sample_batch")}
    weak = learned_of(saved["config"] | ours, dataset)
    return weak.with_weights(saved["state"]["ema"], run).unguided


def _checkpoint(config: Config, name: str, weights: str | int) -> tuple[RunDirectory, Config]:
    """A run that guides, which may be a stranger's, and its checkpoint; UserError where it was trained on other data."""
    run = RunDirectory.find(name, "guidance.run")
    saved = chosen(run, weights, "guidance.weights")
    check_config(saved["config"])
    ours, theirs = (
        {k: v for k, v in c["dataset"].items() if k not in ("labels", "n", *DATA_PLACES)}
        for c in (config, saved["config"])
    )
    if ours != theirs:
        raise UserError("guidance.run", name, "was trained on another dataset")
    return run, saved
