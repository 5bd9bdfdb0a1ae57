"""The teacher's paths: drawn once by all processes, kept in the run, and learned from in batches of jumps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Facts
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_cli.components import Components
    from diffusion_cli.components.learned import Learned
    from diffusion_cli.distillation import JumpBatches
    from diffusion_cli.metrics.progress import ProgressBar
    from diffusion_cli.noise import Stream
    from diffusion_cli.sampler import Sampler

# Paths that are drawn, and kept in a file, together: at most so many, and no more than go through a network at once.
LOT = 8192
# One path of so many is not trained on: by these checkpoints are compared.
HELD_OUT = 32


def held_out(total: int) -> int:
    """How many of so many paths are kept back to compare checkpoints by."""
    return max(1, total // HELD_OUT)


def times_of(c: Components) -> list[float]:
    """The times at which paths are kept: the ends of the student's jumps, falling."""
    from diffusion_cli.components.students import jumps_for

    return sorted({time for jump in jumps_for(c.config, c.schedule) for time in jump}, reverse=True)


def jump_batches(c: Components, x: Tensor, label: Tensor | None, w: Tensor | None) -> JumpBatches:
    """Batches of jumps along paths: x (K, n, *shape), label and w (n,)."""
    from diffusion_cli.components.students import jumps_for
    from diffusion_cli.distillation import JumpBatches

    given = (jumps_for(c.config, c.schedule), c.schedule, c.objective, c.config["batch_size"], c.seed)
    return JumpBatches(x, times_of(c), label, w, *given)


def kept_paths(
    c: Components, run: RunDirectory, session: Session, total: int
) -> Callable[[slice, Stream], JumpBatches]:
    """So many paths of the teacher, drawn where the run does not hold them yet: (rows, stream) -> batches of jumps."""
    import torch

    lots = drawn_paths(c, run, session, total, times_of(c))
    x = torch.cat([lot["x"] for lot in lots], 1).to(c.device)
    label, w = (
        torch.cat([lot[key] for lot in lots]).to(c.device) if key in lots[0] else None
        for key in ("label", "w")
    )

    def batches(rows: slice, stream: Stream) -> JumpBatches:
        some = (None if given is None else given[rows] for given in (label, w))
        return replace(jump_batches(c, x[:, rows], *some), stream=stream)

    return batches


def drawn_paths(
    c: Components, run: RunDirectory, session: Session, total: int, times: list[float]
) -> list[Facts]:
    """The teacher's paths in lots: x (K, n, *shape) at these times; where there are any label and w, (n,)."""
    from diffusion_cli.noise import ROWS
    from diffusion_cli.runs import checkpoint

    teacher = teacher_of(c)
    made_by = "" if teacher.net is None else checkpoint.digest(teacher.net.state_dict())
    size = ROWS * max(1, min(LOT, c.config["sample_batch"]) // ROWS)
    lots: list[Facts] = []
    with session.bar(total, unit="path") as progress:
        for first in range(0, total, size):
            file, rows = run.paths_file(len(lots)), min(size, total - first)
            try:
                lot = checkpoint.load(file)
            except checkpoint.Damaged:
                lot = {"teacher": made_by, **draw_lot(c, first, rows, times, session.stop.check)}
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
    c: Components, first: int, rows: int, times: list[float], tick: Callable[[], None]
) -> dict[str, Tensor]:
    """One lot of paths, from the path of this number on; a function of the seed, drawn by all processes."""
    import torch

    from diffusion_cli.metrics.progress import NoBar
    from diffusion_cli.noise import Stream, generator

    g = generator(c.seed, Stream.PATHS, first, device=c.device)
    lot: dict[str, Tensor] = {}
    label = c.dataset.draw_labels(rows, g) if c.dataset.num_classes else None
    if label is not None:
        dropped = torch.rand(rows, generator=g, device=c.device) < c.guidance.label_dropout
        lot["label"] = label.masked_fill(dropped, c.dataset.num_classes)
    if c.config["w_max"] is not None:
        lot["w"] = c.config["w_max"] * torch.rand(rows, generator=g, device=c.device)
    numbers = range(first, first + rows)
    work = DrawPaths(numbers, times, lot.get("label"), lot.get("w"))
    drawn = replace(c, tick=tick).each(work, c.pieces(numbers), NoBar())
    return {"x": torch.cat([x.to(c.device) for x in drawn], 1), **lot}


@dataclass(frozen=True)
class DrawPaths:
    """The work of drawing paths of the teacher: x (K, n, *shape) of each of these rows.

    rows: the numbers of all paths.
    times: at which they are kept.
    label, w: of each of them, or None.
    """

    rows: range
    times: list[float]
    label: Tensor | None
    w: Tensor | None

    def __call__(self, c: Components, rows: range, bar: ProgressBar) -> Tensor:
        import torch

        from diffusion_cli.distillation import path_states
        from diffusion_cli.guidance import Extrapolated, Unlabelled
        from diffusion_cli.noise import NoiseStream, Stream

        shape, denoiser = c.dataset.shape, teacher_of(c).unguided
        if not rows:
            return torch.empty(len(self.times), 0, *shape, device=c.device)
        at = slice(rows.start - self.rows.start, rows.stop - self.rows.start)
        label, w = (None if given is None else given[at].to(c.device) for given in (self.label, self.w))
        if w is not None:
            denoiser = Extrapolated(denoiser, Unlabelled(denoiser), w.view(-1, *(1,) * len(shape)))
        x_T = NoiseStream(c.seed, len(rows), shape, c.device, Stream.PATHS, first=rows.start)()
        return path_states(sampler_of_teacher(c), denoiser, x_T, label, self.times, c.tick)
