"""Images that a model was not trained on, with a part hidden, and what it puts there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from diffusion_cli.dataset.mask import make_mask, spread
from diffusion_cli.dataset.own_images import read_own_images
from diffusion_cli.errors import UserError, in_group
from diffusion_cli.inpainting import Inpainting, Known
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.noise import NoiseStream

if TYPE_CHECKING:
    from diffusion_cli.components import Components


class Completions(NamedTuple):
    """x0 and original (n * k, *shape), in the file's units, label (n * k,) int64 or None, mask (*pixels) bool; numpy arrays.

    Rows i * k to i * k + k - 1 complete image i; each equals `original` exactly where the mask is true.
    """

    x0: np.ndarray
    label: np.ndarray | None
    original: np.ndarray
    mask: np.ndarray


def complete(components: Components, n: int, progress: Progress = silent) -> Completions:
    """`completions` samples for each of n held-out points, or of the pictures `image`, that agree with it on the pixels of
    the mask `inpaint`.

    Labels are the points' own, unless the config asks for others. progress(total) -> a bar with `update` and `close`.
    """
    config, seed, device = components.config, components.seed, components.device
    each, shape = config["completions"], components.dataset.shape
    mask = make_mask(config["inpaint"], shape, seed)
    with in_group(""):
        if config["image"] is None:
            original, label, _ = components.dataset.held_out.distinct(n, seed)
        else:
            original, label = own_images(components), None
    if config["label"] is not None or label is None:
        label = components.labels(len(original))
    original = original.repeat_interleave(each, 0).to(device)
    label = None if label is None else label.repeat_interleave(each).to(device)
    noise = NoiseStream(seed, len(original), shape, device)
    with in_group("repaint"):
        inpainting = Inpainting(components.walking, batch=config["sample_batch"], **config["repaint"])
    known = Known(original, spread(mask, shape).to(device))
    with progress(len(inpainting.times(components.schedule)) - 1) as bar:
        for state in inpainting(components.denoiser, noise(), known, label, noise):
            if state.prediction is not None:
                bar.update()
    return Completions(
        x0=components.units.array(state.x),
        label=None if label is None else label.cpu().numpy(),
        original=components.units.array(original),
        mask=mask.numpy(),
    )


def own_images(components: Components) -> Tensor:
    """The pictures that `image` names, as images of the run."""
    config, dataset = components.config, components.dataset
    files = config["image"]
    if dataset.kind != "images":
        raise UserError("image", files, "the data of this run are no images")
    channels, height, width = dataset.shape
    given = [files] if isinstance(files, str) else files
    return read_own_images(given, (channels, height, width), config["dataset"])
