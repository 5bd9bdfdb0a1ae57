"""Evaluations, as a config chooses them: what is measured, on how many samples, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.metrics.points import evaluate_points, points_table
from diffusion_cli.metrics.set_report import Progress, evaluate_sets, sets_table, silent
from diffusion_cli.noise import generator
from diffusion_cli.schedule import Schedule


@dataclass(frozen=True)
class PointEvaluation:
    """Samples against a law known in closed form: see `metrics.points.evaluate_points`, whose arguments these are."""

    n: int = 10_000
    draws: int = 3
    floor_draws: int = 16

    def __call__(self, draw: Callable[[int], Tensor], dataset: Dataset, seed: int) -> dict[str, Any]:
        """name -> value, floor and ratio; {} for a dataset without a density. draw(k): the k-th set of n samples."""
        if dataset.density is None:
            return {}
        return evaluate_points(draw, dataset.density, self.n, self.draws, self.floor_draws, seed)

    def table(self, report: dict[str, Any]) -> str:
        return points_table(report)


@dataclass(frozen=True)
class SetEvaluation:
    """Whole sets of points against held-out ones: see `metrics.set_report.evaluate_sets`, whose arguments these are."""

    n: int = 64
    points: int = 512
    draws: int = 3
    floor_draws: int = 4
    emd_points: int | None = 128

    def __call__(
        self, draw: Callable[[int], Tensor], dataset: Dataset, seed: int, progress: Progress = silent
    ) -> dict[str, Any]:
        """name -> value, floor and ratio; {} for a dataset that holds no sets, or too few. draw(k): n sets."""
        if not isinstance(dataset, SetDataset) or min(len(dataset.train), len(dataset.test), self.n) < 2:
            return {}
        train, test = dataset.train.cpu(), dataset.test.cpu()
        family = getattr(dataset, "family", None)
        return evaluate_sets(draw, train, test, self.n, self.points, self.draws, self.floor_draws, self.emd_points,
                             family, seed, progress)  # fmt: skip

    def table(self, report: dict[str, Any]) -> str:
        return sets_table(report)


@dataclass(frozen=True)
class ClassifierEvaluation:
    """A noise-aware classifier on n fresh noised points: accuracy, and where the law is known the mean absolute error
    of p(label | x_t) against the exact posterior, averaged over all times."""

    n: int = 20_000

    @torch.no_grad()
    def __call__(self, net: nn.Module, dataset: Dataset, schedule: Schedule, seed: int) -> dict[str, Any]:
        device = next(net.parameters()).device
        g = generator(seed, self.n, device=device)
        x0, label = dataset.draw(self.n, g)
        t = torch.randint(1, schedule.T + 1, (self.n,), generator=g, device=device)
        level = schedule.level(t, like=x0)
        x_t = level.alpha * x0 + level.sigma * torch.randn(x0.shape, generator=g, device=device)
        p = net(x_t, level.noise).softmax(1)
        report = {"accuracy": float((p.argmax(1) == label).double().mean()), "n": self.n}
        if dataset.density is not None:
            exact = dataset.density.class_posterior(x_t, level.alpha, level.sigma).exp()
            report["best_accuracy"] = float((exact.argmax(1) == label).double().mean())
            report["posterior_error"] = float((p - exact).abs().mean())
        return report

    def table(self, report: dict[str, Any]) -> str:
        return "\n".join(f"{key:16} {value:.4g}" for key, value in report.items())
