"""From a config to the objects of one run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_cli import sampler
from diffusion_cli.build import build
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.held_out import HeldOut
from diffusion_cli.denoiser import Batched, Denoiser, ExactDenoiser, Measured, NetworkDenoiser
from diffusion_cli.device import device_of, keep_freed_memory, precision_of
from diffusion_cli.errors import UserError
from diffusion_cli.guidance import ClassifierFree, ExactClassifier
from diffusion_cli.metrics.classification import ClassifierEvaluation
from diffusion_cli.metrics.evaluation import Subject
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.noise import generator, mix, seeded
from diffusion_cli.options import schema
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.directory import Run
from diffusion_cli.runs.restore import LAST, chosen, fit_in, newest
from diffusion_cli.runs.resume import check_same
from diffusion_cli.trainer import Batches, TrainState, fit

WEIGHTS, LABELS, FLOOR, EVALUATION = 2, 3, 4, 5  # streams of the seed, beside trainer.TRAIN
SCORE = 2**40  # batches from here on are trained on by nobody
SCORE_BATCHES = 4


class Experiment:
    """All objects of one run, each made when first asked for.

    config: a plain nested dict, as in .hydra/config.yaml. run: where a network's checkpoints lie; None for the exact
    denoiser of the dataset's density.
    """

    def __init__(self, config: dict[str, Any], run: Run | None = None):
        self.config, self.run = config, run
        self.seed: int = config["seed"]
        self.device = device_of(config["device"])
        keep_freed_memory()
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
        objective = build(self.config, "objective")
        if objective.averaged and not hasattr(self.dataset, "draw_with_source"):
            raise UserError("objective.averaged", True, "needs sets of points: dataset=stars or point_sets")
        return objective

    @cached_property
    def optimizer(self) -> Any:
        return build(self.config, "optimizer")

    @cached_property
    def sampler(self) -> Any:
        return build(self.config, "sampler")

    @property
    def times(self) -> list[float]:
        """The times through which the sampler walks, T first; UserError where its options do not fit the schedule."""
        return self.sampler.times(self.schedule) if isinstance(self.sampler, sampler.Sampler) else []

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
        schema.check(config)  # a stranger's, perhaps, as the line's own was
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

    def new_net(self) -> nn.Module:
        """The network with its initial weights, which depend on the seed alone."""
        with seeded(self.seed, WEIGHTS):
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
        denoiser = self.network_denoiser(state.net)
        steps, decay = self.config["steps"], self.config["ema"]["decay"]
        return fit(state, denoiser, batches, steps, decay)

    def continue_from(self, run: Run) -> dict[str, Any]:
        """The newest checkpoint of `run` that verifies; UserError if this config would make it another run."""
        content = newest(run, "hydra.run.dir")
        check_same(self.config, content["config"])
        return content

    @torch.no_grad()
    def score(self, net: nn.Module) -> float:
        """The mean loss of a network on a few fixed batches, the same at every step, of held-out data where there are
        any: by it checkpoints are compared. Training is not touched: no random state is shared."""
        held = HeldOut(self.dataset)
        batches = Batches(
            held, self.schedule, self.objective, self.config["batch_size"], self.seed, device=self.device
        )
        denoiser = self.network_denoiser(net.eval())
        losses = [self.objective(denoiser, *batches(SCORE + k)).mean() for k in range(SCORE_BATCHES)]
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def loss_floor(self, n: int) -> float | None:
        """The exact denoiser's training loss: what the loss curve can at best fall to. None where nobody knows it."""
        if self.dataset.density is None or self.objective.loss != "mse" or not self.objective.generates:
            return None
        batches = Batches(self.dataset, self.schedule, self.objective, n, self.seed)
        x0, t, eps, label = batches(FLOOR)
        exact = ExactDenoiser(self.dataset.density, self.schedule)
        return float(self.objective.irreducible(exact, self.parameterization, x0, t, eps, label).mean())

    def network_denoiser(self, net: nn.Module) -> NetworkDenoiser:
        """The network, trained or in training, as a denoiser of its precision."""
        precision = precision_of(self.config["precision"], self.device, net)
        return NetworkDenoiser(net, self.parameterization, self.schedule, precision)

    # sampling

    def denoise_with(self, net: nn.Module) -> Denoiser:
        """The guided denoiser of a network."""
        if not self.objective.generates:
            raise UserError(
                "run", str(self.run.path if self.run else ...), "is a classifier, which draws no samples"
            )
        return self._guided(Batched(self.network_denoiser(net.eval()), self.config["sample_batch"]))

    def _guided(self, denoiser: Denoiser) -> Denoiser:
        if getattr(self.sampler, "variance", None) == "analytic":
            denoiser = Measured(denoiser, self.dataset, self.seed, self.device)
        guided = self.guidance(denoiser)
        # The gradient of a classifier takes several times the memory of the network itself.
        return (
            Batched(guided, self.config["sample_batch"]) if hasattr(self.guidance, "classifier") else guided
        )

    @cached_property
    def net(self) -> nn.Module:
        """The network of the run with its averaged weights."""
        net = self.new_net()
        fit_in(net, chosen(self.run, self.config.get("weights", LAST))["state"]["ema"], "run", self.run)
        return net.eval()

    def export(self, file: Path) -> None:
        """Writes the network of the run, averaged weights and all, as safetensors; its metadata are the config (JSON),
        the run, the training step and a digest of the weights (checkpoint.digest), which the format itself lacks."""
        saved = chosen(self.run, self.config.get("weights", LAST))
        about = {
            "run": str(self.run.path),
            "step": str(saved["state"]["step"]),
            "config": json.dumps(self.config),
        }
        checkpoint.export(file, saved["state"]["ema"], about)

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

    def repeated(self) -> Experiment:
        """This experiment as it is evaluated during training (config `monitor`): fewer samples, one draw, fewer steps.

        The data, and what else is dear, are shared.
        """
        asked = self.config["monitor"]
        fewer = {"n": asked["n"], "draws": 1}
        evaluation, sampler = self.config["evaluation"], self.config["sampler"]
        evaluation = evaluation | {key: value for key, value in fewer.items() if key in evaluation}
        if asked["steps"] is not None:
            sampler = sampler | {"steps": asked["steps"]}
        other = Experiment(self.config | {"evaluation": evaluation, "sampler": sampler}, self.run)
        for name in ("dataset", "schedule", "parameterization", "objective", "guidance"):
            setattr(other, name, getattr(self, name))
        if not self.objective.generates:
            other.evaluation = ClassifierEvaluation(asked["n"])
        return other

    def subject(self, net: nn.Module | None = None, progress: Progress = silent) -> Subject:
        """What is evaluated: samples of a network, by default the run's own."""
        denoiser = self.denoiser if net is None else self.denoise_with(net)

        def draw(k: int) -> Batch:
            seed, n = mix(self.seed, EVALUATION, k), self.evaluation.n
            label = self.labels(n, seed, self.config.get("label"))
            x0 = self.draw(denoiser, n, seed, label).cpu()
            return Batch(x0, None if label is None else label.cpu())

        return Subject(draw, denoiser, self.dataset, self.seed, self.device, progress)

    def evaluate(self, net: nn.Module | None = None, progress: Progress = silent) -> dict[str, Any]:
        """The metrics of fresh samples of a network, by default the run's; of a classifier, its own."""
        if not self.objective.generates:
            return self.evaluation(
                self.net if net is None else net.eval(), self.dataset, self.schedule, self.seed
            )
        return self.evaluation(self.subject(net, progress))

    def arrays(self, denoiser: Denoiser, n: int) -> tuple[Any, Any]:
        """n samples as numpy arrays: x0 (n, *shape) and their labels (n,) or None, from the run's seed."""
        label = self.labels(n, self.seed, self.config.get("label"))
        x = self.draw(denoiser, n, self.seed, label)
        return x.cpu().numpy(), None if label is None else label.cpu().numpy()

    @cached_property
    def samples(self) -> tuple[Any, Any]:
        """The n samples of this config: x0 and label."""
        return self.arrays(self.denoiser, self.config["n"])
