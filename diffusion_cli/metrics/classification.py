"""How well a noise-aware classifier tells the labels of noised points."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diffusion_cli.dataset.held_out import HeldOut
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.noise import generator
from diffusion_cli.schedule import Schedule

AT_ONCE = 1_000
SPANS = ((0.0, 0.1), (0.1, 1.0), (1.0, 10.0))  # of sigma/alpha, whose accuracies are told apart


@dataclass(frozen=True)
class ClassifierEvaluation:
    """A noise-aware classifier on n fresh points (held-out ones where there are), noised to random times: accuracy, over
    all and where A < sigma/alpha <= B; and where the law is known the best possible one, and the mean absolute error of
    p(label | x_t) against the exact posterior."""

    n: int = 20_000

    @torch.no_grad()
    def __call__(self, net: nn.Module, dataset: Dataset, schedule: Schedule, seed: int) -> dict[str, Any]:
        """Plain values; None for a span of noise that the schedule does not reach."""
        device = next(net.parameters()).device
        g = generator(seed, self.n, device=device)
        held, seen = HeldOut(dataset), defaultdict(list)
        for start in range(0, self.n, AT_ONCE):
            size = min(AT_ONCE, self.n - start)
            x0, label = held.draw(size, g)
            t = torch.randint(1, schedule.T + 1, (size,), generator=g, device=device)
            level = schedule.level(t, like=x0)
            x_t = level.alpha * x0 + level.sigma * torch.randn(x0.shape, generator=g, device=device)
            p = net(x_t, level.noise).softmax(1)
            seen["noise"].append(level.noise.exp())
            seen["accuracy"].append((p.argmax(1) == label).double())
            if isinstance(dataset.density, Points):
                exact = dataset.density.class_posterior(x_t, level.alpha, level.sigma).exp()
                seen["best_accuracy"].append(exact.argmax(1).eq(label).double())
                seen["posterior_error"].append((p - exact).abs().mean(1))
        joined = {name: torch.cat(parts) for name, parts in seen.items()}
        noise = joined.pop("noise")
        report: dict[str, Any] = {name: float(values.mean()) for name, values in joined.items()}
        for low, high in SPANS:
            there = joined["accuracy"][(noise > low) & (noise <= high)]
            report[f"accuracy_{low:g}_{high:g}"] = float(there.mean()) if len(there) else None
        return report | {"n": self.n}

    def table(self, report: dict[str, Any]) -> str:
        return "\n".join(
            f"{key:16} {'not known' if value is None else f'{value:.4g}'}" for key, value in report.items()
        )
