"""Why samples look wrong: what is exactly known of a run, each as one number with the bound that it should keep."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.dataset.box import Box
from diffusion_cli.guidance import ClassifierFree
from diffusion_cli.prediction import Eps
from diffusion_cli.sampler import Multistep, Sampler
from diffusion_cli.schedule import PURE_NOISE, Schedule

# Standard deviation of the data, for which networks and schedules are made.
SPREAD = 0.2, 3.0
# How far a network leads a sample off, in standard deviations of x_t; a well trained one 0.02 to 0.1. Above, one sees it.
MOST_ERROR = 0.15
# Loss of the averaged weights over that of the last ones.
WORST_AVERAGE = 1.2
# 1/alpha_T from which the errors of eps throw single samples far out.
AMPLIFIED = 30
# Fraction of samples outside of the data's range.
MOST_OUTLIERS = 1e-3
# Network calls that a sampler of first order, and one of a higher order, needs.
FEW_STEPS = {1: 20, 2: 8}


class Finding(NamedTuple):
    """what: was looked at. value: found there, with its unit. well: whether it is as it should be. change: if not, what
    mends it."""

    what: str
    value: str
    well: bool
    change: str

    def __str__(self) -> str:
        return f"{'well' if self.well else 'LOOK'}  {self.what}: {self.value}" + (
            "" if self.well else f"\n      {self.change}"
        )


def end_of_schedule(schedule: Schedule) -> Finding:
    """Whether x_T is noise: alpha_T is what it still holds of the data."""
    alpha = float(schedule.alpha_bar[-1].sqrt())
    return Finding(
        "x_T is noise", f"alpha_T = {alpha:.3g}", alpha**2 <= PURE_NOISE,
        f"sampling starts from noise, but training ends at {alpha:.0%} of the data: a schedule that goes further "
        "(schedule=loglinear, cosine), or a larger schedule.T",
    )  # fmt: skip


def scale_of_data(x0: Tensor) -> Finding:
    """Whether the data have about unit spread. x0: (n, *shape), as the network sees them."""
    spread = float(x0.std())
    return Finding(
        "scale of the data", f"standard deviation {spread:.3g}", SPREAD[0] <= spread <= SPREAD[1],
        "networks and noise levels are made for a standard deviation of about 1: dataset.standardize=true, or scale the file",
    )  # fmt: skip


def error_of_network(errors: dict[float, float], coordinates: int) -> Finding:
    """How far the network leads a sample off its way, and where. errors: sigma/alpha, falling -> E|v - v_exact|^2 there.

    A deterministic step from t to s turns (x0, eps) by the angle between atan(sigma/alpha) at t and at s, and so an error of
    v comes into x_s times the sine of that angle. Errors of x0 or eps alone would blame noise levels at which they do no
    harm: x0 where nearly all is noise, eps where nearly nothing is.
    """
    levels = [*errors, 0.0]
    angles = [math.atan(level) for level in levels]
    parts = {
        level: math.sqrt(errors[level] / coordinates) * (angles[k] - angles[k + 1])
        for k, level in enumerate(errors)
    }
    worst, total = max(parts, key=lambda level: parts[level]), sum(parts.values())
    return Finding(
        "error of the network", f"leads a sample {total:.2g} off its way to the data, most at sigma/alpha = {worst:.2g}",
        total <= MOST_ERROR,
        "it has not learned this noise level: more steps, a smaller optimizer.lr, or times that visit it more often "
        "(objective.times)",
    )  # fmt: skip


def average(loss_of_average: float, loss_of_last: float) -> Finding:
    """Whether the averaged weights, by which samples are drawn, have come as far as the last ones."""
    ratio = loss_of_average / loss_of_last if loss_of_last > 0 else math.inf
    return Finding(
        "averaged weights", f"{ratio:.3g} times the loss of the last ones", ratio <= WORST_AVERAGE,
        "the average still holds weights of the beginning: a smaller ema.decay, or more steps",
    )  # fmt: skip


def amplified_errors(schedule: Schedule, sampler: Sampler, parameterization: object) -> Finding:
    """Whether errors of eps are thrown far out: x0 = (x_T - sigma_T eps) / alpha_T, not clipped.

    Of 4,000 samples of a circle with the cosine schedule, T = 50, DDIM threw 46 out, DDPM 5, DPM-Solver++ in ten steps 900; with
    the linear schedule DDIM 2.
    """
    factor = float(schedule.alpha_bar[-1]) ** -0.5
    bad = isinstance(parameterization, Eps) and sampler.clip is None and factor > AMPLIFIED
    return Finding(
        "errors at T", f"count 1/alpha_T = {factor:.0f} times in x0" + ("" if bad else ", which does no harm here"), not bad,
        "eps is predicted, and x0 is not clipped: sampler.clip=data keeps it in the range of the data",
    )  # fmt: skip


def out_of_range(x0: Tensor, box: Box) -> Finding:
    """Samples outside of the data's range. x0: (n, *shape). box: of the data."""
    fraction = box.outliers(x0)
    return Finding(
        "samples outside of the data's range", f"{fraction:.2%}", fraction <= MOST_OUTLIERS,
        "sampler.clip=data, or more training steps",
    )  # fmt: skip


def guidance(guidance: object, label_dropout: float) -> Finding | None:
    """Whether what guidance needs has been trained; None where there is no guidance."""
    if not isinstance(guidance, ClassifierFree) or not guidance.w:
        return None
    return Finding(
        "label dropout", f"{label_dropout:g}, with guidance of weight {guidance.w:g}", label_dropout > 0,
        "the network has never seen 'no label', from which guidance moves away: train with guidance.label_dropout=0.1",
    )  # fmt: skip


def steps(sampler: Sampler, T: int) -> Finding:
    """Whether the sampler has steps enough for its order."""
    order = 2 if isinstance(sampler, Multistep) and sampler.order > 1 else 1
    n = sampler.steps or T
    return Finding(
        "steps of the sampler", f"{n} of T = {T}, order {order}", n >= FEW_STEPS[order],
        f"{FEW_STEPS[order]} at least: sampler.steps=null takes all, sampler=dpmpp needs fewer",
    )  # fmt: skip


def finite(x0: Tensor) -> Finding:
    """Whether every sample is a number."""
    bad = float((~torch.isfinite(x0)).flatten(1).any(1).double().mean())
    return Finding(
        "samples are finite", f"{1 - bad:.2%}", bad == 0, "a smaller optimizer.lr, optimizer.clip=1"
    )
