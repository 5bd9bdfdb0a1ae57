"""`diffusion sample`: points from a trained run, which says everything itself."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diffusion_cli.commands.output import describe, draw_figures, facts, joint_components
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.ranges import Config
from diffusion_cli.runs.directory import FINISHED, RunDirectory
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diffusion_cli.components import Components
    from diffusion_cli.figures.graphic import Graphic
    from diffusion_cli.figures.recipes.completions import Completions
    from diffusion_cli.metrics.progress import Progress
    from diffusion_cli.runs.directory import Array, Arrays

log = logging.getLogger(__name__)
# Keys that summary.json repeats; the last ones of in-painting.
NAMED = ("run", "weights", "n", "sampler", "guidance", "label", "seed")
PAINTED = ("inpaint", "image", "completions", "repaint")
MASKS = ("inpaint=box", "inpaint=left_half", "inpaint=FILE")


def check(config: Config, directory: str | None) -> None:
    """A picture is for in-painting."""
    check_image(config)


def check_image(config: Config) -> None:
    """UserError for a picture to complete of which nothing is hidden."""
    if config["image"] is not None and config["inpaint"] is None:
        reason = "is completed where a mask hides it; say inpaint=box"
        raise UserError("image", config["image"], reason, MASKS)


def main(config: Config, run: RunDirectory, session: Session) -> None:
    with joint_components(config, session) as components:
        if config["images"] and components.dataset.kind != "images":
            raise UserError("images", config["images"], "these samples are no images")
        started = time.monotonic()
        with session.phase(f"sampling {config['n']:,}"):
            samples = write_samples(components, run, session.bar)
        seconds = time.monotonic() - started
        if config["plots"]:
            for name, graphic in samples.graphics():
                graphic.save(file := run.figures / f"{name}{graphic.suffix}")
                log.info("open %s", file)
        if config["export"]:
            export_weights(components, run)
        painted = PAINTED if config["inpaint"] else ()
        run.write_summary(
            status=FINISHED,
            **{key: config[key] for key in (*NAMED, *painted)},
            seconds=round(seconds, 3),
            **describe(components.device),
        )
    # of very many samples only the first are in memory
    count = len(samples) if painted else config["n"]
    log.info("%d samples in %.1f s: %s", count, seconds, run.path)


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """What was drawn from a run, as NumPy arrays in the units of the data's file.

    x0: (n, *shape), float32, or float64 where that cannot hold it; images in [-1, 1].
    label: (n,) int64; None for data without classes.
    class_names: of the classes 0, 1, ...; empty for classes without names.
    original, mask: of in-painting: what was completed, and where it was given; else None.
    """

    x0: NDArray[np.floating]
    label: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    components: Components
    original: NDArray[np.floating] | None = None
    mask: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        return f"{len(self)} samples, x0 {self.x0.shape}"

    def plot(self) -> Graphic:
        """The figure of them. ArgumentError where there is none for such data."""
        for _, graphic in self.graphics():
            return graphic
        raise ArgumentError("figure", "samples", "there is none of such data")

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        return next((graphic._repr_png_() for _, graphic in self.graphics()), None)

    def __len__(self) -> int:
        return len(self.x0)

    def graphics(self) -> Iterator[tuple[str, Graphic]]:
        """The figure of them, with its name, where the data allow one."""
        from diffusion_cli.figures.draw import drawable
        from diffusion_cli.figures.graphic import Graphic
        from diffusion_cli.figures.recipes.completions import Completions
        from diffusion_cli.figures.recipes.inpainting import show_completions

        c = self.components
        if self.original is None or self.mask is None:
            nodes = {"samples": c.config["figures"].get("samples")}
            yield from draw_figures(drawable(nodes, c.dataset), c)
        else:
            done = Completions(self.x0, self.label, self.original, self.mask)
            yield "inpainting", Graphic(show_completions(c, done), facts(c))


def write_samples(components: Components, run: RunDirectory, progress: Progress) -> Samples:
    """Draws the samples that the components' config means into samples.npz, and as images where it says so.

    Of very many only a lot is in memory at once, and the first lot is returned, which is what figures show.
    """
    import numpy as np

    from diffusion_cli.figures.pictures import write_pictures

    config, names = components.config, components.dataset.class_names
    more: dict[str, Array] = {}
    done = None if config.get("inpaint") is None else completed(components, progress)
    if done is None:
        n, drawn = config["n"], components.stream(progress)
    else:
        n, drawn = len(done.x0), iter([(done.x0, done.label)])
        more = {"original": done.original, "mask": done.mask}
    if names:
        more["class_names"] = np.array(names)

    def lots() -> Iterator[Arrays]:
        done = 0
        for x0, label in drawn:
            if config.get("images"):
                write_pictures(x0, run.path / "images", done)
            done += len(x0)
            yield x0, label

    first = run.write_samples(n, lots(), **more)
    samples = Samples(*first, names, replace(components, drawn=first))
    return samples if done is None else replace(samples, original=done.original, mask=done.mask)


def new_samples(components: Components, progress: Progress) -> Samples:
    """The samples that the components' config means; where it says `inpaint`, completions of held-out data or pictures."""
    names = components.dataset.class_names
    if components.config["inpaint"] is None:
        return Samples(*components.samples, names, components)
    done = completed(components, progress)
    return Samples(done.x0, done.label, names, components, done.original, done.mask)


def completed(components: Components, progress: Progress) -> Completions:
    """The completions that the components' config means; UserError for more than fit into memory."""
    from diffusion_cli.figures.recipes.completions import complete

    n = components.config["n"]
    components.refuse_too_many("n", n * components.config["completions"])
    return complete(components, n, progress)


def export_weights(components: Components, run: RunDirectory) -> None:
    """Writes the averaged weights as weights.safetensors, for whoever does without this package."""
    from diffusion_cli.runs import checkpoint
    from diffusion_cli.runs.restore import chosen

    source = RunDirectory(components.config["run"])
    state = chosen(source, components.config["weights"])["state"]
    about = {"run": str(source.path), "step": str(state["step"]), "config": json.dumps(source.record.current)}
    checkpoint.export(run.weights_file, state["ema"], about)
