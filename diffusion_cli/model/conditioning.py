"""What a network is given beside x: noise level, label and further numbers, as one vector, the context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_cli.model.embedding import GaussianFourier
from diffusion_cli.model.network import zeroed


class Conditioning(nn.Module):
    """context = from_noise_level(noise_level) + table[label] + sum_k Linear(fourier(numbers[k])), (B or 1, features).

    Each input is one summand. The label's exists only where there are classes. Those of the further numbers start at zero:
    a network that takes over the weights of one without them starts as the same function.

    from_noise_level: maps noise levels (L,) to (L, features).
    num_classes: number of labels, 0 for none.
    features: length of the context.
    numbers: how many further numbers there are.
    """

    def __init__(
        self, from_noise_level: nn.Module, num_classes: int, features: int, numbers: int = 0
    ) -> None:
        super().__init__()
        self.from_noise_level = from_noise_level
        self.from_label = LabelEmbedding(num_classes, features) if num_classes else None
        waves = [GaussianFourier() for _ in range(numbers)]
        self.from_numbers = nn.ModuleList(
            nn.Sequential(wave, zeroed(nn.Linear(wave.features, features, bias=False))) for wave in waves
        )

    def forward(self, levels: NoiseLevels, label: Tensor | None, numbers: Tensor | None = None) -> Tensor:
        """ValueError for a label where there are no classes, and for other numbers than it has places for.

        numbers: (B or 1, k), or None.
        """
        context = levels.spread(self.from_noise_level(levels.values))
        if (0 if numbers is None else numbers.shape[1]) != len(self.from_numbers):
            raise ValueError(f"this network takes {len(self.from_numbers)} numbers beside the noise level")
        for embed, column in zip(
            self.from_numbers, numbers.unbind(1) if numbers is not None else (), strict=True
        ):
            context = context + embed(column)
        if self.from_label is not None:
            return context + self.from_label(label)
        if label is not None:
            raise ValueError("a label was given to a network without classes (num_classes=0)")
        return context


def embedded_level(
    waves: int, scale: float, features: int, linear: type[nn.Linear] = nn.Linear
) -> nn.Sequential:
    """Noise levels (L,) -> (L, features), by an MLP of random waves."""
    return nn.Sequential(
        GaussianFourier(waves, scale), linear(waves, features), nn.SiLU(), linear(features, features)
    )


class LabelEmbedding(nn.Embedding):
    """A learned vector per label: (B,) int64 in 0..num_classes, or None -> (B or 1, features).

    Row `num_classes` stands for "no label", and None means that row for the whole batch.
    """

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__(num_classes + 1, features)

    def forward(self, label: Tensor | None) -> Tensor:
        return self.weight[-1:] if label is None else super().forward(label)


class NoiseLevels:
    """The different noise levels of a batch: what depends on them alone is computed for `values` (L,), then spread.

    A large batch has few of them, for training mostly draws its times from 1..T. Where they are many, or the batch is
    small, finding them costs more than it saves, and `values` are the batch's own. So they are on a GPU, where the CPU
    would wait for their number, and in a compiled network, whose graph would break.

    noise_level: (B,), or (1,) for a whole batch.
    """

    # samples, of which at least two share a level on average
    LEAST = 128

    def __init__(self, noise_level: Tensor) -> None:
        self.values, self.row = noise_level, None
        if (
            len(noise_level) >= self.LEAST
            and noise_level.device.type == "cpu"
            and not torch.compiler.is_compiling()
        ):
            values, row = noise_level.unique(return_inverse=True)
            if 2 * len(values) <= len(noise_level):
                self.values, self.row = values, row

    def spread(self, rows: Tensor) -> Tensor:
        """(L, features) -> the row of each sample, (B, features)."""
        return rows if self.row is None else rows.index_select(0, self.row)


def modulated(u: Tensor, film: Tensor) -> Tensor:
    """(1 + scale) u + shift, the same for every point or token: u (B, n, c), film (B or 1, 2 c) = [scale, shift]."""
    scale, shift = film.unsqueeze(1).chunk(2, dim=-1)
    return torch.addcmul(shift, 1 + scale, u)
