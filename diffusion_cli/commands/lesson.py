"""What is trained: the components, the network before its first step, and the batches that it learns from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.batches import Batches, BatchSource
    from diffusion_cli.components import Components
    from diffusion_cli.model.network import Network
    from diffusion_cli.runs.group import Processes
    from diffusion_cli.trainer import TrainState

log = logging.getLogger(__name__)
# Batches by which two states of a network are compared.
SCORE_BATCHES = 4
# Groups that say what the network learns.
LEARNED = ("parameterization", "objective", "schedule")


class Lesson:
    """What `diffusion train` trains: a network that learns from the data. Other trainings inherit from it."""

    def components(self, config: Config) -> Components:
        """Of what is trained, but for the network."""
        from diffusion_cli.components import build

        return build(config)

    def batches(
        self, c: Components, state: TrainState, run: RunDirectory, session: Session
    ) -> tuple[BatchSource, BatchSource]:
        """The batches of training, and those by which checkpoints are compared.

        c, state: what is trained, and how far it is.
        run: may keep what is learned from.
        session: of what takes long.
        """
        batches = c.batches
        return batches, compared_on(batches)

    def followed(self, c: Components, state: TrainState) -> BatchSource:
        """The batches of training in another process than 0, which hands out what is `handed` of them."""
        return c.batches


def in_steps(components: Components) -> Components:
    """The same with what its config says in epochs said in steps; UserError for data without end."""
    config, count = components.config, components.dataset.count
    epochs = config["epochs"]
    if epochs is None:
        return components
    if count is None:
        reason = "this dataset draws fresh points without end, so that an epoch of it has none; say steps=N"
        raise UserError("epochs", epochs, reason)
    each = -(-count // config["batch_size"])
    log.info("%d epochs of %d steps", epochs, each)
    every = {
        section: config[section] | {"every": (config[section]["every"] or 0) * each}
        for section in ("checkpoint", "stages")
    }
    return replace(components, config=config | every | {"steps": epochs * each, "epochs": None})


def new_state(components: Components) -> TrainState:
    """The state of training before its first step."""
    from torch.nn.modules.batchnorm import _BatchNorm

    from diffusion_cli.runs.restore import start_from
    from diffusion_cli.trainer import TrainState

    config, net = components.config, components.new_net()
    if config["init"]:
        start_from(net, config["init"], config["init_weights"])
    if config["shards"] > 1 and any(isinstance(module, _BatchNorm) for module in net.modules()):
        reason = "batch normalization would see a shard, and not the batch; take another normalization, or shards=1"
        raise UserError("shards", config["shards"], reason)
    state = TrainState.start(net, components.optimizer, config["loss_levels"] or ())
    if config["compile"]:
        state.net.compile()
    return state


def equalize(state: TrainState, group: Processes) -> None:
    """Makes the state of each process that of process 0."""
    import torch

    step = torch.tensor(state.step)
    vectors = state.weights.values, state.averages.values, *state.optimizer.state_dict().values()
    group.equalize([step, *vectors, *state.net.buffers()])
    state.step = int(step)


def header(components: Components, net: Network, facts: Facts, run: RunDirectory) -> str:
    """What a training says before its first step: what was read, and what is trained with what, where, and into which
    directory.

    facts: of the dataset (`description_of`).
    """
    import torch

    from diffusion_cli.dataset.description import lines_of

    config, chosen = components.config, run.record.choices
    size = sum(parameter.numel() for parameter in net.parameters())
    precision = components.network_denoiser(net).precision_name
    threads = torch.get_num_threads()
    of_run = {
        "network": f"{chosen['model']}, {size:,} parameters",
        "learns": ", ".join(f"{group} {chosen[group]}" for group in LEARNED if group in chosen),
        "training": f"{config['steps']:,} steps of {config['batch_size']:,}, {chosen['optimizer']}"
        f" with learning rate {components.optimizer.lr:g}, seed {components.seed}",
        "device": f"{components.device}, {precision}, {threads} thread{'s' if threads > 1 else ''}",
        "directory": f"{run.path}    (Ctrl-C saves, resume=true goes on)",
    }
    data = f"data: {chosen['dataset']}\n{lines_of(facts)}"
    return f"{data}\nrun\n{lines_of(of_run)}"


def compared_on(batches: Batches) -> Batches:
    """The batches by which networks that learn from `batches` are compared: of held-out data, where there are any."""
    from diffusion_cli.noise import Stream

    return replace(batches, label_dropout=0.0, stream=Stream.SCORE, held_out=True, shards=1)


def steps_of(components: Components, state: TrainState, batches: BatchSource) -> Iterator[TrainState]:
    """The generator that trains; see trainer.fit."""
    from diffusion_cli.trainer import fit

    denoiser, config = components.network_denoiser(state.net), components.config
    return fit(state, denoiser, batches, config["steps"], config["ema"]["decay"], components.group)


def score(components: Components, net: Network, batches: BatchSource) -> float:
    """The mean loss of a network on a few fixed batches, the same at every step. Training is not touched: no random state
    is shared."""
    import torch

    c = components
    with torch.no_grad():
        denoiser = c.network_denoiser(net.eval())
        losses = [c.objective(denoiser, batches(k)).mean() for k in range(SCORE_BATCHES)]
        return float(torch.stack(losses).mean())
