"""`diffusion distill`: a student that makes in a few calls the way for which its teacher needs many."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from diffusion_cli.commands import train
from diffusion_cli.errors import UserError
from diffusion_cli.options.groups import EXACT
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.results import value_of
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_cli.components import Components
    from diffusion_cli.trainer import BatchSource

log = logging.getLogger(__name__)
# Paths that are drawn, and kept in a file, together: at most so many, and no more than go through a network at once.
LOT = 8192
# One path of so many is not trained on: by these checkpoints are compared.
HELD_OUT = 32


def check(config: dict[str, Any], directory: str | None) -> None:
    """Before anything is written: what the teacher cannot teach."""
    train.check(config, directory)
    teacher = config["run"]
    if teacher != EXACT and RunDirectory(teacher).record.command == "distill":
        raise UserError("run", teacher, "is a student itself; name its teacher")
    if config["w_max"] is not None and not config["guidance"]["label_dropout"]:
        reason = "guidance needs a teacher that was trained with labels and label dropout"
        raise UserError("w_max", config["w_max"], reason)


def main(config: dict[str, Any], run: RunDirectory, session: Session) -> float | None:
    train.train_run(config, run, session, with_teacher, of_paths)
    return value_of(run, config["optimize"])


def with_teacher(config: dict[str, Any]) -> Components:
    """The student's components, with the run that teaches it, if it is not the exact denoiser."""
    from diffusion_cli.components import build, trained

    if config["run"] == EXACT:
        return build(config)
    teacher = RunDirectory(config["run"])
    same = {key: config[key] for key in ("dataset", "guidance", "device", "sample_batch")}
    theirs = teacher.record.current | same | {"weights": config["run_weights"], "label": None}
    made = trained(theirs, teacher)
    return replace(build(config, made.dataset), teacher=made)


def of_paths(training: train.Training) -> tuple[BatchSource, BatchSource]:
    """Jumps along the teacher's paths, which are drawn where the run does not hold them yet."""
    import torch

    from diffusion_cli.distillation import JumpBatches
    from diffusion_cli.noise import Stream

    c = training.components
    times = sorted({time for jump in c.jumps for time in jump}, reverse=True)
    lots = drawn_paths(training, times)
    x = torch.cat([lot["x"] for lot in lots], 1).to(c.device)
    label, w = (
        torch.cat([lot[key] for lot in lots]).to(c.device) if key in lots[0] else None
        for key in ("label", "w")
    )
    first = max(1, x.shape[1] // HELD_OUT)

    def part(rows: slice, stream: Stream) -> JumpBatches:
        def some(given: Tensor | None) -> Tensor | None:
            return None if given is None else given[rows]

        given = (c.jumps, c.schedule, c.objective, c.config["batch_size"], c.seed, stream)
        return JumpBatches(x[:, rows], times, some(label), some(w), *given)

    return part(slice(first, None), Stream.TRAINING), part(slice(first), Stream.SCORE)


def drawn_paths(training: train.Training, times: list[float]) -> list[dict[str, Any]]:
    """The teacher's paths in lots: x (K, n, *shape) at these times; where there are any label and w, (n,)."""
    from diffusion_cli.noise import ROWS
    from diffusion_cli.runs import checkpoint

    run, c, config = training.run, training.components, training.config
    teacher = teacher_of(c)
    made_by = "" if teacher.net is None else checkpoint.digest(teacher.net.state_dict())
    size = ROWS * max(1, min(LOT, config["sample_batch"]) // ROWS)
    lots: list[dict[str, Any]] = []
    with training.session.bar(config["trajectories"], unit="path") as progress:
        for first in range(0, config["trajectories"], size):
            file, rows = run.paths_file(len(lots)), min(size, config["trajectories"] - first)
            try:
                lot = checkpoint.load(file)
            except checkpoint.Damaged:
                lot = {"teacher": made_by, **draw_lot(teacher, c, first, rows, times, training)}
                run.check_place()
                checkpoint.save(file, lot)
            if lot.get("teacher") != made_by:
                reason = "has other weights now than when its paths were drawn; start another run"
                raise UserError("run", config["run"], reason)
            lots.append(lot)
            progress.update(rows)
    return lots


def teacher_of(c: Components) -> Components:
    """The teacher with a deterministic sampler; x0 is bounded as in its own."""
    from diffusion_cli.multistep import Multistep

    teacher = c.teacher or replace(c, net=None)
    # Of the third order only where there is no error of a network to amplify.
    order: Literal[2, 3] = 2 if c.teacher else 3
    steps, own = c.config["trajectory_steps"], teacher.sampler
    sampler = Multistep(steps=steps, grid="log_snr", clip=own.clip, box=own.box, order=order)
    return replace(teacher, sampler=sampler)


def draw_lot(
    teacher: Components, c: Components, first: int, rows: int, times: list[float], training: train.Training
) -> dict[str, Any]:
    """One lot of paths, from the path of this number on; a function of the seed."""
    import torch

    from diffusion_cli.distillation import path_states
    from diffusion_cli.guidance import ClassifierFreeGuided
    from diffusion_cli.noise import NoiseStream, Stream, generator

    shape, w_max, denoiser = c.dataset.shape, c.config["w_max"], teacher.unguided
    g = generator(c.seed, Stream.PATHS, first, device=c.device)
    lot: dict[str, Any] = {}
    if c.dataset.num_classes:
        label = c.dataset.draw_labels(rows, g)
        dropped = torch.rand(rows, generator=g, device=c.device) < c.guidance.label_dropout
        lot["label"] = label.masked_fill(dropped, c.dataset.num_classes)
    if w_max is not None:
        lot["w"] = w_max * torch.rand(rows, generator=g, device=c.device)
        denoiser = ClassifierFreeGuided(denoiser, lot["w"].view(-1, *(1,) * len(shape)))
    x_T = NoiseStream(c.seed, rows, shape, c.device, Stream.PATHS, first=first)()
    check = training.session.stop.check
    x = path_states(teacher.sampler, denoiser, x_T, lot.get("label"), times, check)
    return {"x": x, **lot}
