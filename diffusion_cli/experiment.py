"""From a config to the objects of one run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_cli import checkpoint, sampler
from diffusion_cli.build import build
from diffusion_cli.dataset.protocol import Batch
from diffusion_cli.denoiser import Batched, Denoiser, ExactDenoiser, Measured, NetworkDenoiser
from diffusion_cli.errors import UserError
from diffusion_cli.guidance import ClassifierFree, ExactClassifier
from diffusion_cli.metrics.evaluation import ClassifierEvaluation, Subject
from diffusion_cli.noise import generator, mix
from diffusion_cli.resume import check_same
from diffusion_cli.run import Run
from diffusion_cli.trainer import Batches, TrainState, fit

log = logging.getLogger(__name__)
WEIGHTS, LABELS, FLOOR, EVALUATION = 2, 3, 4, 5  # streams of the seed, beside trainer.TRAIN


def device_of(name: str) -> torch.device:
    """The device meant by device=NAME; auto takes a GPU where there is one."""
    usable = ["cpu"]
    if torch.cuda.is_available():
        usable = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]
    elif torch.backends.mps.is_available():
        usable = ["mps", "cpu"]
    if name == "auto":
        return torch.device(usable[0])
    if name not in usable:
        raise UserError("device", name, "there is none here", ("auto", *usable))
    return torch.device(name)


def newest(run: Run) -> dict[str, Any]:
    """The content of the newest checkpoint that verifies, saying so when it is not the last one."""
    for file in reversed(run.checkpoints()):
        try:
            return checkpoint.load(file)
        except checkpoint.Damaged as damage:
            log.warning("%s; trying the one before", damage)
    raise UserError("run", str(run.path), "has no checkpoint that can be read whole")


class Experiment:
    """All objects of one run, each made when first asked for.

    config: a plain nested dict, as in .hydra/config.yaml. run: where a network's checkpoints lie; None for the exact
    denoiser of the dataset's density.
    """

    def __init__(self, config: dict[str, Any], run: Run | None = None):
        self.config, self.run = config, run
        self.seed: int = config["seed"]
        self.device = device_of(config["device"])
        if config["threads"]:
            torch.set_num_threads(config["threads"])

    @cached_property
    def dataset(self) -> Any:
        return build(self.config, "dataset")

    @cached_property
    def schedule(self) -> Any:
        return build(self.config, "schedule")

    @cached_property
    def parameterization(self) -> Any:
        return build(self.config, "parameterization")

    @cached_property
    def objective(self) -> Any:
        return build(self.config, "objective")

    @cached_property
    def optimizer(self) -> Any:
        return build(self.config, "optimizer")

    @cached_property
    def sampler(self) -> Any:
        return build(self.config, "sampler")

    @cached_property
    def guidance(self) -> Any:
        """Denoiser -> denoiser. For one that names a run, that run's classifier is handed in."""
        node = dict(self.config["guidance"])
        if "run" not in node:
            guidance = build(self.config, "guidance")
            if isinstance(guidance, ClassifierFree) and not self.dataset.num_classes:
                raise UserError("guidance", "cfg", "this dataset has no labels, and so its model knows none")
            return guidance
        return build({"guidance": node}, "guidance", classifier=self._classifier_of(node.pop("run")))

    def _classifier_of(self, name: str) -> Any:
        if name == "exact":
            return ExactClassifier(self.dataset.density)
        run = Run.find(name)
        config = newest(run)["config"]
        ours, theirs = (
            {k: v for k, v in c["dataset"].items() if k not in ("labels", "n")} for c in (self.config, config)
        )
        if ours != theirs:
            raise UserError("guidance.run", name, "was trained on another dataset")
        other = Experiment(config | {"device": self.config["device"], "threads": None}, run)
        if other.objective.generates:
            raise UserError("guidance.run", name, "is no classifier; train one with objective=classifier")
        return other.net.requires_grad_(False)

    @property
    def num_classes(self) -> int:
        """Classes that may be asked for: the data's, or those of the classifier that guides."""
        return getattr(getattr(self.guidance, "classifier", None), "num_classes", self.dataset.num_classes)

    @cached_property
    def evaluation(self) -> Any:
        return build(self.config, "evaluation") if self.objective.generates else ClassifierEvaluation()

    @cached_property
    def logger(self) -> Any:
        return build(self.config, "logger")

    @cached_property
    def precision(self) -> torch.dtype:
        """bf16 under autocast where it pays: auto takes it on a GPU that has it."""
        auto = "bf16" if self.device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
        name = auto if self.config["precision"] == "auto" else self.config["precision"]
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]

    def new_net(self) -> nn.Module:
        """The network with its initial weights, which depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(self.seed, WEIGHTS).initial_seed())
            extra = {"outputs": self.objective.outputs} if self.objective.outputs > 1 else {}
            shape, classes = self.dataset.shape, self.dataset.num_classes
            net = build(self.config, "model", shape=shape, num_classes=classes, **extra)
        return net.to(self.device)

    # training

    def new_state(self) -> TrainState:
        state = TrainState.start(self.new_net(), self.optimizer, self.config["loss_levels"] or ())
        if self.config["compile"]:
            state.net.compile()
        return state

    def fit(self, state: TrainState) -> Iterator[TrainState]:
        """The generator that trains; see trainer.fit."""
        dropout = (
            self.guidance.label_dropout if self.objective.generates else 0.0
        )  # a classifier needs every label
        batches = Batches(
            self.dataset,
            self.schedule,
            self.objective,
            self.config["batch_size"],
            self.seed,
            dropout,
            self.device,
        )
        denoiser = NetworkDenoiser(state.net, self.parameterization, self.schedule)
        steps, decay = self.config["steps"], self.config["ema"]["decay"]
        return fit(state, denoiser, batches, self.optimizer, steps, decay, self.precision)

    def continue_from(self, run: Run) -> dict[str, Any]:
        """The newest checkpoint of `run` that verifies; UserError if this config would make it another run."""
        content = newest(run)
        check_same(self.config, content["config"])
        return content

    @torch.no_grad()
    def loss_floor(self, n: int) -> float | None:
        """The exact denoiser's training loss: what the loss curve can at best fall to. None where nobody knows it."""
        if self.dataset.density is None or self.objective.loss != "mse" or not self.objective.generates:
            return None
        batches = Batches(self.dataset, self.schedule, self.objective, n, self.seed)
        x0, t, eps, label = batches(FLOOR)
        exact = ExactDenoiser(self.dataset.density, self.schedule)
        return float(self.objective.irreducible(exact, self.parameterization, x0, t, eps, label).mean())

    # sampling

    def denoise_with(self, net: nn.Module) -> Denoiser:
        """The guided denoiser of a network."""
        if not self.objective.generates:
            raise UserError(
                "run", str(self.run.path if self.run else ...), "is a classifier, which draws no samples"
            )
        network = NetworkDenoiser(net.eval(), self.parameterization, self.schedule)
        return self._guided(Batched(network, self.config["sample_batch"]))

    def _guided(self, denoiser: Denoiser) -> Denoiser:
        if getattr(self.sampler, "variance", None) == "analytic":
            denoiser = Measured(denoiser, self.dataset, self.seed, self.device)
        return self.guidance(denoiser)

    @cached_property
    def net(self) -> nn.Module:
        """The network of the run with its averaged weights."""
        net = self.new_net()
        net.load_state_dict(newest(self.run)["state"]["ema"])
        return net.eval()

    @cached_property
    def denoiser(self) -> Denoiser:
        """The guided denoiser of the run's network; without a run, the exact one."""
        return self._guided(self.exact) if self.run is None else self.denoise_with(self.net)

    @property
    def exact(self) -> ExactDenoiser:
        if self.dataset.density is None:
            raise UserError("run", "exact", "the exact denoiser of this dataset is not known")
        return ExactDenoiser(self.dataset.density, self.schedule)

    def labels(self, n: int, seed: int, asked: int | list[int] | None = None) -> Tensor | None:
        """(n,) labels: the asked ones in turn, or null: drawn as in the data; None for unlabelled data."""
        classes = self.num_classes
        if asked is None:
            if classes > self.dataset.num_classes:
                raise UserError("label", asked, f"guidance needs one of 0..{classes - 1}")
            if not classes:
                return None
            return self.dataset.draw(n, generator(seed, LABELS, device=self.device)).label
        if not classes:
            raise UserError("label", asked, "this model was trained without labels")
        asked = [asked] if isinstance(asked, int) else asked
        for label in asked:
            if not 0 <= label < classes:
                raise UserError("label", label, f"must be one of 0..{classes - 1}")
        return torch.tensor(asked, device=self.device).repeat(-(-n // len(asked)))[:n]

    def walk(self, denoiser: Denoiser, n: int, seed: int, label: Tensor | None = None):
        """The chain of n samples: iterates sampler.State from x_T to x_0."""
        return sampler.chain(self.sampler, denoiser, n, self.dataset.shape, seed, label, self.device)

    def draw(self, denoiser: Denoiser, n: int, seed: int, label: Tensor | None = None) -> Tensor:
        """n samples x0, (n, *shape)."""
        for state in self.walk(denoiser, n, seed, label):
            last = state.x
        return last

    def evaluate(self) -> dict[str, Any]:
        """The metrics of fresh samples; of a classifier, its own."""
        measure = self.evaluation
        if not self.objective.generates:
            return measure(self.net, self.dataset, self.schedule, self.seed)

        def draw(k: int) -> Batch:
            seed = mix(self.seed, EVALUATION, k)
            label = self.labels(measure.n, seed, self.config.get("label"))
            x0 = self.draw(self.denoiser, measure.n, seed, label).cpu()
            return Batch(x0, None if label is None else label.cpu())

        return measure(Subject(draw, self.denoiser, self.dataset, self.seed, self.device))

    def arrays(self, denoiser: Denoiser, n: int) -> tuple[Any, Any]:
        """n samples as numpy arrays: x0 (n, *shape) and their labels (n,) or None, from the run's seed."""
        label = self.labels(n, self.seed, self.config.get("label"))
        x = self.draw(denoiser, n, self.seed, label)
        return x.cpu().numpy(), None if label is None else label.cpu().numpy()

    @cached_property
    def samples(self) -> tuple[Any, Any]:
        """The n samples of this config: x0 and label."""
        return self.arrays(self.denoiser, self.config["n"])
