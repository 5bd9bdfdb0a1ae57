"""A network, and what it takes to make a denoiser of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.dataset.remembered import Remembered
from diffusion_cli.dataset.standardized import in_standard_units
from diffusion_cli.denoiser import Batched, Denoiser, ExactDenoiser, NetworkDenoiser
from diffusion_cli.device import device_of, precision_of
from diffusion_cli.errors import UserError, in_group
from diffusion_cli.model.classifier import LabelClassifier
from diffusion_cli.model.network import Network, as_network
from diffusion_cli.noise import Stream, seeded
from diffusion_cli.objective import Loss
from diffusion_cli.options.build import build_component
from diffusion_cli.prediction import Parameterization
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.restore import fit_in
from diffusion_cli.schedule import Schedule


@dataclass(frozen=True, eq=False, kw_only=True)
class Learned:
    """What is learned of the data, before anything guides or samples it.

    config: the options of the run, a plain nested dict.
    seed: of the run.
    device: where the network runs.
    dataset, schedule, parameterization, objective: what the network learns.
    net: the network with its averaged weights; None: the exact denoiser of the dataset's density stands for it.
    run: where the network comes from, or None.
    tick: called between the steps of what takes long; it may raise, to stop it.
    """

    config: Config = field(repr=False)
    seed: int
    device: torch.device
    dataset: Dataset
    schedule: Schedule
    parameterization: Parameterization
    objective: Loss
    net: Network | None = None
    run: RunDirectory | None = None
    tick: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def unguided(self) -> Denoiser:
        """The denoiser of the network, or without one the exact denoiser."""
        if self.net is None:
            return self.exact
        if not self.objective.generates:
            name = str(self.run.path if self.run else ...)
            raise UserError("run", name, "is a classifier, which draws no samples")
        return Batched(self.network_denoiser(self.net.eval()), self.config["sample_batch"], self.tick)

    @property
    def exact(self) -> ExactDenoiser:
        if self.dataset.density is None:
            raise UserError("run", "exact", "the exact denoiser of this dataset is not known")
        return ExactDenoiser(self.dataset.density, self.schedule)

    def network_denoiser(self, net: Network) -> NetworkDenoiser:
        """A network, trained or in training, as a denoiser of this run's precision, without guidance."""
        precision = precision_of(self.config["precision"], self.device, net)
        return NetworkDenoiser(net, self.parameterization, self.schedule, precision)

    def new_net(self) -> Network:
        """The network with its initial weights, which depend on the seed alone."""
        shape, outputs = self.dataset.shape, self.objective.outputs
        classes = self.dataset.num_classes if self.objective.generates else 0
        # A student's network takes the time to which it goes and, where it has learned guidance, the weight.
        numbers = 1 + (self.config["w_max"] is not None) if "calls" in self.config else 0
        extra = {"outputs": outputs} if outputs > 1 else {}
        extra |= {"numbers": numbers} if numbers else {}
        with seeded(self.seed, Stream.WEIGHTS):
            module = build_component(self.config, "model", shape=shape, num_classes=classes, **extra)
            net = as_network(module, shape, classes, outputs)
            if not self.objective.generates:
                with in_group("objective"):
                    net = LabelClassifier(net, self.dataset.num_classes)
        return net.to(self.device)

    def with_weights(self, weights: Mapping[str, Tensor], run: RunDirectory) -> Self:
        """The same with a network of these weights of a run; UserError where they do not fit."""
        net = self.new_net()
        fit_in(net.load_state_dict, dict(weights), "run", run)
        return replace(self, net=net.eval(), run=run)

    @property
    def remembered(self) -> Facts:
        """What a student's checkpoint keeps of its teacher: this config, and the weights of the network."""
        assert self.net is not None
        return {"config": self.config, "ema": self.net.state_dict()}


def learned_of(config: Config, dataset: Dataset | None = None) -> Learned:
    """What a config says is learned, without a network. Raises UserError for options that do not fit each other.

    dataset: the one to take, in place of the config's.
    """
    with in_group("dataset"):
        dataset = in_standard_units(dataset or build_component(config, "dataset"))
    schedule, parameterization, objective = (
        build_component(config, group) for group in ("schedule", "parameterization", "objective")
    )
    is_exact = dataset.density is not None or isinstance(dataset, Remembered)
    if objective.targets == "exact" and not is_exact:
        raise UserError("objective.targets", "exact", "the exact density of this dataset is not known")
    with in_group(""):
        device = device_of(config["device"], dataset.shape)
    return Learned(
        config=config,
        seed=config["seed"],
        device=device,
        dataset=dataset,
        schedule=schedule,
        parameterization=parameterization,
        objective=objective,
    )
