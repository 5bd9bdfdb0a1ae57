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
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.dataset.targets import averaged, coupled, exact, stable
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.device import ALONE, ProcessGroup, limit_threads
from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.network import Network, matrices
from diffusion_cli.noise import Stream, generator, seeded
from diffusion_cli.objective import Loss, TrainingBatch, descent_of
from diffusion_cli.optimizer import Adam, Flat, Optimizer
from diffusion_cli.schedule import Schedule


class BatchSource(Protocol):
    """(step, shard) -> a part of a batch, of which every number is a function of (seed, step, shard).

    size: points in a batch, all shards together.
    shards: parts of a batch, as equal as can be.
    handed: tensors of it that process 0 has made, and hands to the others.
    """

    @property
    def schedule(self) -> Schedule: ...

    @property
    def objective(self) -> Loss: ...

    @property
    def seed(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def shards(self) -> int: ...

    @property
    def handed(self) -> Sequence[Tensor]: ...

    def __call__(self, step: int, shard: int = 0) -> TrainingBatch: ...


def rows_of_shard(batches: BatchSource, shard: int) -> range:
    """Which points of a batch are those of a shard."""
    size, shards = batches.size, batches.shards
    return range(shard * size // shards, (shard + 1) * size // shards)


def position_of(batches: BatchSource, step: int, shard: int) -> tuple[int, ...]:
    """Of the random numbers of a shard in their stream."""
    return (step,) if batches.shards == 1 else (step, shard)


@dataclass(frozen=True)
class Batches:
    """Batches of the data, noised; of shards, each of which is a function of (seed, step, shard).

    dataset: where the clean points come from.
    schedule: the noise levels.
    objective: how times are drawn, and of what x0 and eps are means (`Objective.targets`).
    size: points in a batch, all shards together.
    seed: of all batches.
    label_dropout: fraction of the labels replaced by "no label" (Ho & Salimans 2021, algorithm 1).
    device: on which all is drawn.
    stream: the use of the seed.
    held_out: draw what no training step sees.
    shards: parts of a batch, as equal as can be; the times of all of them are stratified together.
    """

    dataset: Dataset
    schedule: Schedule
    objective: Loss
    size: int
    seed: int
    label_dropout: float = 0.0
    device: torch.device | str = "cpu"
    stream: Stream = Stream.TRAINING
    held_out: bool = False
    shards: int = 1
    handed: ClassVar[Sequence[Tensor]] = ()

    def __call__(self, step: int, shard: int = 0) -> TrainingBatch:
        rows, position = rows_of_shard(self, shard), position_of(self, step, shard)
        g, n = generator(self.seed, self.stream, *position, device=self.device), len(rows)
        x0, label, source = self.draw(n, g)
        t = self.objective.draw_times(self.schedule, n, g, rows.start, self.size)
        eps = torch.randn(x0.shape, generator=g, device=x0.device)
        if self.objective.coupling == "optimal":
            eps = coupled(x0, eps, label)
        if label is not None and self.label_dropout:
            dropped = torch.rand(n, generator=g, device=x0.device) < self.label_dropout
            label = label.masked_fill(dropped, self.dataset.num_classes)
        batch = TrainingBatch(x0, t, eps, label)
        return batch if self.objective.targets == "sample" else self._means(batch, source, position)

    @property
    def draw(self) -> Callable[[int, torch.Generator], Batch]:
        """Where points come from: draw(n, generator)."""
        return self.dataset.held_out.draw if self.held_out else self.dataset.draw

    def _means(self, batch: TrainingBatch, source: Tensor | None, position: tuple[int, ...]) -> TrainingBatch:
        """The batch with x0 and eps as their means given x_t and the label; x_t stays what it was."""
        x0, t, eps, label, _ = batch
        level = self.schedule.level(t, like=x0)
        if self.objective.targets == "exact":
            if self.dataset.density is None:
                raise ArgumentError("targets", "exact", "needs data whose density is known")
            x0, eps = exact(x0, eps, self.dataset.density, level, label)
        elif source is not None:
            x0, eps = averaged(x0, eps, source, level.alpha, level.sigma)
        else:
            g = generator(self.seed, Stream.TARGETS, self.stream, *position, device=self.device)
            more = self.draw(self.objective.references, g)
            x0, eps = stable(x0, eps, more, level, label, self.dataset.num_classes)
        return batch._replace(x0=x0, eps=eps)


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
        return schedule.time_of(-2 * torch.tensor(self.levels).log()).to(self.loss.device)

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

    def state_dict(self) -> dict[str, Any]:
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

    def state_dict(self) -> dict[str, Any]:
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
    """Advances `state` to `steps`, yielding it after every update. No host-device synchronisation within.

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

    def weighted() -> Iterator[Tensor]:
        """Gradient and log of each shard of this process, as they count in the whole batch."""
        for shard in group.own(batches.shards):
            weight = len(rows_of_shard(batches, shard)) / batches.size
            losses = descend_on(batches(state.step, shard), state.step, shard, weight=weight)
            yield torch.cat((grad * weight, losses))
            grad.zero_()

    while state.step < steps:
        if batches.shards > 1:
            whole = group.add_up(weighted())
            grad.copy_(whole[: len(grad)])
            losses = whole[len(grad) :]
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
