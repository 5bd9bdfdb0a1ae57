"""Generated images beside held-out ones, in figures that carry their floor.

A distance between finite sets of images is never 0: it is biased by their number, most of all the Fréchet distance.
Each value therefore stands beside the same figure for as many real training images, compared with the very same
held-out ones; a ratio of 1 cannot be told from the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.metrics.images import (
    Gaussian,
    Manifold,
    frechet,
    kernel_distance,
    mean_kernel,
    precision_recall,
)
from diffusion_cli.metrics.judge import at_once
from diffusion_cli.metrics.progress import Counter, Progress, silent

LABELS = {
    "frechet": "Fréchet distance",
    "kernel": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "asked label read",
}
Numbers = dict[str, float]


class Extractor(Protocol):
    """What sees images: features(x) (B, D) of x (B, C, H, W) float32 in [-1, 1]; head turns them into logits, or is None
    where it reads no labels. accuracy: on held-out images, in its task. digest: of its weights."""

    name: str
    task: str
    accuracy: float | None
    digest: str
    head: Callable[[Tensor], Tensor] | None

    def features(self, x: Tensor) -> Tensor: ...


class Seen(NamedTuple):
    """Images as an extractor sees them: features (n, D) float64, and the label read in each (n,), or None."""

    features: Tensor
    read: Tensor | None


@torch.no_grad()
def look(extractor: Extractor, images: Tensor | Split, device: torch.device | str, counter: Counter) -> Seen:
    """x0 (n, C, H, W) float32, or a split's bytes, a few hundred at a time."""
    split = isinstance(images, Split)
    features, read = [], []
    held = images.images if split else images
    size = at_once(held.shape[1:])
    for start in range(0, len(held), size):
        rows = slice(start, start + size)
        x = (images.batch(rows).x0 if split else images[rows]).to(device)
        seen = extractor.features(x.contiguous(memory_format=torch.channels_last))
        features.append(seen.double().cpu())
        if extractor.head is not None:
            read.append(extractor.head(seen).argmax(1).cpu())
        counter.update(len(x))
    return Seen(torch.cat(features), torch.cat(read) if read else None)


class RealImages:
    """The held-out images as every set of n samples meets them, and the floor: n training images at a time.

    The Fréchet and kernel distances are to the whole test split, whatever n is; precision and recall are those of n
    samples and n test images (as many as there are), between which the k-th neighbours are looked for. floor: the
    figures of disjoint random sets of n training images, at most `floor_draws` and as many as there are; n is smaller
    where the training split is. The floor of accuracy is that of the extractor on the test split.
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
    ) -> None:
        self.extractor, self.device, self.k = extractor, device, neighbours
        train, test = dataset.train, dataset.test
        self.n = min(n, len(train.images))
        rng = np.random.default_rng(seed)
        rows = rng.permutation(len(train.images))[: len(train.images) // self.n * self.n].reshape(-1, self.n)
        rows = np.sort(rows[:floor_draws], 1)  # memory-mapped images are read from front to back
        with progress(len(test.images) + rows.size, unit="image") as counter:
            seen = look(extractor, test, device, counter)
            self.test, self.law = seen.features, Gaussian.of(seen.features)
            self.within = mean_kernel(self.test)
            some = torch.from_numpy(rng.permutation(len(self.test))[: self.n])
            self.manifold = Manifold(self.test[some], neighbours)
            looks = [
                look(extractor, train._replace(images=train.images[r], label=None), device, counter)
                for r in rows
            ]
        self.floor: list[Numbers] = [self.compare(each.features) for each in looks]
        self.read = None
        if seen.read is not None and test.label is not None:
            self.read = float((seen.read == test.label).double().mean())

    def compare(self, features: Tensor) -> Numbers:
        """The distances of these images from the held-out ones, and precision and recall."""
        precision, recall = precision_recall(self.manifold, Manifold(features, self.k))
        return {
            "frechet": frechet(Gaussian.of(features), self.law),
            "kernel": kernel_distance(features, self.test, self.within),
            "precision": precision,
            "recall": recall,
        }

    def measure(self, batch: Batch, counter: Counter) -> Numbers:
        """The same of n samples, and how many of their labels the extractor reads."""
        seen = look(self.extractor, batch.x0[: self.n], self.device, counter)
        numbers = self.compare(seen.features)
        if self.read is not None and batch.label is not None:
            numbers["accuracy"] = float((seen.read == batch.label[: self.n]).double().mean())
        return numbers


def evaluate_images(
    draw: Callable[[int], Batch], real: RealImages, draws: int, progress: Progress = silent
) -> dict[str, Any]:
    """Compare a model's images with held-out ones, and training images with the same held-out ones.

    draw(k): the model's k-th independent batch of at least real.n images, k = 0..draws-1.

    Returns name -> a plain dict ready for JSON: value and spread (mean and standard deviation over the draws), floor
    and floor_spread, ratio = value / floor (None for the kernel distance, whose floor is 0 in expectation), n, draws,
    floor_draws, against (images of the test split), extractor (first 16 digits of its digest). Names: frechet, kernel,
    precision, recall, and of labelled data accuracy. Last `extractor`: its name, digest, task and held-out accuracy.
    """
    with progress(draws * real.n, unit="image") as counter:
        ours = [real.measure(draw(k), counter) for k in range(draws)]
    report: dict[str, Any] = {}
    eye = real.extractor
    for name in ours[0]:
        if name == "accuracy":
            floor, floor_spread = real.read, (real.read * (1 - real.read) / real.n) ** 0.5
        else:
            floor, floor_spread = _mean_and_spread([numbers[name] for numbers in real.floor])
        value, spread = _mean_and_spread([numbers[name] for numbers in ours])
        report[name] = {
            "value": value,
            "spread": spread,
            "floor": floor,
            "floor_spread": floor_spread,
            "ratio": value / floor if floor > 0 and name != "kernel" else None,
            "n": real.n,
            "draws": draws,
            "floor_draws": len(real.floor),
            "split": "test",
            "against": len(real.test),
            "extractor": eye.digest[:16],
        }
    about = {"name": eye.name, "digest": eye.digest, "task": eye.task, "accuracy": eye.accuracy}
    return report | {"extractor": about}


def images_table(report: dict[str, Any]) -> str:
    """The report of `evaluate_images` as lines of aligned text, and what was compared with what."""
    head = ("metric", "value", "real images", "ratio")
    entries = {name: entry for name, entry in report.items() if name in LABELS}
    rows = [
        (
            LABELS[name],
            _with_spread(entry["value"], entry["spread"]),
            _with_spread(entry["floor"], entry["floor_spread"]),
            "" if entry["ratio"] is None else f"{entry['ratio']:.2f}",
        )
        for name, entry in entries.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    template = "  ".join([f"{{:<{widths[0]}}}"] + [f"{{:>{width}}}" for width in widths[1:]])
    entry, eye = report["frechet"], report["extractor"]
    known = (
        ""
        if eye["accuracy"] is None
        else f", which tells {eye['accuracy']:.2%} of the test split's {eye['task']}"
    )
    end = (
        f"{entry['n']:,} images against the {entry['against']:,} of the {entry['split']} split, {entry['draws']} drawn; "
        f"real: {entry['floor_draws']} times {entry['n']:,} training images\n"
        f"seen by {eye['name']} {eye['digest'][:16]}{known}"
    )
    return "\n".join([*(template.format(*row) for row in (head, *rows)), end])


def _mean_and_spread(values: list[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _with_spread(value: float, spread: float | None) -> str:
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"
