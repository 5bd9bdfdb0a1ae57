"""The keys of the commands: what a run is beside its components, and what sample, evaluate and plot may say anew.

A class for each command and for each section of keys, read as constructors are (see `signature`): nothing here is
built. A section of a command is an argument whose annotation is the name of a class.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from diffusion_cli.options.browsing import POSITIONAL, List, Runs  # noqa: F401
from diffusion_cli.options.signature import Argument, Signature, read
from diffusion_cli.ranges import (
    BelowOne,
    Class,
    Config,
    Count,
    Depth,
    Device,
    Many,
    MaskFile,
    NonNegative,
    Positive,
    Several,
    Steps,
    Whole,
)

SECTIONS = {
    **{name: f"{__name__}.{name}" for name in ("Average", "Checkpoints", "Stages", "Monitor")},
    "Repaint": "diffusion_cli.inpainting.Inpainting",
}


@dataclass(kw_only=True)
class Average:
    """The averaged weights, which sampling uses.

    decay: of the exponential average of the weights after each step; 0 takes the last weights themselves.
    """

    decay: BelowOne = 0.99


@dataclass(kw_only=True)
class Checkpoints:
    """When the state of training is kept.

    every: steps (of epochs=N: epochs) between checkpoints.
    keep: newest checkpoints that stay, beside the best one.
    """

    every: Count = 1000
    keep: Count = 3


@dataclass(kw_only=True)
class Stages:
    """Samples drawn during training, always from the same noise.

    every: steps (of epochs=N: epochs) between stages; 0 or null: none.
    n: samples of a stage.
    """

    every: Whole | None = 1000
    n: Many = 2000


@dataclass(kw_only=True)
class Monitor:
    """The evaluation repeated during training, into evaluations.csv.

    every: steps between evaluations; 0 or null: none. What they cost is said after the first.
    n: samples of one evaluation, drawn once.
    steps: of the sampler; null: as many as at the end.
    """

    every: Whole | None = 0
    n: Several = 256
    steps: Steps | None = None


@dataclass(kw_only=True)
class Machine:
    """seed: of all random numbers.
    device: where the network runs; auto takes a GPU where there is one, and for points the CPU, which is quicker.
    threads: of torch on the CPU; null: torch's choice. More than one pays for images only, and disturbs other jobs.
    """

    seed: Whole = 0
    device: Device = "auto"
    threads: Depth | None = 1


@dataclass(kw_only=True)
class Train(Machine):
    """Fit a network to a dataset, then sample, draw and evaluate it.

    precision: of the network alone; auto: bf16 where that is quicker.
    compile: torch.compile the network in training: minutes before the first step, for a GPU.
    steps: of training; null where epochs say it.
    epochs: of finite data, instead of steps: so many times as many steps as draw the size of the data; checkpoint.every
        and stages.every then count epochs; null: steps say it.
    processes: that train together, on one machine; null: those that torchrun or srun has started, else one.
    shards: parts of a batch with random numbers of their own, a multiple of the processes. Runs with as many have the same
        bits, whatever the number of processes; null: one for each process.
    reduce: how the gradients of the shards are added: exact, in their order, or sum, in less memory, whose last bits depend
        on the number of processes.
    batch_size: samples of a training step, of all processes together.
    ema: the averaged weights, which sampling uses.
    log_every: steps between rows of metrics.csv.
    loss_levels: rising edges of sigma/alpha between which the loss has columns of its own; null: none.
    checkpoint: when the state of training is kept.
    stages: samples drawn during training.
    monitor: the evaluation repeated during training.
    n: samples drawn at the end.
    sample_batch: samples that go through the network at once.
    plots: false: no figures at the end, and unless `evaluate` says otherwise no samples and metrics either.
    evaluate: whether samples are measured at the end; null: as plots.
    resume: true: continue the run in hydra.run.dir, if one is there; in a sweep, the newest of the same line.
    init: a run whose averaged weights the network starts from; null: random ones.
    like: a run whose configuration is taken, but for what the line says; null: none.
    init_weights: of that run: last, best or the STEP of a checkpoint.
    max_minutes: after so many minutes of training the run is saved and left, as by an interrupt; null: no limit.
    optimize: the number of summary.json that a search minimises or maximises, such as metrics.sliced_w2.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    steps: Count | None = 8000
    epochs: Count | None = None
    processes: Count | None = None
    shards: Count | None = None
    reduce: Literal["exact", "sum"] = "exact"
    batch_size: Many = 256
    ema: Average
    log_every: Count = 50
    loss_levels: Sequence[Positive] | None = None
    checkpoint: Checkpoints
    stages: Stages
    monitor: Monitor
    n: Many = 5000
    sample_batch: Many = 10000
    plots: bool = True
    evaluate: bool | None = None
    resume: bool = False
    init: str | None = None
    like: str | None = None
    init_weights: Literal["last", "best"] | Count = "last"
    max_minutes: Positive | None = None
    optimize: str | None = None


@dataclass(kw_only=True)
class OfRun:
    """run: a trained run: its directory, latest (the newest finished one), or exact (no network: the exact denoiser of
        dataset=...).
    weights: last, best (by the loss on fixed batches) or the STEP of a checkpoint.
    label: a class by its number or name, a list of them, none (no class: what label dropout teaches), or null: as in the data.
    seed: of all random numbers; the run's own if not given.
    device: where the network runs; the run's own if not given.
    threads: of torch on the CPU; the run's own if not given.
    sample_batch: samples that go through the network at once; the run's own if not given.
    """

    run: str = "latest"
    weights: Literal["last", "best"] | Count = "last"
    label: Class | Sequence[Class] | None = None
    seed: Whole = 0
    device: Device = "auto"
    threads: Depth | None = 1
    sample_batch: Many = 10000


@dataclass(kw_only=True)
class Distill(Train):
    """Teach a student to sample in one call, or a few, what its teacher samples in many.

    run: the teacher: a trained run's directory, latest (the newest finished one), or exact (the exact denoiser of dataset=...).
    run_weights: of the teacher: last, best (by the loss on fixed batches) or the STEP of a checkpoint.
    method: paths or progressive. paths: regression on the teacher's whole ways. progressive: two steps of the teacher at
        once, then two of its own, and so on, halving their number in each of `rounds` rounds (Salimans & Ho 2022).
    calls: network calls of a sample; a student of paths serves half as many, too, down to one.
    rounds: of method=progressive.
    trajectories: ways of the teacher from noise to data, which are drawn once and kept in the run's directory.
    trajectory_steps: calls of the teacher for each trajectory.
    w_max: the student takes the weight of classifier-free guidance as an input, from 0 to this; null: no guidance.
    """

    run: str = "latest"
    run_weights: Literal["last", "best"] | Count = "last"
    method: Literal["paths", "progressive"] = "paths"
    calls: Literal[1, 2, 4] = 2
    rounds: Literal[1, 2, 3, 4, 5, 6, 7, 8] = 5
    trajectories: Many = 131072
    trajectory_steps: Steps = 32
    w_max: NonNegative | None = None


class Repaint:
    """How the unknown pixels are made to fit: the arguments of inpainting.Inpainting."""


@dataclass(kw_only=True)
class Masked(OfRun):
    """n: samples; the run's own number if not given.
    inpaint: the pixels that are known of held-out data, which the samples complete: a shape, or a file that is white
        (or true) where they are; null: no in-painting.
    image: a picture of your own that is completed in place of held-out ones, or a list of them; null: n held-out ones.
    completions: samples for each of the examples.
    repaint: how the unknown pixels are made to fit.
    """

    n: Many = 5000
    inpaint: Literal["left_half", "right_half", "box", "random"] | MaskFile | None = None
    image: str | Sequence[str] | None = None
    completions: Count = 1
    repaint: Repaint


@dataclass(kw_only=True)
class Sample(Masked):
    """Draw samples from a trained run.

    images: png: also a file for each sample, images/00000.png and so on, and images.png, a grid of the first 64; null: none.
    export: true: also weights.safetensors, the weights that the samples are of.
    plots: false: no figures.
    processes: that draw samples together, on one machine; null: those that torchrun or srun has started, else one.
    """

    images: Literal["png"] | None = None
    export: bool = False
    plots: bool = True
    processes: Count | None = None


@dataclass(kw_only=True)
class Evaluate(OfRun):
    """Measure how far the samples of a run are from the truth.

    processes: that draw and measure samples together, on one machine; null: those that torchrun or srun has started, else one.
    """

    processes: Count | None = None


@dataclass(kw_only=True)
class Doctor(OfRun):
    """Say why the samples of a run look wrong, and what to change."""


@dataclass(kw_only=True)
class Plot(Masked):
    """Draw one figure, of a run or of a dataset and a schedule alone.

    sweep: for figures of many runs: a sweep, or any folder of runs.
    runs: or a list of runs.
    x: the swept key along the axis.
    y: the number of summary.json to show: loss, metrics.sliced_w2, metrics.sliced_w2.ratio, ...
    hue: the key, or list of keys, that tells the lines (or rows) from each other.
    """

    sweep: str | None = None
    runs: Sequence[str] | None = None
    x: str | None = None
    y: str | None = None
    hue: str | Sequence[str] | None = None


@dataclass(kw_only=True)
class OfClassifier:
    """run: a run of objective=classifier, or exact for a mixture's own posterior."""

    run: str


@dataclass(kw_only=True)
class OfWeak:
    """run: a run of the same data, smaller or trained for less.
    weights: of that run: last, best (by the loss on fixed batches) or the STEP of a checkpoint.
    """

    run: str
    weights: Literal["last", "best"] | Count = "last"


# Arguments of a guidance that are made of a run -> the keys that name it.
OF_RUNS = {"classifier": f"{__name__}.OfClassifier", "weak": f"{__name__}.OfWeak"}
COMPOSED = ("train", "distill", "sample", "evaluate", "plot", "doctor")  # whose configuration Hydra composes
COMMANDS = (*COMPOSED, *POSITIONAL)


def signature_of_command(command: str) -> Signature:
    signature = read(f"{__name__}.{command.capitalize()}")
    assert signature is not None
    return signature


@functools.cache
def keys_of(command: str) -> dict[str, Argument | dict[str, Argument]]:
    """The keys of a command: name -> argument, or for a section its arguments."""
    found: dict[str, Argument | dict[str, Argument]] = {}
    for name, argument in signature_of_command(command).arguments.items():
        found[name] = argument
        section = read(SECTIONS[argument.annotation]) if argument.annotation in SECTIONS else None
        if section is not None:
            found[name] = {k: a for k, a in section.arguments.items() if a.range is not None and k != "batch"}
    return found


def defaults_of(command: str) -> Config:
    """The keys of a command with their defaults, nested."""
    return {
        name: {key: item.default for key, item in entry.items()} if isinstance(entry, dict) else entry.default
        for name, entry in keys_of(command).items()
    }
