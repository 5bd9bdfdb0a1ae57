"""Training: a state, and a generator that advances it one step at a time.

    for state in fit(state, ...): ...       # the caller logs, saves, stops

The batch of step k is a pure function of (seed, k), the learning rate one of k: a run resumed from a saved state
goes on bit for bit as if it had never stopped (same machine, thread count and torch).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_cli.dataset.averaged import averaged
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.model.network import Network
from diffusion_cli.noise import generator, seeded
from diffusion_cli.objective import Objective
from diffusion_cli.optimizer import Adam, Flat, Optimizer
from diffusion_cli.schedule import Schedule

TRAIN, DROPOUT = 1, 8  # keep the streams of training apart from the other uses of the seed


class Drawn(NamedTuple):
    """A training batch: x0, eps (B, *shape); t (B,); label (B,) int64 or None."""

    x0: Tensor
    t: Tensor
    eps: Tensor
    label: Tensor | None


@dataclass(frozen=True)
class Batches:
    """Step -> batch; for an averaged objective x0 and eps are the means that dataset.averaged tells of.

    label_dropout: share of labels replaced by "no label" (Ho & Salimans 2021, algorithm 1).
    """

    dataset: Dataset
    schedule: Schedule
    objective: Objective
    size: int
    seed: int
    label_dropout: float = 0.0
    device: torch.device | str = "cpu"

    def __call__(self, step: int) -> Drawn:
        g = generator(self.seed, TRAIN, step, device=self.device)
        if self.objective.averaged:
            (x0, label), source = self.dataset.draw_with_source(self.size, g)
        else:
            (x0, label), source = self.dataset.draw(self.size, g), None
        t = self.objective.draw_times(self.schedule, self.size, g)
        eps = torch.randn(x0.shape, generator=g, device=x0.device)
        if source is not None:
            level = self.schedule.level(t, like=x0)
            x0, eps = averaged(x0, eps, source, level.alpha, level.sigma)
        if label is not None and self.label_dropout:
            dropped = torch.rand(self.size, generator=g, device=x0.device) < self.label_dropout
            label = label.masked_fill(dropped, self.dataset.num_classes)
        return Drawn(x0, t, eps, label)


@dataclass
class TrainState:
    """All that training changes. The totals add up since the last log line, on the device.

    levels: rising edges of sigma/alpha between which the loss is logged apart, too; by_level (2, len(levels) + 1) holds
    sum and number of the losses below, between and above them.
    """

    net: Network
    ema: Network
    weights: Flat  # of net
    averages: Flat  # of ema
    optimizer: Adam
    step: int = 0
    since_log: int = 0
    total_loss: Tensor | None = None
    total_norm: Tensor | None = None
    levels: tuple[float, ...] = ()
    by_level: Tensor | None = None

    @classmethod
    def start(cls, net: Network, optimizer: Optimizer, levels: Sequence[float] = ()) -> TrainState:
        device = next(net.parameters()).device
        # Buffers are shared: running statistics are averages already.
        ema = copy.deepcopy(net, {id(buffer): buffer for buffer in net.buffers()})
        weights, averages = (Flat(p for p in of.parameters() if p.requires_grad) for of in (net, ema))
        ema.requires_grad_(False)
        zero = torch.zeros((), device=device)
        parts = torch.zeros(2, len(levels) + 1, device=device)
        return cls(
            net,
            ema,
            weights,
            averages,
            optimizer.build(weights),
            total_loss=zero,
            total_norm=zero.clone(),
            levels=tuple(sorted(levels)),
            by_level=parts,
        )

    def log(self) -> dict[str, float]:
        """Mean loss and gradient norm since the last call, and loss_A_B, the mean where A < sigma/alpha <= B, nan where
        no time was drawn there; this is where the host waits for the device."""
        n = max(self.since_log, 1)
        row = {"loss": float(self.total_loss) / n, "grad_norm": float(self.total_norm) / n}
        total, count = self.by_level.tolist()
        for i, (low, high) in enumerate(pairwise(self.levels), 1):
            row[f"loss_{low:g}_{high:g}"] = total[i] / count[i] if count[i] else math.nan
        self.by_level = torch.zeros_like(self.by_level)
        self.total_loss, self.total_norm = (
            torch.zeros_like(self.total_loss),
            torch.zeros_like(self.total_norm),
        )
        self.since_log = 0
        return row

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "since_log": self.since_log,
            "total_loss": self.total_loss,
            "total_norm": self.total_norm,
            "by_level": self.by_level,
            "net": unshared(self.net.state_dict()),
            "ema": unshared(self.ema.state_dict()),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.net.load_state_dict(saved["net"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.since_log = saved["step"], saved["since_log"]
        self.total_loss = saved["total_loss"].to(self.total_loss)
        self.total_norm = saved["total_norm"].to(self.total_norm)
        self.by_level = saved["by_level"].to(self.by_level)


def unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with a memory of its own for each: a view would be saved as all that it is a view of."""
    return {name: value.clone() for name, value in state.items()}


def fit(
    state: TrainState,
    denoiser: NetworkDenoiser,
    batches: Batches,
    steps: int,
    ema_decay: float = 0.99,
) -> Iterator[TrainState]:
    """Advances `state` to `steps`, yielding it after every update. No host-device synchronisation within."""
    lr_at = state.optimizer.options.lr_at
    weights, averages = state.weights.values, state.averages.values
    dropout = state.net.dropout
    edges = batches.schedule.time_of(-2 * torch.tensor(state.levels).log()).to(weights.device)
    while state.step < steps:
        x0, t, eps, label = batches(state.step)
        with seeded(batches.seed, DROPOUT, state.step, device=x0.device) if dropout else nullcontext():
            losses = batches.objective(denoiser, x0, t, eps, label)
        loss = losses.mean()
        loss.backward()
        norm = state.optimizer.step(lr_at(state.step, steps))
        # The average starts short, so that early samples are not those of the initial weights.
        decay = min(ema_decay, (1 + state.step) / (10 + state.step))
        averages.lerp_(weights, 1 - decay)
        state.step += 1
        state.since_log += 1
        state.total_loss += loss.detach()
        state.total_norm += norm
        if state.levels:
            apart = F.one_hot(torch.bucketize(t, edges), len(edges) + 1).to(losses.dtype)  # (B, parts)
            state.by_level += torch.stack((losses.detach() @ apart, apart.sum(0)))
        yield state
