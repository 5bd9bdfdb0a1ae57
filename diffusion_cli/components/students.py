"""A student: the network of a distillation as a denoiser, and the jumps that it makes."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_cli.denoiser import Denoiser, Jump, NetworkDenoiser, Student
from diffusion_cli.distillation import jumps_of
from diffusion_cli.errors import UserError
from diffusion_cli.guidance import ClassifierFree, Guidance, Unguided
from diffusion_cli.ranges import Config
from diffusion_cli.sampler import DDIM, Sampler
from diffusion_cli.schedule import Schedule


def jumps_for(config: Config, schedule: Schedule) -> list[Jump]:
    """Those of a student of so many calls (config `calls`), of half as many, and so on down to one."""
    calls = config["calls"]
    counts = [n for n in (1, 2, 4) if n == calls or (n < calls and config["method"] == "paths")]
    return jumps_of([DDIM(steps=count).times(schedule) for count in counts])


def student_of(
    plain: NetworkDenoiser, teacher: Denoiser, jumps: Sequence[Jump], w: float | None = None
) -> Student:
    """A network that has learned these jumps. plain: the network as a denoiser."""
    given = plain.net, plain.parameterization, plain.schedule, plain.precision
    return Student(*given, teacher, jumps, w)


def learned_weight(w_max: float | None, guidance: Guidance, sampler: Sampler) -> float | None:
    """The guidance weight that a student is given as an input; None for one that has learned none (config `w_max`).

    UserError for a guidance or a sampler that it has not learned.
    """
    if not isinstance(sampler, DDIM) or sampler.eta:
        raise UserError("sampler", ..., "a student makes its own jumps, by sampler=ddim alone")
    w = 0.0
    if isinstance(guidance, ClassifierFree) and w_max is not None:
        w = guidance.w
        if guidance.between is not None:
            reason = "a student has learned guidance at all noise levels alone"
            raise UserError("guidance.between", guidance.between, reason)
    elif not isinstance(guidance, Unguided):
        reason = "this student has learned none; one that is distilled with w_max=3 takes guidance=cfg"
        raise UserError("guidance", ..., reason)
    if w_max is None:
        return None
    if not 0 <= w <= w_max:
        raise UserError("guidance.w", w, f"this student has learned weights from 0 to {w_max:g}")
    return w
