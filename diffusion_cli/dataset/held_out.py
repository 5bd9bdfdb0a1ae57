"""The part of a dataset that is not trained on, drawn from like any other."""

from __future__ import annotations

from typing import Any

import torch

from diffusion_cli.dataset.batch import Batch


class HeldOut:
    """Batches of the held-out images of a dataset that has them (`dataset.test`, see dataset.images); of any other, its
    own batches. shape, num_classes and density are the dataset's."""

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.shape, self.num_classes, self.density = dataset.shape, dataset.num_classes, dataset.density

    def draw_with_source(self, n: int, generator: torch.Generator) -> tuple[Batch, torch.Tensor]:
        return self.dataset.draw_with_source(n, generator, held_out=True)

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        part = getattr(self.dataset, "test", None)
        if not hasattr(part, "batch"):
            return self.dataset.draw(n, generator)
        device = generator.device
        rows = torch.randint(len(part.images), (n,), generator=generator, device=device)
        x0, label = part.batch(rows.to(part.images.device))
        return Batch(x0.to(device), None if label is None else label.to(device))
