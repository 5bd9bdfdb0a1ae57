"""Floors of known distributions, measured once and kept in the cache folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.cache import cache_dir
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.runs import checkpoint

Values = dict[str, float]
log = logging.getLogger(__name__)


def kept(
    about: Mapping[str, Any],
    samples: Sequence[Batch],
    measure: Callable[[Batch], Values],
    progress: Progress = silent,
) -> list[Values]:
    """measure(batch) of each of these sets of true samples: from the cache folder where that has been done before.

    about: tensors and plain values on which the result depends beside the samples, its version among them.

    A file is found by the digest of all that its content depends on, the samples themselves included, and so of their
    distribution, number and seed. A damaged one is replaced; where none can be written, the floor is measured each time.
    """
    drawn = {str(k): {"x0": batch.x0, "label": batch.label} for k, batch in enumerate(samples)}
    file = cache_dir() / "floors" / f"{checkpoint.digest({**about, 'samples': drawn})[:32]}.safetensors"
    floors: list[Values] = []
    try:
        return checkpoint.load(file)["floors"]
    except (checkpoint.Damaged, KeyError):
        # Not there, most often.
        with progress(len(samples), unit="floor") as bar:
            for batch in samples:
                bar.update()
                floors.append(measure(batch))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(file, {"floors": floors})
    except OSError as error:
        log.debug("the floor cannot be kept in %s: %s", file.parent, error.strerror or error)
    return floors
