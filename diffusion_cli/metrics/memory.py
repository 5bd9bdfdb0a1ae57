"""Whether a network has learned its training examples by heart: copies among samples, losses, and two exact scores.

Copies: a sample is one where its nearest training example is less than a third as far as the next (Yoon et al. 2023,
Diffusion Probabilistic Models Generalize when They Fail to Memorize). In few dimensions that happens by chance: beside
the fraction stands that of held-out examples.

Losses: of held-out examples less that of training examples, both noised by the same noise at the same times.

Scores: for N training examples of a density that is known, a network that learns by heart has the score of these points
(the empirical one), and one that generalises that of the density. Each distance is the root mean square difference of
eps = -sigma score, at noised training examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.images import ImageDataset
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.dataset.protocol import Dataset, HeldOut
from diffusion_cli.denoiser import Denoiser, ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics.catalogue import COPIES, LOSS_GAP, score_distance
from diffusion_cli.metrics.measurement import Measurement, Report, beside_floor, measured, with_notes
from diffusion_cli.metrics.protocol import Evaluation, EvaluationInput
from diffusion_cli.metrics.sets import chamfer, subset
from diffusion_cli.noise import NoiseStream, Stream, generator
from diffusion_cli.ranges import Many, Positive, Several, checked

# Nearest examples that are looked at, among which the same may stand several times.
CANDIDATES = 4
SET_POINTS = 256
COPY = 1 / 3
LEVELS = (0.05, 0.1, 0.2, 0.5, 1.0)
# Rows of a loss or of a distance between scores.
ROWS = 1024


@checked
@dataclass(frozen=True)
class MemoryEvaluation(Evaluation):
    """Whether training examples were learned by heart: copies among samples, losses, distances to exact scores.

    n: samples in each draw.
    draws: independent sets of samples.
    levels: of noise, sigma/alpha, at which exact scores are compared, where they are known.
    """

    n: Several = 1_000
    draws: Many = 1
    levels: Sequence[Positive] = LEVELS

    def check(self, dataset: Dataset) -> None:
        if dataset.examples() is None:
            reason = "every example is drawn anew, so that none can be learned by heart; dataset.n=N keeps N of them"
            raise ArgumentError("", ..., reason)

    def __call__(self, given: EvaluationInput) -> Report:
        if given.denoiser is None:
            raise ValueError("a classifier draws no samples")
        dataset, seed = given.dataset, given.seed
        self.check(dataset)
        held_out = held_out_of(dataset)
        report: Report = {
            COPIES.name: copies([given.draw(k).x0 for k in range(self.draws)], dataset, held_out, seed)
        }
        if held_out is None:
            report = with_notes(report, "nothing is held out to compare with: dataset.test=N holds out N")
        else:
            report = {
                **report,
                LOSS_GAP.name: loss_gap(given.denoiser, dataset, held_out, seed, given.device),
            }
        if dataset.empirical is None:
            return report
        truth = None if isinstance(dataset, PointCloud) else dataset.density
        trained = dataset.draw(ROWS, generator(seed, Stream.MEMORY, 2, device=given.device))
        scores = score_distances(given.denoiser, dataset.empirical, truth, trained, self.levels, seed)
        return {**report, **scores}


def held_out_of(dataset: Dataset) -> HeldOut | None:
    """What is held out; None for images and points of which nothing is, and for which training data stand in."""
    nothing = isinstance(dataset, PointCloud) and dataset.held_out.count is None
    if nothing or (isinstance(dataset, ImageDataset) and dataset.held_out is dataset.train):
        return None
    return dataset.held_out


def nearest_examples(x: Tensor, lots: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The training examples nearest to each of x (n, *shape): distances (n, k), which rise, and their rows (n, k).

    lots: all training examples, some at a time, (m, *shape); sets of points are compared by Chamfer distance.
    """
    near, rows, first = x.new_zeros((len(x), 0)), torch.zeros((len(x), 0), dtype=torch.int64), 0
    for lot in lots:
        lot = lot.to(x)
        if x.dim() == 3:
            a, b = (subset(part.numpy(), SET_POINTS, 0) for part in (x, lot))
            some, found = (
                torch.from_numpy(chamfer(a, b)).to(x).topk(min(CANDIDATES, len(lot)), 1, largest=False)
            )
        else:
            # By products first, whose rounding is large near 0, and then by differences.
            found = torch.cdist(x.flatten(1), lot.flatten(1)).topk(
                min(CANDIDATES, len(lot)), 1, largest=False
            )[1]
            some = torch.stack(
                [(lot[row] - one).flatten(1).norm(dim=1) for row, one in zip(found, x, strict=True)]
            )
        near, rows, first = torch.cat((near, some), 1), torch.cat((rows, found + first), 1), first + len(lot)
        near, order = near.topk(min(CANDIDATES, near.shape[1]), 1, largest=False)
        rows = rows.gather(1, order)
    return near, rows


def ratio_of_two(near: Tensor) -> Tensor:
    """(n,) the first of rising distances (n, k) / the next that is another, since examples may be repeated; 1 where none is."""
    second = torch.where(near > near[:, :1], near, torch.inf).amin(1)
    return torch.where(second.isfinite(), near[:, 0] / second, 1.0)


def copied(x: Tensor, dataset: Dataset) -> float:
    """The fraction of x that are copies of training examples."""
    near, _ = nearest_examples(x, dataset.examples() or ())
    return float((ratio_of_two(near) < COPY).double().mean())


def copies(draws: Sequence[Tensor], dataset: Dataset, held_out: HeldOut | None, seed: int) -> Measurement:
    """The fraction of copies among sets of samples, beside that of held-out examples, as many or all there are."""
    n, values = len(draws[0]), [copied(x, dataset) for x in draws]
    if held_out is None:
        return {**measured(COPIES, float(np.mean(values))), "n": n}
    real = held_out.distinct(min(n, held_out.count or n), seed).x0
    return beside_floor(COPIES, values, [copied(real, dataset)], n)


@torch.no_grad()
def loss_gap(
    denoiser: Denoiser, dataset: Dataset, held_out: HeldOut, seed: int, device: torch.device | str
) -> Measurement:
    """Mean |eps - its prediction|^2 of held-out examples less that of training examples, at times and noise of both the same."""
    schedule = denoiser.schedule
    g = generator(seed, Stream.MEMORY)
    t = torch.randint(1, schedule.T + 1, (ROWS,), generator=g).to(device)
    losses = []
    for draw in (held_out.draw, dataset.draw):
        batch = draw(ROWS, generator(seed, Stream.MEMORY, 1, device=device))
        eps = NoiseStream(seed, ROWS, tuple(batch.x0.shape[1:]), device, Stream.MEMORY)()
        level = schedule.level(t, like=batch.x0)
        x_t = level.alpha * batch.x0 + level.sigma * eps
        error = denoiser(x_t, t, batch.label).eps - eps
        losses.append(error.square().flatten(1).mean(1).double().cpu())
    unseen, seen = losses
    entry = measured(LOSS_GAP, float(unseen.mean() - seen.mean()))
    # of different examples: their variances add
    return {**entry, "error": float(((unseen.var() + seen.var()) / ROWS).sqrt()), "n": ROWS}


@torch.no_grad()
def score_distances(
    denoiser: Denoiser,
    empirical: Density,
    density: Density | None,
    trained: Batch,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> Report:
    """The distances of a denoiser to the score of its training examples and to that of the density they were drawn from.

    trained: some of the training examples, with their labels.
    levels: of noise, sigma/alpha, at each of which a distance is measured, and one over all of them.
    """
    schedule = denoiser.schedule
    exact = {"empirical": ExactDenoiser(empirical, schedule)}
    if density is not None:
        exact["truth"] = ExactDenoiser(density, schedule)
    eps = NoiseStream(seed, len(trained.x0), tuple(trained.x0.shape[1:]), trained.x0.device, Stream.MEMORY)()
    squares: dict[str, list[float]] = {name: [] for name in exact}
    for one in levels:
        t = float(schedule.time_of(torch.tensor(-2 * np.log(one), dtype=torch.float64)))
        level = schedule.level(t, like=trained.x0)
        x_t = level.alpha * trained.x0 + level.sigma * eps
        ours = denoiser(x_t, t, trained.label).eps
        for name, other in exact.items():
            difference = ours - other(x_t, t, trained.label).eps
            squares[name].append(float(difference.double().square().mean()))
    report: dict[str, Measurement] = {}
    for name, of_levels in squares.items():
        metric = score_distance(name)
        report[metric.name] = measured(metric, float(np.mean(of_levels)) ** 0.5)
        for one, square in zip(levels, of_levels, strict=True):
            metric = score_distance(name, one)
            report[metric.name] = measured(metric, square**0.5)
    return report
