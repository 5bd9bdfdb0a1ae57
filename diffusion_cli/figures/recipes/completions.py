"""Images that a model was not trained on, with a part hidden, and what it puts there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_cli.components import Components
from diffusion_cli.dataset.mask import make_mask, spread
from diffusion_cli.dataset.own_images import read_own_images
from diffusion_cli.errors import UserError, in_group
from diffusion_cli.figures.space import Floats
from diffusion_cli.inpainting import Inpainting, Known
from diffusion_cli.metrics.progress import Progress, ProgressBar, silent
from diffusion_cli.noise import NoiseStream


class Completions(NamedTuple):
    """x0 and original (n * k, *shape), in the file's units, label (n * k,) int64 or None, mask (*pixels) bool; numpy arrays.

    Rows i * k to i * k + k - 1 complete image i; each equals `original` exactly where the mask is true.
    """

    x0: Floats
    label: NDArray[np.int64] | None
    original: Floats
    mask: NDArray[np.bool_]


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
    with in_group("repaint"):
        inpainting = Inpainting(components.walking, batch=config["sample_batch"], **config["repaint"])
    known, pieces = Known(original, spread(mask, shape)), components.pieces(range(len(original)))
    with progress(len(pieces) * (len(inpainting.times(components.schedule)) - 1)) as bar:
        parts = components.each(Completing(inpainting, known, label), pieces, bar)
    return Completions(
        x0=components.units.array(torch.cat([x0.to(device) for x0 in parts])),
        label=None if label is None else label.cpu().numpy(),
        original=components.units.array(original),
        mask=mask.numpy(),
    )


@dataclass(frozen=True)
class Completing:
    """The work of completing points: x0 of each of these rows.

    known: all of them, with the mask.
    label: of each of them, or None.
    """

    inpainting: Inpainting
    known: Known
    label: Tensor | None

    def __call__(self, components: Components, rows: range, bar: ProgressBar) -> Tensor:
        at, device = slice(rows.start, rows.stop), components.device
        known = Known(self.known.x0[at].to(device), self.known.mask.to(device))
        x, label = known.x0, None if self.label is None else self.label[at].to(device)
        noise = NoiseStream(components.seed, len(rows), components.dataset.shape, device, first=rows.start)
        if rows:
            for state in self.inpainting(components.denoiser, noise(), known, label, noise):
                x = state.x
                if state.prediction is not None:
                    bar.update()
        return x


def own_images(components: Components) -> Tensor:
    """The pictures that `image` names, as images of the run."""
    config, dataset = components.config, components.dataset
    files = config["image"]
    if dataset.kind != "images":
        raise UserError("image", files, "the data of this run are no images")
    channels, height, width = dataset.shape
    given = [files] if isinstance(files, str) else files
    return read_own_images(given, (channels, height, width), config["dataset"])
