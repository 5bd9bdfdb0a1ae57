"""A dataset as a checkpoint remembers it: all that sampling needs, so that a run stands alone."""

from __future__ import annotations

from typing import get_args

import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.box import Box
from diffusion_cli.dataset.protocol import Dataset, Kind
from diffusion_cli.dataset.units import Units
from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Facts


class Remembered(Dataset):
    """What a run knows of its data when their files are gone: shape, kind, classes and how often each occurs, units.

    Batches are not among it: what compares with the data says that they are missing.
    """

    standardize = False

    def __init__(self, saved: Facts, place: tuple[str, str | None]) -> None:
        self.kind, self.shape = saved["kind"], tuple(saved["shape"])
        self.num_classes, self.class_names = saved["num_classes"], tuple(saved["class_names"])
        self.fingerprint = saved["fingerprint"]
        self.units = Units(tuple(saved["centre"]), saved["scale"])
        counts = saved["label_counts"]
        self.label_counts = None if counts is None else torch.tensor(counts, dtype=torch.float64)
        self.box = Box(torch.tensor(saved["low"]), torch.tensor(saved["high"]))
        self.place = place

    def draw(self, n: int, generator: torch.Generator) -> Batch:
        raise self.missing()

    def missing(self) -> UserError:
        """The error of what cannot be done without the data."""
        argument, value = self.place
        reason = f"the data of the run are not there, and needed for this; dataset.{argument}=PLACE says where they are now"
        return UserError(f"dataset.{argument}", value, reason)


def memory_of(dataset: Dataset) -> Facts:
    """What a checkpoint keeps of a dataset; plain values."""
    counts = dataset.label_counts
    return {
        "kind": dataset.kind,
        "shape": list(dataset.shape),
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "label_counts": None if counts is None else counts.tolist(),
        "centre": list(dataset.units.centre),
        "scale": dataset.units.scale,
        "low": dataset.box.low.tolist(),
        "high": dataset.box.high.tolist(),
        "fingerprint": dataset.fingerprint,
    }


def is_memory(saved: object) -> bool:
    """Whether a checkpoint's values, which may be a stranger's, are those of `memory_of`."""
    if not isinstance(saved, dict) or saved.get("kind") not in get_args(Kind):
        return False

    def numbers(value: object, kinds: type | tuple[type, ...] = (int, float)) -> bool:
        return isinstance(value, list) and all(
            type(item) in (int, float) and isinstance(item, kinds) for item in value
        )

    counts, names, scale = saved.get("label_counts"), saved.get("class_names"), saved.get("scale")
    return (
        numbers(saved.get("shape"), int)
        and all(size > 0 for size in saved["shape"])
        and type(saved.get("num_classes")) is int
        and isinstance(names, list)
        and len(names) == saved["num_classes"]
        and all(isinstance(name, str) for name in names)
        and (counts is None or (numbers(counts) and len(counts) == len(names) and sum(counts) > 0))
        and numbers(saved.get("centre"))
        and all(numbers(end) or type(end) is float for end in (saved.get("low"), saved.get("high")))
        and isinstance(scale, float | int)
        and scale > 0
        and isinstance(saved.get("fingerprint"), str | None)
    )
