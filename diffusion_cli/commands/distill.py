"""`diffusion distill`: a student that makes in a few calls the way for which its teacher needs many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_cli.commands import train
from diffusion_cli.commands.lesson import Lesson
from diffusion_cli.commands.paths import held_out, jump_batches, kept_paths, teacher_of, times_of
from diffusion_cli.errors import UserError
from diffusion_cli.options.groups import EXACT
from diffusion_cli.ranges import Config
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.results import value_of
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.batches import BatchSource
    from diffusion_cli.components import Components
    from diffusion_cli.trainer import TrainState


def check(config: Config, directory: str | None) -> None:
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


def main(config: Config, run: RunDirectory, session: Session) -> float | None:
    train.train_run(config, run, session, lesson_of(config))
    return value_of(run, config["optimize"])


def lesson_of(config: Config) -> Lesson:
    """What is trained by the config's `method`."""
    return AlongPaths() if config["method"] == "paths" else ByHalving()


class Distillation(Lesson):
    """What `diffusion distill` trains: a student, whose teacher is a run or the exact denoiser."""

    def components(self, config: Config) -> Components:
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
        paths, first = kept_paths(c, run, session, total), held_out(total)
        trained = replace(paths(slice(first, None), Stream.TRAINING), shards=c.config["shards"])
        return trained, paths(slice(first), Stream.SCORE)

    def followed(self, c: Components, state: TrainState) -> BatchSource:
        import torch

        total, device = c.config["trajectories"], c.device
        n, times = total - held_out(total), times_of(c)
        x = torch.empty(len(times), n, *c.dataset.shape, device=device)
        label = torch.empty(n, dtype=torch.int64, device=device) if c.dataset.num_classes else None
        w = None if c.config["w_max"] is None else torch.empty(n, device=device)
        return replace(jump_batches(c, x, label, w), shards=c.config["shards"])


class ByHalving(Distillation):
    """Jumps over two steps of the round before's student, which is kept when its round ends; and a few of the teacher's
    paths to compare checkpoints by."""

    def batches(
        self, c: Components, state: TrainState, run: RunDirectory, session: Session
    ) -> tuple[BatchSource, BatchSource]:
        from diffusion_cli.noise import Stream

        paths = kept_paths(c, run, session, held_out(c.config["trajectories"]))
        return halving(c, state, run), paths(slice(None), Stream.SCORE)

    def followed(self, c: Components, state: TrainState) -> BatchSource:
        return halving(c, state)


def halving(c: Components, state: TrainState, run: RunDirectory | None = None) -> BatchSource:
    """Batches whose teacher is in each round the student of the round before.

    run: of process 0, where these students are kept, from which the others get them.
    """
    from diffusion_cli.components.students import student_of
    from diffusion_cli.denoiser import Denoiser, Jump
    from diffusion_cli.distillation import HalvingBatches
    from diffusion_cli.runs import checkpoint

    config, first = c.config, teacher_of(c).unguided
    made: dict[int, Denoiser] = {0: first}

    def teacher(number: int, jumps: Sequence[Jump]) -> Denoiser:
        if number not in made:
            net = c.new_net()
            if run is not None:
                file = run.round_file(number)
                try:
                    net.load_state_dict(checkpoint.load(file))
                except checkpoint.Damaged:
                    net.load_state_dict(state.ema.state_dict())
                    checkpoint.save(file, net.state_dict())
            # all processes come here in the same step
            c.group.equalize(net.state_dict().values())
            made[number] = student_of(c.network_denoiser(net.eval()), first, jumps)
        return made[number]

    return HalvingBatches(c.batches, config["calls"], config["rounds"], config["steps"], teacher)
