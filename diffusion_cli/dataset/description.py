"""What was read, as one block: for the terminal, the log and summary.json."""

from __future__ import annotations

from diffusion_cli.dataset.images import ImageDataset
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.ranges import Facts

MOST_SHOWN = 20


def description_of(dataset: Dataset) -> Facts:
    """The facts of a dataset, plain values: kind, shape, what was read, classes with counts, what is held out, units."""
    facts: Facts = {"kind": dataset.kind, "shape": list(dataset.shape), **dataset.about}
    names, counts = dataset.class_names, dataset.label_counts
    if names:
        of_class = [None] * len(names) if counts is None else [int(count) for count in counts.tolist()]
        facts["classes"] = dict(zip(names, of_class, strict=True))
    if isinstance(dataset, ImageDataset):
        facts |= {
            "train": len(dataset.train.images),
            "held out": len(dataset.test.images),
            **spread_of(dataset),
        }
    elif isinstance(dataset, SetDataset):
        facts |= {"train": len(dataset.train), "held out": len(dataset.test)}
    elif dataset.count is not None and "train" not in facts:
        facts["train"] = f"{dataset.count:,}, drawn once"
    if not dataset.units.standard:
        facts |= {"centre": list(dataset.units.centre), "scale": dataset.units.scale}
    return facts


def spread_of(dataset: ImageDataset) -> Facts:
    """Mean, standard deviation and range of the values of training images, of 1,000 of them where there are more."""
    train = dataset.train
    images = train.images[:: max(1, len(train.images) // 1000)].float()
    facts: Facts = {
        "mean": _rounded(images.mean().item()),
        "standard deviation": _rounded(images.std().item()),
        "range": [_rounded(end.item()) for end in images.aminmax()],
        "black, white": [_rounded(train.low), _rounded(train.high)],
    }
    beyond = ((images < train.low) | (images > train.high)).float().mean().item()
    return facts | ({"beyond black or white": f"{beyond:.2%} of the values"} if beyond else {})


def _rounded(value: float) -> float:
    return int(value) if value == int(value) else float(f"{value:.4g}")


def lines_of(facts: Facts) -> str:
    """The facts as lines of text."""
    width = max(map(len, facts))
    return "\n".join(f"  {name:<{width}}  {_text(value)}" for name, value in facts.items())


def _text(value: object) -> str:
    if isinstance(value, dict):
        shown = [name if count is None else f"{name}: {count:,}" for name, count in value.items()]
        rest = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
        return (", ".join(shown[:MOST_SHOWN]) + rest) or "nothing"
    if isinstance(value, list):
        shown = [_text(item) for item in value]
        rest = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
        return ", ".join(shown[:MOST_SHOWN]) + rest
    return f"{value:g}" if isinstance(value, float) else str(value)
