"""`diffusion sample`: points from a trained run, which says everything itself."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

from diffusion_cli.commands.output import components_of, describe, draw_figures, facts
from diffusion_cli.errors import UserError
from diffusion_cli.runs.directory import FINISHED, RunDirectory
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.figures.recipes.completions import Completions

log = logging.getLogger(__name__)
PAINTED = ("inpaint", "completions", "repaint")


def check(config: dict[str, Any], directory: str | None) -> None:
    """Nothing beyond the keys themselves."""


def main(config: dict[str, Any], run: RunDirectory, session: Session) -> None:
    from diffusion_cli.figures.recipes.completions import complete

    components = components_of(config, session)
    if config["images"] and components.dataset.kind != "images":
        raise UserError("images", config["images"], "these samples are no images")
    components.refuse_too_many("n", config["n"] * (config["completions"] if config["inpaint"] else 1))
    started = time.monotonic()
    painted = config["inpaint"] is not None
    if painted:
        completed = complete(components, config["n"], session.bar)
        run.write_samples(
            completed.x0,
            completed.label,
            original=completed.original,
            mask=completed.mask,
            **components.names,
        )
    else:
        run.write_samples(*components.samples, **components.names)
    seconds = time.monotonic() - started
    if config["images"]:
        from diffusion_cli.figures.pictures import write_pictures

        write_pictures(completed.x0 if painted else components.samples[0], run.path / "images")
    if config["plots"] and painted:
        draw_completions(components, completed, run)
    elif config["plots"]:
        draw_samples(components, run)
    if config["export"]:
        export_weights(components, run)
    run.write_summary(
        status=FINISHED,
        **{key: config[key] for key in ("run", "weights", "n", "sampler", "guidance", "label", "seed")},
        seconds=round(seconds, 3),
        **({key: config[key] for key in PAINTED} if painted else {}),
        **describe(components.device),
    )
    log.info("%d samples in %.1f s: %s", config["n"], seconds, run.path)


def draw_samples(components: Components, run: RunDirectory) -> None:
    """The figure of the samples, where the data allow one."""
    from diffusion_cli.figures.draw import drawable

    node = components.config["figures"].get("samples")
    draw_figures(drawable({"samples": node}, components.dataset), run.figures, components)


def draw_completions(components: Components, completed: Completions, run: RunDirectory) -> None:
    """The figure of in-painting, where the data allow one."""
    from diffusion_cli.figures.files import save_figure
    from diffusion_cli.figures.kinds import VIEWED
    from diffusion_cli.figures.recipes.inpainting import show_completions

    if components.dataset.kind in VIEWED:
        figure = show_completions(components, completed)
        save_figure(figure, run.figures / "inpainting.png", facts(components))


def export_weights(components: Components, run: RunDirectory) -> None:
    """Writes the averaged weights as weights.safetensors, for whoever does without this package."""
    from diffusion_cli.runs import checkpoint
    from diffusion_cli.runs.restore import chosen

    source = RunDirectory(components.config["run"])
    state = chosen(source, components.config["weights"])["state"]
    about = {"run": str(source.path), "step": str(state["step"]), "config": json.dumps(source.record.current)}
    checkpoint.export(run.weights_file, state["ema"], about)
