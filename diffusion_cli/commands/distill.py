"""`diffusion distill`: a student that makes in a few calls the way for which its teacher needs many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from diffusion_cli.commands import train
from diffusion_cli.commands.lesson import Lesson, batches_of
from diffusion_cli.errors import UserError
from diffusion_cli.options.groups import EXACT
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.results import value_of
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_cli.components import Components
    from diffusion_cli.components.learned import Learned
    from diffusion_cli.noise import Stream
    from diffusion_cli.sampler import Sampler
    from diffusion_cli.trainer import BatchSource, TrainState

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
    if config["w_max"] is not None and config["method"] != "paths":
        raise UserError("w_max", config["w_max"], "is for method=paths")


def main(config: dict[str, Any], run: RunDirectory, session: Session) -> float | None:
    train.train_run(config, run, session, AlongPaths() if config["method"] == "paths" else ByHalving())
    return value_of(run, config["optimize"])


class Distillation(Lesson):
    """What `diffusion distill` trains: a student, whose teacher is a run or the exact denoiser."""

    def components(self, config: dict[str, Any]) -> Components:
        from diffusion_cli.components import build, trained

        if config["run"] == EXACT:
            return build(config)
        teacher = RunDirectory(config["run"])
        same = {key: config[key] for key in ("dataset", "guidance", "device", "sample_batch")}
        theirs = teacher.record.current | same | {"weights": config["run_weights"], "label": None}
        made = trained(theirs, teacher)
        return replace(build(config, made.dataset), teacher=made)


class AlongPaths(Distillation):
    """Jumps along the teacher's paths, of which some are kept back to compare checkpoints by."""

    def batches(
        self, c: Components, state: TrainState, run: RunDirectory, session: Session
    ) -> tuple[BatchSource, BatchSource]:
        from diffusion_cli.noise import Stream

        total = c.config["trajectories"]
        paths, first = kept_paths(c, run, session, total), max(1, total // HELD_OUT)
        return paths(slice(first, None), Stream.TRAINING), paths(slice(first), Stream.SCORE)


class ByHalving(Distillation):
    """Jumps over two steps of the round before's student, which is kept when its round ends; and a few of the teacher's
    paths to compare checkpoints by."""

    def batches(
        self, c: Components, state: TrainState, run: RunDirectory, session: Session
    ) -> tuple[BatchSource, BatchSource]:
        from diffusion_cli.components.students import student_of
        from diffusion_cli.denoiser import Denoiser, Jump
        from diffusion_cli.distillation import HalvingBatches
        from diffusion_cli.noise import Stream
        from diffusion_cli.runs import checkpoint

        config, first = c.config, teacher_of(c).unguided
        made: dict[int, Denoiser] = {0: first}

        def teacher(number: int, jumps: Sequence[Jump]) -> Denoiser:
            if number not in made:
                file, net = run.round_file(number), c.new_net()
                try:
                    net.load_state_dict(checkpoint.load(file))
                except checkpoint.Damaged:
                    net.load_state_dict(state.ema.state_dict())
                    checkpoint.save(file, net.state_dict())
                made[number] = student_of(c.network_denoiser(net.eval()), first, jumps)
            return made[number]

        halving = HalvingBatches(batches_of(c), config["calls"], config["rounds"], config["steps"], teacher)
        paths = kept_paths(c, run, session, max(1, config["trajectories"] // HELD_OUT))
        return halving, paths(slice(None), Stream.SCORE)


def kept_paths(
    c: Components, run: RunDirectory, session: Session, total: int
) -> Callable[[slice, Stream], BatchSource]:
    """So many paths of the teacher, drawn where the run does not hold them yet: (rows, stream) -> batches of jumps."""
    import torch

    from diffusion_cli.components.students import jumps_for
    from diffusion_cli.distillation import JumpBatches

    jumps = jumps_for(c.config, c.schedule)
    times = sorted({time for jump in jumps for time in jump}, reverse=True)
    lots = drawn_paths(c, run, session, total, times)
    x = torch.cat([lot["x"] for lot in lots], 1).to(c.device)
    label, w = (
        torch.cat([lot[key] for lot in lots]).to(c.device) if key in lots[0] else None
        for key in ("label", "w")
    )

    def batches(rows: slice, stream: Stream) -> JumpBatches:
        def some(given: Tensor | None) -> Tensor | None:
            return None if given is None else given[rows]

        given = (jumps, c.schedule, c.objective, c.config["batch_size"], c.seed, stream)
        return JumpBatches(x[:, rows], times, some(label), some(w), *given)

    return batches


def drawn_paths(
    c: Components, run: RunDirectory, session: Session, total: int, times: list[float]
) -> list[dict[str, Any]]:
    """The teacher's paths in lots: x (K, n, *shape) at these times; where there are any label and w, (n,)."""
    from diffusion_cli.noise import ROWS
    from diffusion_cli.runs import checkpoint

    teacher = teacher_of(c)
    made_by = "" if teacher.net is None else checkpoint.digest(teacher.net.state_dict())
    size = ROWS * max(1, min(LOT, c.config["sample_batch"]) // ROWS)
    lots: list[dict[str, Any]] = []
    with session.bar(total, unit="path") as progress:
        for first in range(0, total, size):
            file, rows = run.paths_file(len(lots)), min(size, total - first)
            try:
                lot = checkpoint.load(file)
            except checkpoint.Damaged:
                lot = {"teacher": made_by, **draw_lot(teacher, c, first, rows, times, session.stop.check)}
                run.check_place()
                checkpoint.save(file, lot)
            if lot.get("teacher") != made_by:
                reason = "has other weights now than when its paths were drawn; start another run"
                raise UserError("run", c.config["run"], reason)
            lots.append(lot)
            progress.update(rows)
    return lots


def teacher_of(c: Components) -> Learned:
    """What teaches: the run, or the exact denoiser."""
    return c.teacher or replace(c, net=None)


def sampler_of_teacher(c: Components) -> Sampler:
    """A deterministic sampler of many steps; x0 is bounded as in the teacher's own."""
    from diffusion_cli.components.composed import sampler_for
    from diffusion_cli.sampler import Multistep

    # Of the third order only where there is no error of a network to amplify.
    order: Literal[2, 3] = 2 if c.teacher else 3
    own = sampler_for(teacher_of(c).config, c.dataset)
    return Multistep(
        steps=c.config["trajectory_steps"], grid="log_snr", clip=own.clip, box=own.box, order=order
    )


def draw_lot(
    teacher: Learned, c: Components, first: int, rows: int, times: list[float], tick: Callable[[], None]
) -> dict[str, Any]:
    """One lot of paths, from the path of this number on; a function of the seed."""
    import torch

    from diffusion_cli.distillation import path_states
    from diffusion_cli.guidance import Extrapolated, Unlabelled
    from diffusion_cli.noise import NoiseStream, Stream, generator

    shape, w_max, denoiser = c.dataset.shape, c.config["w_max"], teacher.unguided
    g = generator(c.seed, Stream.PATHS, first, device=c.device)
    lot: dict[str, Any] = {}
    label = c.dataset.draw_labels(rows, g) if c.dataset.num_classes else None
    if label is not None:
        dropped = torch.rand(rows, generator=g, device=c.device) < c.guidance.label_dropout
        lot["label"] = label.masked_fill(dropped, c.dataset.num_classes)
    if w_max is not None:
        lot["w"] = w_max * torch.rand(rows, generator=g, device=c.device)
        w = lot["w"].view(-1, *(1,) * len(shape))
        denoiser = Extrapolated(denoiser, Unlabelled(denoiser), w)
    x_T = NoiseStream(c.seed, rows, shape, c.device, Stream.PATHS, first=first)()
    x = path_states(sampler_of_teacher(c), denoiser, x_T, lot.get("label"), times, tick)
    return {"x": x, **lot}
