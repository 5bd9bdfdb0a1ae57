"""What process 0 orders the others to do, and what is sent to them for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffusion_cli.components.labels import Requested
from diffusion_cli.metrics.progress import NoBar, ProgressBar
from diffusion_cli.metrics.protocol import Work
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.ranges import Config


@dataclass(frozen=True)
class Order:
    """order(components) is the part of some work that a process does.

    work, items: see `Components.each`.
    config, label: of process 0's components, which may be a variation of those that another process has.
    exact: whether these are the exact denoiser's.
    """

    work: Work
    items: Sequence[Any]
    config: Config
    label: Requested
    exact: bool

    def part(self, components: Any, bar: ProgressBar) -> list[Any]:
        """The results of the items that are this process's."""
        own = components.group.own(len(self.items))
        return [self.work(components, self.items[k], bar) for k in own]

    def __call__(self, components: Any) -> list[Any]:
        before = components.config
        changed = {k: v for k, v in self.config.items() if k in GROUPS and k != "figure" and v != before[k]}
        net = None if self.exact else components.net
        varied = replace(components.varied(**changed), config=self.config, label=self.label, net=net)
        results = self.part(varied, NoBar())
        return [result.cpu() if isinstance(result, Tensor) else result for result in results]


@dataclass(frozen=True)
class Draw:
    """The work of drawing samples: x0 of each of these rows.

    rows: the numbers of all samples.
    seed: of the chains.
    label: of each of them, or None.
    """

    rows: range
    seed: int
    label: Tensor | None

    def __call__(self, components: Any, rows: range, bar: ProgressBar) -> Tensor:
        x0, label = torch.empty(0, *components.dataset.shape, device=components.device), None
        if self.label is not None:
            first = self.rows.start
            label = self.label[rows.start - first : rows.stop - first].to(components.device)
        if rows:
            for state in components.walk(len(rows), self.seed, label, rows.start):
                x0 = state.x
                bar.update()
        return x0
