"""What an evaluation is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.denoiser import Denoiser
from diffusion_cli.metrics.measurement import Report, table_of
from diffusion_cli.metrics.progress import Progress, ProgressBar, silent
from diffusion_cli.schedule import Schedule

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
# work(here, item, bar) -> what becomes of one item; here: what has the dataset and the device of one process, and more
Work = Callable[[Any, Item, ProgressBar], Outcome]


class Each(Protocol):
    """each(work, items, bar) -> the results, in the order of the items."""

    def __call__(
        self, work: Work[Item, Outcome], items: Sequence[Item], bar: ProgressBar, /
    ) -> list[Outcome]: ...


def one_by_one(
    work: Work[Item, Outcome], items: Sequence[Item], bar: ProgressBar, here: object = None
) -> list[Outcome]:
    """The `Each` of one process."""
    return [work(here, item, bar) for item in items]


def no_samples(k: int) -> Batch:
    raise ValueError("a classifier draws no samples")


@dataclass(frozen=True)
class EvaluationInput:
    """What is evaluated.

    dataset: what the samples should look like.
    schedule: of the denoiser, or of the classifier.
    seed: of what the evaluation itself draws.
    draw: draw(k) gives the k-th independent set of n samples, on the CPU.
    denoiser: the one they were drawn with; None where a classifier is evaluated.
    classifier: classifier(x_t, noise_level) gives logits of the labels of noised points; None for a denoiser.
    device: where networks run.
    progress: a bar for what takes long.
    group: the several processes that evaluate; None: this one does.
    """

    dataset: Dataset
    schedule: Schedule
    seed: int = 0
    draw: Callable[[int], Batch] = no_samples
    denoiser: Denoiser | None = None
    classifier: nn.Module | None = None
    device: torch.device | str = "cpu"
    progress: Progress = silent
    group: Each | None = None

    def each(self, work: Work[Item, Outcome], items: Sequence[Item], bar: ProgressBar) -> list[Outcome]:
        """work(here, item, bar) of each item, in their order; of several processes each does a part of them.

        here: has the dataset and the device of the process that does it. work and items are sent to it, and must pickle.
        """
        return one_by_one(work, items, bar, self) if self.group is None else self.group(work, items, bar)


class Evaluation(Protocol):
    """How samples are judged. One of your own inherits from this class and overrides __call__; the rest has defaults.

    n: samples in each set that `EvaluationInput.draw` gives.

        VENDI = Metric("vendi", "Vendi score", better="higher")

        @dataclass(frozen=True)
        class Vendi(Evaluation):
            n: int = 500

            def __call__(self, given: EvaluationInput) -> Report:
                return {VENDI.name: measured(VENDI, vendi_score(given.draw(0).x0))}
    """

    n: int

    def check(self, dataset: Dataset) -> None:
        """Raises ArgumentError where this evaluation is not for such data."""
        return

    def prepare(self, given: EvaluationInput) -> None:
        """Does once what takes long and needs no samples, before training begins."""
        return

    def __call__(self, given: EvaluationInput) -> Report:
        """A measurement for each metric, by its name; {} where the data give nothing to compare with."""
        ...

    def table(self, report: Report) -> str:
        """The report as lines of text."""
        return table_of(report)
