"""Floors of known distributions, measured once and kept in the cache folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.cache import kept_content
from diffusion_cli.metrics.progress import Progress, ProgressBar, silent
from diffusion_cli.ranges import Facts

Values = dict[str, float]


def kept(
    about: Mapping[str, object],
    samples: Sequence[Batch],
    measure: Callable[[ProgressBar], list[Values]],
    progress: Progress = silent,
) -> list[Values]:
    """measure(bar), the values of each of these sets of true samples: from the cache folder where that has been done before.

    about: tensors and plain values on which the result depends beside the samples, its version among them.

    It is found by all that it depends on, the samples themselves included, and so their distribution, number and seed.
    """
    drawn = {str(k): {"x0": batch.x0, "label": batch.label} for k, batch in enumerate(samples)}

    def measured() -> Facts:
        with progress(len(samples), unit="floor") as bar:
            return {"floors": measure(bar)}

    return kept_content("floors", {**about, "samples": drawn}, measured)["floors"]
