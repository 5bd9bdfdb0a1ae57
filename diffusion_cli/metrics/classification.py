"""How well a noise-aware classifier recognizes the labels of noised points."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.metrics.catalogue import ACCURACY, BEST_ACCURACY, POSTERIOR_ERROR, accuracy_between
from diffusion_cli.metrics.measurement import Measurement, Note, Report, measured
from diffusion_cli.metrics.protocol import Evaluation, EvaluationInput
from diffusion_cli.noise import Stream, generator
from diffusion_cli.ranges import Several, checked
from diffusion_cli.schedule import Schedule

AT_ONCE = 1_000
# Of sigma/alpha: each has an accuracy of its own.
SPANS = ((0.0, 0.1), (0.1, 1.0), (1.0, 10.0))


@checked
@dataclass(frozen=True)
class ClassifierEvaluation(Evaluation):
    """A noise-aware classifier on fresh points (held-out ones where there are), noised to random times.

    Accuracy, over all and where A < sigma/alpha <= B; and where the density is known the best possible one, and the
    mean absolute error of p(label | x_t) against the exact posterior.

    n: points.
    """

    n: Several = 20_000

    def __call__(self, given: EvaluationInput) -> Report:
        """A measurement for each; of value None for a span of noise that the schedule does not reach."""
        if given.classifier is None:
            raise ValueError("there is no classifier to evaluate")
        points = _classified(given.classifier, given.dataset, given.schedule, self.n, given.seed)
        level = points["level"]
        report: dict[str, Measurement | Note] = {
            metric.name: measured(metric, float(points[metric.name].mean()))
            for metric in (ACCURACY, BEST_ACCURACY, POSTERIOR_ERROR)
            if metric.name in points
        }
        for low, high in SPANS:
            metric, inside = accuracy_between(low, high), (level > low) & (level <= high)
            accuracy = float(points["accuracy"][inside].mean()) if inside.any() else None
            report[metric.name] = measured(metric, accuracy)
        return report | {"n": self.n}


@torch.no_grad()
def _classified(net: nn.Module, dataset: Dataset, schedule: Schedule, n: int, seed: int) -> dict[str, Tensor]:
    """Of each of n noised points (n,): sigma/alpha, and what the metrics average."""
    device = next(net.parameters()).device
    g = generator(seed, Stream.CLASSIFIER, device=device)
    parts = defaultdict(list)
    for start in range(0, n, AT_ONCE):
        size = min(AT_ONCE, n - start)
        batch = dataset.held_out.draw(size, g)
        x0, label = batch.x0, cast(Tensor, batch.label)
        t = torch.randint(1, schedule.T + 1, (size,), generator=g, device=device)
        level = schedule.level(t, like=x0)
        x_t = level.alpha * x0 + level.sigma * torch.randn(x0.shape, generator=g, device=device)
        p = net(x_t, level.noise_level).softmax(1)
        parts["level"].append(level.noise_level.exp())
        parts["accuracy"].append((p.argmax(1) == label).double())
        if dataset.density is not None:
            exact = dataset.density.class_posterior(x_t, level.alpha, level.sigma).exp()
            parts["best_accuracy"].append(exact.argmax(1).eq(label).double())
            parts["posterior_error"].append((p - exact).abs().mean(1))
    return {name: torch.cat(part) for name, part in parts.items()}
