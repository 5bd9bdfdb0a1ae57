"""Distillation: a student that makes in one call the way for which its teacher needs many.

The teacher's deterministic paths are drawn once, x_T to x_0, and kept at a few times. The student learns to jump between
them: from x_t to x_s it is to give the prediction whose DDIM step arrives there,

    x0 = (x_s - r x_t) / (alpha_s - r alpha_t),    r = sigma_s / sigma_t,    eps = (x_t - alpha_t x0) / sigma_t

(Salimans & Ho 2022, appendix G), which for s = 0 is the end of the path itself (Luhman & Luhman 2021). A batch of jumps
is therefore one of training as any other: x0, eps, t, and where it goes. Or there are no paths, and the student learns to
make two of its teacher's steps at once, then two of its own, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_cli.batches import Batches, position_of, rows_of_shard
from diffusion_cli.denoiser import Denoiser, Jump, destination, end_of_jump
from diffusion_cli.noise import Stream, generator
from diffusion_cli.objective import Loss, TrainingBatch
from diffusion_cli.prediction import Prediction
from diffusion_cli.sampler import DDIM, Sampler, walk
from diffusion_cli.schedule import Schedule


def jumps_of(calls: Sequence[Sequence[float]]) -> list[Jump]:
    """The jumps (t, s) of a student, each once; the last call, from t = 1, is its teacher's.

    calls: the falling times of the samplers that it is to serve.
    """
    every = [jump for times in calls for jump in pairwise(times)]
    return list(dict.fromkeys((t, end_of_jump(s)) for t, s in every if t > 1 or len(every) == 1))


def path_states(
    sampler: Sampler,
    denoiser: Denoiser,
    x_T: Tensor,
    label: Tensor | None,
    times: Sequence[float],
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """x at each of `times`, which fall from T to 0, on the paths of a deterministic sampler: (K, n, *shape).

    tick: called after each step; it may raise, to stop it.
    """
    every = sorted({*times, *sampler.times(denoiser.schedule)}, reverse=True)
    found = []
    for state in walk(sampler.step, sampler.clipped(denoiser), x_T, every, label, memory=sampler.memory):
        tick()
        if state.t in times:
            found.append(state.x)
    return torch.stack(found)


@dataclass(frozen=True)
class JumpBatches:
    """Step -> batch of jumps along stored paths; an equal part of it for each jump.

    x: (K, N, *shape), the states of N paths.
    times: (K,), of the states.
    label: (N,) int64, or None.
    w: (N,) guidance weight of each path, or None.
    jumps: to be learned.
    schedule, objective: of the student.
    size: jumps in a batch.
    seed: of all batches.
    stream: the use of the seed.
    shards: parts of a batch.
    """

    x: Tensor
    times: Sequence[float]
    label: Tensor | None
    w: Tensor | None
    jumps: Sequence[Jump]
    schedule: Schedule
    objective: Loss
    size: int
    seed: int
    stream: Stream = Stream.TRAINING
    shards: int = 1

    @property
    def handed(self) -> list[Tensor]:
        return [*self.x, *(given for given in (self.label, self.w) if given is not None)]

    def __call__(self, step: int, shard: int = 0) -> TrainingBatch:
        device, rows = self.x.device, rows_of_shard(self, shard)
        g = generator(self.seed, self.stream, *position_of(self, step, shard), device=device)
        row = torch.randint(self.x.shape[1], (len(rows),), generator=g, device=device)
        which = torch.arange(rows.start, rows.stop) % len(self.jumps)
        place = {t: k for k, t in enumerate(self.times)}
        start, end = (torch.tensor([place[j[k]] for j in self.jumps])[which].to(device) for k in (0, 1))
        t, s = (torch.tensor([j[k] for j in self.jumps], dtype=torch.float64)[which] for k in (0, 1))
        x_t, x_s = self.x[start, row], self.x[end, row]
        now, then = (self.schedule.level(time, like=x_t.double()) for time in (t, s))
        x0, eps, _ = Prediction.of_jump(x_t.double(), x_s.double(), now, then)
        to = torch.tensor([destination(self.schedule, j[1]) for j in self.jumps])[which].to(x_t)
        numbers = torch.stack([to] if self.w is None else [to, self.w[row]], 1)
        label = None if self.label is None else self.label[row]
        return TrainingBatch(x0.to(x_t), t.to(x_t), eps.to(x_t), label, numbers)


@dataclass(frozen=True)
class HalvingBatches:
    """Step -> batch of jumps over two steps of a teacher, which in each round is the student of the round before
    (Salimans & Ho 2022, algorithm 2).

    data: batches of the data, noised here at the starts of the jumps.
    calls: of the student at the end.
    rounds: in each the number of jumps is halved.
    steps: of training, in equal parts for the rounds.
    teacher: number of the round, from 0, and the jumps of the round before -> denoiser.
    """

    data: Batches
    calls: int
    rounds: int
    steps: int
    teacher: Callable[[int, Sequence[Jump]], Denoiser]

    @property
    def schedule(self) -> Schedule:
        return self.data.schedule

    @property
    def objective(self) -> Loss:
        return self.data.objective

    @property
    def seed(self) -> int:
        return self.data.seed

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def shards(self) -> int:
        return self.data.shards

    @property
    def handed(self) -> list[Tensor]:
        return []

    def times(self, round: int) -> list[float]:
        """The ends of the steps of this round's teacher: T, ..., 0."""
        count = max(self.calls - 1, 1) * 2 ** (self.rounds - round)
        ends = torch.linspace(self.schedule.T, 1, count + 1, dtype=torch.float64)
        return [*ends[:-1].tolist(), 0.0]

    @torch.no_grad()
    def __call__(self, step: int, shard: int = 0) -> TrainingBatch:
        round = step * self.rounds // self.steps
        times = self.times(round)
        teacher = self.teacher(round, [*pairwise(times)])
        x0, _, eps, label, _ = self.data(step, shard)
        ways = [times[k : k + 3] for k in range(0, len(times) - 1, 2)]
        found, own = [], rows_of_shard(self, shard)
        # each jump has an equal part of the whole batch
        for part, (t, middle, s) in zip(torch.arange(self.size).tensor_split(len(ways)), ways, strict=True):
            rows = part[(part >= own.start) & (part < own.stop)] - own.start
            if not len(rows):
                continue
            now, then = self.schedule.level(t, like=x0), self.schedule.level(s, like=x0)
            x_t = (now.alpha * x0[rows] + now.sigma * eps[rows]).to(x0)
            *_, end = walk(DDIM().step, teacher, x_t, [t, middle, s], None if label is None else label[rows])
            jump = Prediction.of_jump(x_t.double(), end.x.double(), now, then)
            to = torch.full((len(rows), 1), destination(self.schedule, s))
            found.append((jump.x0.to(x0), torch.full((len(rows),), t), jump.eps.to(x0), to.to(x0)))
        columns = [torch.cat(parts) for parts in zip(*found, strict=True)]
        return TrainingBatch(columns[0], columns[1].to(x0), columns[2], label, columns[3])
