"""Images that a model was not trained on, with a part hidden, and what it puts there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.mask import make_mask, spread
from diffusion_cli.errors import UserError, in_group
from diffusion_cli.inpainting import Inpainting, Known
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.noise import NoiseStream, Stream, generator

if TYPE_CHECKING:
    from diffusion_cli.components import Components

BLOCK = 256  # points of a law that are drawn at once: point i shall not depend on how many there are


class Completions(NamedTuple):
    """x0 and original (n * k, *shape) float32, label (n * k,) int64 or None, mask (*pixels) bool; numpy arrays.

    Rows i * k to i * k + k - 1 complete image i; each equals `original` exactly where the mask is true.
    """

    x0: np.ndarray
    label: np.ndarray | None
    original: np.ndarray
    mask: np.ndarray


def held_out(dataset: Any, n: int, seed: int) -> Batch:
    """n points on which no model of this dataset was trained: of images and of sets random ones of the held-out part,
    else fresh draws of the law. Point i depends on the seed alone. UserError for more than there are."""
    part = getattr(dataset, "test", None)
    if part is None:
        blocks = [dataset.draw(BLOCK, generator(seed, Stream.HELD_OUT, k)) for k in range(-(-n // BLOCK))]
        x0, label = (None if b[0] is None else torch.cat(b)[:n] for b in zip(*blocks, strict=True))
        return Batch(x0, label)
    images = hasattr(part, "batch")
    count = len(part.images) if images else len(part)
    if n > count:
        raise UserError("n", n, f"this dataset holds out {count:,} to complete, no more")
    rows = torch.randperm(count, generator=generator(seed, Stream.HELD_OUT))[:n]
    return part.batch(rows) if images else Batch(part[rows, : dataset.shape[0]], None)


def complete(components: Components, n: int, progress: Progress = silent) -> Completions:
    """`completions` samples for each of n held-out points that agree with it on the pixels of the mask `inpaint`.

    Labels are the points' own, unless the config asks for others. progress(total) -> a bar with `update` and `close`.
    """
    config, seed, device = components.config, components.seed, components.device
    each, shape = config["completions"], components.dataset.shape
    mask = make_mask(config["inpaint"], shape, seed)
    original, label = held_out(components.dataset, n, seed)
    if config["label"] is not None or label is None:
        label = components.labels(n)
    original = original.repeat_interleave(each, 0).to(device)
    label = None if label is None else label.repeat_interleave(each).to(device)
    noise = NoiseStream(seed, len(original), shape, device)
    with in_group("repaint"):
        inpainting = Inpainting(components.sampler, batch=config["sample_batch"], **config["repaint"])
    known = Known(original, spread(mask, shape).to(device))
    with progress(len(inpainting.times(components.schedule)) - 1) as bar:
        for state in inpainting(components.denoiser, noise(), known, label, noise):
            if state.prediction is not None:
                bar.update()
    arrays = (state.x, label, original, mask)
    return Completions(*(None if array is None else array.cpu().numpy() for array in arrays))
