"""Generated images beside held-out ones, each value beside its floor.

A distance between finite sets of images is never 0: it is biased by their number, most of all the Fréchet distance.
Each value therefore stands beside that of as many real training images, compared with the very same held-out ones; a
ratio of 1 cannot be distinguished from the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.images import ImageDataset
from diffusion_cli.metrics.catalogue import ACCURACY, IMAGES
from diffusion_cli.metrics.images import (
    Manifold,
    Moments,
    frechet,
    kernel_distance,
    mean_kernel,
    precision_recall,
)
from diffusion_cli.metrics.judge import at_once
from diffusion_cli.metrics.measurement import Measurement, Report, beside_floor, measurements, table_of
from diffusion_cli.metrics.progress import Progress, ProgressBar, silent
from diffusion_cli.metrics.protocol import Each, one_by_one
from diffusion_cli.noise import Stream, mix
from diffusion_cli.ranges import Facts

Numbers = dict[str, float]


class Extractor(Protocol):
    """What sees images.

    task: what it was trained for.
    accuracy: on held-out images, in its task; None where that was not measured.
    digest: of its weights.
    head: turns features into logits of labels; None where it reads no labels.
    """

    name: str
    task: str
    digest: str

    @property
    def accuracy(self) -> float | None: ...

    @property
    def head(self) -> Callable[[Tensor], Tensor] | None: ...

    def features(self, x: Tensor) -> Tensor:
        """(B, D) of x (B, C, H, W) float32 in [-1, 1]."""
        ...

    def to(self, device: torch.device | str) -> Extractor:
        """Itself, on a device."""
        ...


class Seen(NamedTuple):
    """Images as an extractor sees them: features (n, D) float64, and the label that it reads in each (n,), or None."""

    features: Tensor
    label: Tensor | None


class Here(NamedTuple):
    """Where images are looked at: the data and the device of one process."""

    dataset: ImageDataset
    device: torch.device | str


class OfData(NamedTuple):
    """Images of the data, which each process reads for itself: these rows of a part."""

    part: Literal["test", "train"]
    rows: Tensor


@dataclass(frozen=True)
class Look:
    """The work of looking at images: what an extractor sees in these rows of them.

    images: x0 (n, C, H, W) float32, or images of the data.
    """

    extractor: Extractor
    images: Tensor | OfData

    @torch.no_grad()
    def __call__(self, here: Here, rows: range, bar: ProgressBar) -> Seen:
        at = slice(rows.start, rows.stop)
        if isinstance(self.images, OfData):
            x = here.dataset.part(self.images.part).batch(self.images.rows[at]).x0
        else:
            x = self.images[at]
        eye = self.extractor.to(here.device)
        seen = eye.features(x.to(here.device).contiguous(memory_format=torch.channels_last))
        bar.update(len(x))
        return Seen(seen.double().cpu(), None if eye.head is None else eye.head(seen).argmax(1).cpu())


class RealImages:
    """The images of one split, as every set of n samples meets them, and the floor: n images of the other one at a time.

    The Fréchet and kernel distances are to the whole split, whatever n is; precision and recall are those of n samples
    and n of its images (as many as there are), between which the k-th neighbours are found. floor: the values of
    disjoint random sets of n images of the other split, at most `floor_draws` and as many as there are; n is smaller
    where that split is. The floor of accuracy is that of the extractor on held-out images.

    reference: test, the held-out images, or train, with which the literature compares: by it a model that repeats its
        training images is the best.
    each: looks at them, in this process or in several.
    """

    def __init__(
        self,
        extractor: Extractor,
        dataset: ImageDataset,
        n: int,
        floor_draws: int,
        neighbours: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        progress: Progress = silent,
        reference: Literal["test", "train"] = "test",
        each: Each | None = None,
    ) -> None:
        self.extractor, self.k, self.reference = extractor, neighbours, reference
        self.shape, self.num_classes = dataset.shape, dataset.num_classes
        self.alone = partial(one_by_one, here=Here(dataset, device))
        each = each or self.alone
        other: Literal["test", "train"] = "train" if reference == "test" else "test"
        against, others = dataset.part(reference), dataset.part(other)
        self.n = min(n, len(others.images))
        rng = np.random.default_rng(mix(seed, Stream.REFERENCES))
        rows = rng.permutation(len(others.images))[: len(others.images) // self.n * self.n].reshape(
            -1, self.n
        )
        # In order, because memory-mapped images are read from front to back.
        rows = np.sort(rows[:floor_draws], 1)
        with progress(len(against.images) + rows.size, unit="image") as bar:
            whole = torch.arange(len(against.images))
            (seen,) = self.look(OfData(reference, whole), len(whole), each, bar)
            self.features, self.moments = seen.features, Moments.of(seen.features)
            self.within = mean_kernel(self.features, each=each)
            some = torch.from_numpy(rng.permutation(len(self.features))[: self.n])
            self.manifold = Manifold(self.features[some], neighbours)
            looks = self.look(OfData(other, torch.from_numpy(rows.ravel())), self.n, each, bar)
        self.floor: list[Numbers] = [self.compare(features) for features, _ in looks]
        read = agreement(seen.label, against.label, dataset.num_classes)
        # of images that the extractor was trained on it says too much
        self.accuracy = read if reference == "test" or read is None else extractor.accuracy

    def look(self, images: Tensor | OfData, n: int, each: Each, bar: ProgressBar) -> list[Seen]:
        """What the extractor sees in these images, n at a time.

        Some hundred of them are looked at together, whatever the number of processes, so that features have the same bits.
        """
        total, most = len(images.rows if isinstance(images, OfData) else images), at_once(self.shape)
        sets = [range(first, first + n) for first in range(0, total, n)]
        lots = [rows[start : start + most] for rows in sets for start in range(0, n, most)]
        features, labels = zip(*each(Look(self.extractor, images), lots, bar), strict=True)
        label = None if labels[0] is None else torch.cat(labels).split(n)
        return [
            Seen(*of) for of in zip(torch.cat(features).split(n), label or [None] * len(sets), strict=True)
        ]

    def compare(self, features: Tensor) -> Numbers:
        """The distances of these images from the reference, and precision and recall."""
        precision, recall = precision_recall(self.manifold, Manifold(features, self.k))
        return {
            "frechet": frechet(Moments.of(features), self.moments),
            "kernel": kernel_distance(features, self.features, self.within),
            "precision": precision,
            "recall": recall,
        }

    def measure(self, batch: Batch, each: Each, bar: ProgressBar) -> Numbers:
        """The same of n samples, and the fraction of their labels that the extractor reads."""
        (seen,) = self.look(batch.x0[: self.n], self.n, each, bar)
        numbers = self.compare(seen.features)
        given = None if batch.label is None else batch.label[: self.n]
        accuracy = agreement(seen.label, given, self.num_classes)
        if self.accuracy is not None and accuracy is not None:
            numbers["accuracy"] = accuracy
        return numbers


def agreement(seen: Tensor | None, given: Tensor | None, classes: int) -> float | None:
    """The fraction of samples in which the label is seen that was given; None where no class was given to any."""
    if seen is None or given is None or not bool((labelled := given < classes).any()):
        return None
    return float((seen == given)[labelled].double().mean())


def evaluate_images(
    draw: Callable[[int], Batch],
    real: RealImages,
    draws: int,
    progress: Progress = silent,
    each: Each | None = None,
) -> dict[str, Measurement | Facts]:
    """Compare a model's images with held-out ones, and training images with the same held-out ones.

    draw: draw(k) gives the model's k-th independent batch of at least real.n images, k = 0..draws-1.
    real: the held-out images, and the floor.
    draws: batches of the model.
    progress: a bar over the images that are looked at.
    each: does that, in this process or in several.

    Returns a `Measurement` for each of frechet, kernel (without a ratio: its floor is 0 in expectation), precision,
    recall, and of labelled data accuracy. Last `extractor`: its name, digest, task,
    held-out accuracy and number of features.
    """
    with progress(draws * real.n, unit="image") as bar:
        ours = [real.measure(draw(k), each or real.alone, bar) for k in range(draws)]
    eye = real.extractor
    report: dict[str, Measurement | Facts] = {}
    for metric in (*IMAGES, ACCURACY):
        if metric.name not in ours[0]:
            continue
        values = [numbers[metric.name] for numbers in ours]
        if metric is ACCURACY and real.accuracy is not None:
            p = real.accuracy
            entry = beside_floor(metric, values, [p], real.n)
            entry["floor_spread"] = (p * (1 - p) / real.n) ** 0.5
            entry["floor_draws"] = len(real.floor)
        else:
            floors = [numbers[metric.name] for numbers in real.floor]
            nothing = math.inf if metric.name == "kernel" else 0.0
            entry = beside_floor(metric, values, floors, real.n, rounding=nothing)
        entry["split"], entry["against"] = real.reference, len(real.features)
        entry["extractor"] = eye.digest[:16]
        report[metric.name] = entry
    about = {"name": eye.name, "digest": eye.digest, "task": eye.task, "accuracy": eye.accuracy,
             "features": real.features.shape[1]}  # fmt: skip
    return report | {"extractor": about}


def images_table(report: Report) -> str:
    """The report of `evaluate_images` as lines of aligned text, and what was compared with what."""
    entry, eye = next(iter(measurements(report).values())), cast(Facts, report["extractor"])
    accuracy = ""
    if eye["accuracy"] is not None:
        accuracy = f", which recognizes {eye['accuracy']:.2%} of the test split's {eye['task']}"
    other = "train" if entry["split"] == "test" else "test"
    end = (
        f"{entry['n']:,} images against the {entry['against']:,} of the {entry['split']} split, {entry['draws']} drawn; "
        f"real: {entry['floor_draws']} times {entry['n']:,} images of the {other} split\n"
        f"seen by {eye['name']} {eye['digest'][:16]}{accuracy}"
    )
    few = entry["n"] <= eye["features"]
    end += f"\nfew images for {eye['features']} features: the Fréchet distance is mostly bias" if few else ""
    return f"{table_of(report, floor='real images')}\n{end}"
