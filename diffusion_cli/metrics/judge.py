"""A judge of images: a small classifier of our own, whose features stand for what an image looks like.

Inception's features were learned from photographs of 299 x 299 pixels and say little of digits; a classifier of the
very data at hand says more, and is trained in a minute or two.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.cache import alone_with, cache_dir
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.metrics.judge_network import Judge
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.noise import Stream, generator, seeded
from diffusion_cli.runs import checkpoint

log = logging.getLogger(__name__)
RECIPE = 3  # version of network and training: another one must not take what this one has left in the cache
TEXTURE = 0.5  # variance of the features of texture, as a fraction of the classifier's
FITTED = 2_000  # training images by which texture is scaled
BATCH = 128
MOST_STEPS, LEAST_STEPS, EPOCHS = 1_400, 200, 20
PEAK, DECAY = 4e-3, 0.02  # learning rate, weight decay
READ_AT_ONCE = 2**22  # numbers of images that are read at once: 16 MB
TIMED = (3, 13)  # steps between which one is timed, to estimate the duration of all


def judge_for(
    dataset: ImageDataset, device: torch.device | str = "cpu", progress: Progress = silent
) -> Judge:
    """The judge of this data, in evaluation mode: from the cache folder, or trained now, once, and kept there.

    It is found by `dataset.fingerprint`, and its weights are verified when read; a damaged file is named and replaced.
    Of several processes that want one, the first trains and the others wait. Where the cache cannot be written, the
    judge is used and forgotten, with a warning.
    """
    file = cache_dir() / "judges" / f"{dataset.fingerprint[:32]}_{RECIPE}.safetensors"
    judge = _load(file, dataset)
    if judge is None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with alone_with(file.with_suffix(".lock"), file):
                judge = _load(file, dataset)
                if judge is None:
                    judge = _make(dataset, file, device, progress)
                    _save(file, judge, dataset)
                    # As every later run will have it, to the last bit.
                    judge = _load(file, dataset) or judge
        except OSError as error:
            log.warning(
                "the judge of these images cannot be kept in %s: %s", file.parent, error.strerror or error
            )
            judge = judge or _make(dataset, file, device, progress)
    judge.digest = checkpoint.digest(judge.state_dict())
    return _placed(judge, device)


def _placed(judge: Judge, device: torch.device | str) -> Judge:
    return judge.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _save(file: Path, judge: Judge, dataset: ImageDataset) -> None:
    content = {"data": [dataset.fingerprint, RECIPE], "outputs": judge.outputs, "task": judge.task,
               "accuracy": judge.accuracy, "weights": judge.state_dict()}  # fmt: skip
    checkpoint.save(file, content)


def _load(file: Path, dataset: ImageDataset) -> Judge | None:
    if not file.is_file():
        return None
    try:
        kept = checkpoint.load(file)
        if kept.get("data") != [dataset.fingerprint, RECIPE]:
            raise checkpoint.Damaged(f"{file}: is not the judge of these images")
    except checkpoint.Damaged as damage:
        log.warning("%s; training another judge", damage)
        return None
    # Seeded for the sake of nobody else's random numbers: these weights are about to be replaced.
    with seeded(0, Stream.JUDGE_WEIGHTS):
        judge = Judge(dataset.shape, kept["outputs"], kept["task"])
    judge.load_state_dict(kept["weights"])
    judge.accuracy = kept["accuracy"]
    return judge.eval().requires_grad_(False)


def _make(dataset: ImageDataset, file: Path, device: torch.device | str, progress: Progress) -> Judge:
    """Trains, and logs what it costs as soon as that can be estimated: the first steps are slower than the others."""
    steps, marks = steps_for(len(dataset.train.images)), [0.0, 0.0]
    with progress(steps, unit="step") as bar:
        for trained in train_judge(dataset, device):
            bar.update()
            if trained.step in TIMED:
                marks[TIMED.index(trained.step)] = time.monotonic()
            if trained.step == TIMED[1]:
                seconds = (marks[1] - marks[0]) / (TIMED[1] - TIMED[0]) * steps
                log.info("training a judge of these images, once: %d steps, about %.0f s; kept in %s",
                         steps, seconds, file.parent)  # fmt: skip
    judge = trained.judge
    log.info("the judge recognizes %.2f %% of the %s of %d held-out images", 100 * (judge.accuracy or 0.0),
             judge.task, len(dataset.test.images))  # fmt: skip
    return judge


class Trained(NamedTuple):
    """Where training stands: the judge, the step, and how many there will be."""

    judge: Judge
    step: int
    steps: int


def steps_for(images: int) -> int:
    """Updates of BATCH images: 20 times through the data, at least 200, at most 1,400."""
    return max(LEAST_STEPS, min(MOST_STEPS, EPOCHS * images // BATCH))


def train_judge(dataset: ImageDataset, device: torch.device | str = "cpu") -> Iterator[Trained]:
    """Trains a judge of this data, yielding after every update; a pure function of the data (and of the machine).

    AdamW under a one-cycle learning rate; images shifted by up to two pixels. After the last step the judge is in
    evaluation mode and has its accuracy.
    """
    task = "labels" if dataset.num_classes > 1 else "rotations"
    turns = _turns(dataset.shape)
    with seeded(0, Stream.JUDGE_WEIGHTS):
        outputs = dataset.num_classes if task == "labels" else len(turns)
        judge = _placed(Judge(dataset.shape, outputs, task), device).train()
    steps = steps_for(len(dataset.train.images))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=PEAK, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        g = generator(0, Stream.JUDGE_BATCHES, step, device=device)
        batch = dataset.draw(BATCH, g)
        x, label = (batch.x0, cast(Tensor, batch.label)) if task == "labels" else _turned(batch.x0, turns)
        # Of dropout.
        with seeded(0, Stream.JUDGE_DROPOUT, step, device=device):
            loss = F.cross_entropy(judge(_shifted(x, g)), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        yield Trained(judge, step + 1, steps)
    judge.eval().requires_grad_(False)
    fit_texture(judge, dataset.train)
    judge.accuracy = accuracy(judge, dataset.test)


@torch.no_grad()
def fit_texture(judge: Judge, split: Split) -> None:
    """Scales the statistics of texture by up to 2,000 of these images, beside the features of the classifier."""
    device = next(judge.parameters()).device
    x = split.batch(slice(None, None, -(-len(split.images) // FITTED))).x0
    seen = torch.cat([judge.seen(part.to(device)) for part in x.split(at_once(judge.shape))])
    judge.texture.fit(x.to(device), TEXTURE * float(seen.var(0).sum()))


@torch.no_grad()
def accuracy(judge: Judge, split: Split) -> float:
    """Fraction of the images whose label (or whose turn) the judge recognizes."""
    right = total = 0
    turns = _turns(judge.shape)
    device = next(judge.parameters()).device
    for batch in batches(split):
        x, label = batch.x0, batch.label
        if judge.task == "rotations":
            x, label = _turned(x.repeat(len(turns), 1, 1, 1), turns)
        right += int((judge(x.to(device)).argmax(1).cpu() == label).sum())
        total += len(x)
    return right / total if total else 0.0


def batches(split: Split) -> Iterator[Batch]:
    """All images of a split in order, a few hundred at a time."""
    size = at_once(split.images.shape[1:])
    for start in range(0, len(split.images), size):
        yield split.batch(slice(start, start + size))


def at_once(shape: tuple[int, ...]) -> int:
    """How many images of this shape are looked at together: at most 500."""
    return max(1, min(500, READ_AT_ONCE // math.prod(shape)))


def _turns(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (0, 1, 2, 3) if shape[1] == shape[2] else (0, 2)


def _turned(x: Tensor, turns: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The batch in equal parts, the k-th turned by turns[k] quarters, and the parts' numbers as labels."""
    parts = x.tensor_split(len(turns))
    label = torch.cat([torch.full((len(part),), k, device=x.device) for k, part in enumerate(parts)])
    return torch.cat([part.rot90(turn, (2, 3)) for turn, part in zip(turns, parts, strict=True)]), label


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every image moved by up to two pixels each way (fewer where it is small), its edge repeated."""
    n, _, height, width = x.shape
    most = min(2, min(height, width) // 8)
    if not most:
        return x
    by = torch.randint(-most, most + 1, (2, n, 1), generator=generator, device=x.device)
    rows, columns = (
        (torch.arange(side, device=x.device) + by[i]).clamp(0, side - 1)
        for i, side in enumerate((height, width))
    )
    image = torch.arange(n, device=x.device)[:, None, None]
    return x.movedim(1, 3)[image, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
