"""The optimizer and its learning rate, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from diffusion_cli.errors import UserError


@dataclass(frozen=True)
class Optimizer:
    """kind: adam or adamw. lr: peak learning rate, reached after `warmup` steps (linear), then
    constant or cosine down to 0 at the last step. clip: bound on the gradient's norm, null for none."""

    kind: str = "adamw"
    lr: float = 4e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    decay: str = "cosine"
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError("optimizer.kind", self.kind, "no such optimizer", tuple(KINDS))
        if self.decay not in ("constant", "cosine"):
            raise UserError("optimizer.decay", self.decay, "no such decay", ("constant", "cosine"))

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """torch's fused implementation: one kernel over all parameters, on CPU and GPU."""
        return KINDS[self.kind](
            parameters, lr=self.lr, betas=tuple(self.betas), weight_decay=self.weight_decay, fused=True
        )

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of the update that leads from `step` to `step` + 1, of `steps` in all."""
        ramp = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "constant":
            return self.lr * ramp
        done = max(0, step - self.warmup) / max(1, steps - self.warmup)
        return self.lr * ramp * (1 + math.cos(math.pi * min(done, 1.0))) / 2


KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
