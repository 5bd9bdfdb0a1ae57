"""Training: a state, and a generator that advances it one step at a time.

    for state in fit(state, ...): ...       # the caller logs, saves, stops

The batch of step k is a pure function of (seed, k), the learning rate one of k: a run resumed from a saved state
goes on bit for bit as if it had never stopped (same machine, thread count and torch). A batch may be made of shards,
each of which has random numbers of its own; their gradients are added in their order, so that it makes no difference to
the bits which of several processes computes which.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_cli.batches import BatchSource, rows_of_shard
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.descent import descent_of
from diffusion_cli.device import ALONE, Contribution, ProcessGroup, limit_threads
from diffusion_cli.model.network import Network, matrices
from diffusion_cli.noise import Stream, seeded
from diffusion_cli.objective import TrainingBatch
from diffusion_cli.optimizer import Adam, Flat, Optimizer
from diffusion_cli.schedule import Schedule, widest


class Totals:
    """Sums of what the log reports the means of, since its last row; kept on the device.

    levels: edges of sigma/alpha between which the loss is reported by itself, too.
    """

    def __init__(self, levels: Sequence[float], device: torch.device) -> None:
        self.levels = tuple(sorted(levels))
        self.steps = 0
        self.loss, self.norm = torch.zeros((), device=device), torch.zeros((), device=device)
        # Sum (row 0) and number (row 1) of the losses below, between and above the levels.
        self.by_level = torch.zeros(2, len(levels) + 1, device=device)

    def edges(self, schedule: Schedule) -> Tensor:
        """The times of the levels."""
        device = self.loss.device
        return schedule.time_of(-2 * torch.tensor(self.levels).log()).to(device, widest(device))

    def of(self, losses: Tensor, t: Tensor, edges: Tensor, weight: float = 1.0) -> Tensor:
        """What `add` takes of the losses (B,) of a batch at times (B,), or of a shard of that weight: a vector."""
        mean = losses.mean().reshape(1) * weight
        if not self.levels:
            return mean
        inside = F.one_hot(torch.bucketize(t, edges), len(edges) + 1).to(losses.dtype)
        return torch.cat((mean, losses @ inside, inside.sum(0)))

    def add(self, losses: Tensor, norm: Tensor) -> None:
        """One step: the sum of `of` over its shards, and the norm of its gradient, 0-d."""
        self.steps += 1
        self.loss += losses[0]
        self.norm += norm
        if self.levels:
            self.by_level += losses[1:].view_as(self.by_level)

    def finite(self) -> bool:
        """Whether every loss and every gradient was finite."""
        return math.isfinite(float(self.loss) + float(self.norm))

    def means(self) -> dict[str, float]:
        """loss, grad_norm, and loss_A_B: the loss where A < sigma/alpha <= B, nan where no time was drawn there.

        Starts anew. This is where the host waits for the device.
        """
        n = max(self.steps, 1)
        row = {"loss": float(self.loss) / n, "grad_norm": float(self.norm) / n}
        total, count = self.by_level.tolist()
        for i, (low, high) in enumerate(pairwise(self.levels), 1):
            row[f"loss_{low:g}_{high:g}"] = total[i] / count[i] if count[i] else math.nan
        self.steps = 0
        for sums in (self.loss, self.norm, self.by_level):
            sums.zero_()
        return row

    def state_dict(self) -> dict[str, int | Tensor]:
        return {
            "since_log": self.steps,
            "total_loss": self.loss,
            "total_norm": self.norm,
            "by_level": self.by_level,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.steps = saved["since_log"]
        self.loss.copy_(saved["total_loss"])
        self.norm.copy_(saved["total_norm"])
        self.by_level.copy_(saved["by_level"])


@dataclass
class TrainState:
    """All that training changes.

    net: the network in training.
    ema: a copy of it with averaged weights, by which samples are drawn.
    weights, averages: the parameters of net and of ema, each as one vector.
    optimizer: of the weights, with its options.
    totals: for the next row of the log.
    step: updates done.
    lr: learning rate of the last of them.
    """

    net: Network
    ema: Network
    weights: Flat
    averages: Flat
    optimizer: Adam
    totals: Totals
    step: int = 0
    lr: float = math.nan

    @classmethod
    def start(cls, net: Network, optimizer: Optimizer, levels: Sequence[float] = ()) -> TrainState:
        """The state before the first update. levels: see `Totals`."""
        # Buffers are shared: running statistics are averages already.
        ema = copy.deepcopy(net, {id(buffer): buffer for buffer in net.buffers()})
        weights, averages = (Flat(p for p in of.parameters() if p.requires_grad) for of in (net, ema))
        ema.requires_grad_(False)
        totals = Totals(levels, weights.values.device)
        return cls(net, ema, weights, averages, optimizer.build(weights, matrices(net)), totals)

    def log(self) -> dict[str, float]:
        """A row of the log: means since the last one (see `Totals.means`), and the learning rate."""
        return {**self.totals.means(), "lr": self.lr}

    def state_dict(self) -> dict[str, object]:
        return {
            "step": self.step,
            **self.totals.state_dict(),
            "net": _copied(self.net.state_dict()),
            "ema": _copied(self.ema.state_dict()),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.step = saved["step"]
        self.totals.load_state_dict(saved)
        self.net.load_state_dict(saved["net"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with a memory of its own for each: a view would be saved as all that it is a view of."""
    return {name: value.clone() for name, value in state.items()}


def fit(
    state: TrainState,
    denoiser: NetworkDenoiser,
    batches: BatchSource,
    steps: int,
    ema_decay: float = 0.99,
    group: ProcessGroup = ALONE,
) -> Iterator[TrainState]:
    """Advances `state` to `steps`, yielding it after every update. A GPU is not waited for, but for the size of sets that vary.

    state: from `TrainState.start`, or a loaded one.
    denoiser: of state.net.
    batches: what is learned, with the objective.
    steps: updates in all, those of earlier calls among them.
    ema_decay: of the averaged weights.
    group: the processes among which the shards of each batch are divided; all of them keep the same state.
    """
    limit_threads(state.net.shape, state.weights.values.device)
    options, dropout, grad = state.optimizer.options, state.net.dropout, state.optimizer.grad
    descend = descent_of(denoiser, batches.objective)
    edges = state.totals.edges(batches.schedule)

    def descend_on(batch: TrainingBatch, *position: int, weight: float = 1.0) -> Tensor:
        """Adds the gradient of its mean loss; returns what the log has of it."""
        with (
            seeded(batches.seed, Stream.DROPOUT, *position, device=batch.x0.device)
            if dropout
            else nullcontext()
        ):
            losses = descend(batch)
        return state.totals.of(losses, batch.t, edges, weight)

    def contributions() -> Iterator[Contribution]:
        """Gradient and log of each shard of this process, as they count in the whole batch."""
        own = group.own(batches.shards)
        for shard in own:
            if shard != own[0]:
                grad.zero_()
            weight = len(rows_of_shard(batches, shard)) / batches.size
            losses = descend_on(batches(state.step, shard), state.step, shard, weight=weight)
            yield Contribution(grad, weight, losses)

    while state.step < steps:
        if batches.shards > 1:
            losses = group.add_up(contributions(), grad)
        else:
            losses = descend_on(batches(state.step), state.step)
        state.lr = options.lr_at(state.step, steps)
        norm = state.optimizer.step(state.lr)
        # The average starts short, so that early samples are not those of the initial weights.
        decay = min(ema_decay, (1 + state.step) / (10 + state.step))
        state.averages.values.lerp_(state.weights.values, 1 - decay)
        state.step += 1
        state.totals.add(losses, norm)
        yield state
