"""Random numbers as pure functions of a seed and a position, never of what was drawn before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Noise = Callable[[], Tensor]

# Rows of one block of a NoiseStream; part of the definition of the stream.
ROWS = 256


def mix(*words: int) -> int:
    """A 64-bit seed from integers (splitmix64's finalizer over each; Steele et al. 2014)."""
    state = 0
    for word in words:
        state = (state + word + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def generator(*words: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh generator for this (seed, position, ...)."""
    return torch.Generator(device).manual_seed(mix(*words) >> 1)


@contextmanager
def seeded(*words: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Within, what draws from torch's global generators (initial weights, dropout) is a function of these words alone;
    afterwards they stand where they stood.

    >>> with seeded(0, 1): weight = torch.nn.Linear(2, 2).weight
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(mix(*words) >> 1)
        yield


class NoiseStream:
    """Standard normal noise (n, *shape) a call, where row i of call k depends on (seed, i, k) alone.

    So sample i is the same whatever n and the batch size are, and on whatever device (it is drawn on the CPU).

    >>> noise = NoiseStream(seed=0, n=5000, shape=(2,)); x_T = noise()
    """

    def __init__(self, seed: int, n: int, shape: tuple[int, ...], device: str | torch.device = "cpu"):
        self.n, self.shape, self.device = n, tuple(shape), device
        self.generators = [generator(seed, block) for block in range(-(-n // ROWS))]

    def __call__(self) -> Tensor:
        blocks = [torch.randn(ROWS, *self.shape, generator=g) for g in self.generators]
        return torch.cat(blocks)[: self.n].to(self.device)
