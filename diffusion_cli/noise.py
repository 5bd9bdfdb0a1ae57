"""Random numbers as pure functions of a seed, its use and a position, never of what was drawn before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum, unique

import torch
from torch import Tensor

Noise = Callable[[], Tensor]

# Rows of one block of a NoiseStream; part of the definition of the stream.
ROWS = 256


@unique
class Stream(IntEnum):
    """Every use of a seed in this package: no two of them see the same numbers.

    A value is part of the numbers of its stream: a new use gets a new value, and no value is used again.
    """

    # Training: the batches of steps, dropout, initial weights, the batches by which checkpoints are compared.
    TRAINING = 1
    DROPOUT = 2
    WEIGHTS = 3
    SCORE = 4
    # Sampling: x_T and the noise of every step, labels, points on which a variance is measured.
    CHAIN = 5
    LABELS = 6
    MEASURED_VARIANCE = 7
    # In-painting: which held-out examples, which pixels.
    HELD_OUT = 8
    MASK = 9
    # Evaluation: the seeds of its sets of samples, and what they are compared with.
    EVALUATION = 10
    TRUE_SAMPLES = 11
    TRUE_MIXTURE = 12
    PROJECTIONS = 13
    SUBSETS = 14
    REFERENCES = 15
    CLASSIFIER = 16
    # Likelihood: its points, their noise, random signs, points for the entropy.
    LIKELIHOOD = 17
    BOUND = 18
    SIGNS = 19
    ENTROPY = 20
    # The judge of images, the same for every run: initial weights, batches, dropout.
    JUDGE_WEIGHTS = 21
    JUDGE_BATCHES = 22
    JUDGE_DROPOUT = 23
    # Figures: their clean points, the noise on these, chains of the exact processes, the loss of the exact denoiser.
    FIGURE = 24
    FIGURE_NOISE = 25
    FORWARD_CHAIN = 26
    REVERSE_CHAIN = 27
    LOSS_FLOOR = 28
    # Data that are drawn once and for all: training sets of n points, stars, which sets are held out, chairs.
    FROZEN = 29
    STARS = 30
    SPLIT = 31
    CHAIRS = 36
    # Training again: the points over which stable targets are means.
    TARGETS = 32
    # Distillation: noise, labels and guidance weights of the teacher's paths.
    PATHS = 33
    # The error of the network itself: its points and the noise on them.
    NETWORK_ERROR = 34
    # The chains that a sampler's times are fitted to.
    GRID = 35
    # Whether a network has learned by heart: the noise and the times of its losses.
    MEMORY = 37


def mix(seed: int, stream: Stream, *position: int) -> int:
    """A 64-bit seed from integers (splitmix64's finalizer over each; Steele et al. 2014)."""
    state = 0
    for word in (seed, stream, *position):
        state = (state + word + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def generator(
    seed: int, stream: Stream, *position: int, device: str | torch.device = "cpu"
) -> torch.Generator:
    """A fresh generator for this use of the seed, at this position.

    >>> torch.randn(3, generator=generator(0, Stream.TRAINING, 100))
    """
    return torch.Generator(device).manual_seed(mix(seed, stream, *position) >> 1)


@contextmanager
def seeded(seed: int, stream: Stream, *position: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Within, what draws from torch's global generators (initial weights, dropout) is a function of the arguments alone;
    afterwards they stand where they stood.

    >>> with seeded(0, Stream.WEIGHTS): weight = torch.nn.Linear(2, 2).weight
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(mix(seed, stream, *position) >> 1)
        yield


class NoiseStream:
    """Standard normal noise (n, *shape) a call, where row i of call k depends on (seed, stream, i, k) alone.

    So sample i is the same whatever n and the batch size are, and on whatever device (it is drawn on the CPU).

    seed: any.
    n: rows.
    shape: of a row.
    device: to which the noise goes.
    stream: the use of the seed.
    first: the number of the first row.

    >>> noise = NoiseStream(seed=0, n=5000, shape=(2,)); x_T = noise()
    """

    def __init__(
        self,
        seed: int,
        n: int,
        shape: tuple[int, ...],
        device: str | torch.device = "cpu",
        stream: Stream = Stream.CHAIN,
        first: int = 0,
    ) -> None:
        self.shape, self.device = tuple(shape), device
        self.rows = slice(first % ROWS, first % ROWS + n)
        blocks = range(first // ROWS, -(-(first + n) // ROWS))
        self.generators = [generator(seed, stream, block) for block in blocks]

    def __call__(self) -> Tensor:
        blocks = [torch.randn(ROWS, *self.shape, generator=g) for g in self.generators]
        return torch.cat(blocks)[self.rows].to(self.device)
