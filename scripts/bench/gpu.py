"""Training and sampling on a GPU, in float32 and in bfloat16, by the components that `diffusion train` would build.

Of each: images (or points) a second in training and in sampling by 20 steps of DPM-Solver++, the work done in a second (three
times that of a forward pass, torch.utils.flop_counter), and the largest memory. Float32 has torch's own settings, by which
convolutions run in TensorFloat-32. With `compile` the network is compiled, as compile=true does it. The limit is a product of
two matrices of 8,192 x 8,192 numbers in bfloat16. Some rows are of the CPU beside it, as `--threads` says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.turns import heading, row
from diffusion_cli.cli.calls import compose
from diffusion_cli.commands.lesson import new_state, steps_of
from diffusion_cli.components import Components, build
from diffusion_cli.runs.processes import settled
from diffusion_cli.sampler import Multistep, chain

WARM, STEPS = 15, 60
PICTURES = 2000  # random ones, of the size of CIFAR-10's
SAMPLES = 20  # steps
POINTS = "dataset=circle"
SETS = "dataset=stars dataset.n=200"
DIGITS = "dataset=mnist dataset.source=bundled"
COLOUR = "dataset=image_arrays dataset.path={file} model=unet2d_cifar"
WORK = (
    ("circle", POINTS, 256),
    ("circle", POINTS, 16384),
    ("stars", SETS, 6),
    ("stars", SETS, 64),
    ("digits", DIGITS, 64),
    ("digits", DIGITS, 1024),
    ("32 x 32 colour, unet2d_cifar", COLOUR, 128),
)
ON_CPU = (("circle", POINTS, 256), ("stars", SETS, 6), ("digits", DIGITS, 64))
COMPILED = (("digits", DIGITS, 1024), ("32 x 32 colour, unet2d_cifar", COLOUR, 128))


def seconds(action: Callable[[], object]) -> float:
    """Of the clock, until the GPU has done it."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def components_of(line: str, batch: int, device: str, precision: str, compiled: bool) -> Components:
    words = (
        *line.split(),
        f"batch_size={batch}",
        f"precision={precision}",
        f"device={device}",
        f"steps={WARM + STEPS}",
    )
    return build(settled(compose("train", [*words, f"compile={str(compiled).lower()}"])))


def measure(name: str, line: str, batch: int, device: str, precision: str, compiled: bool = False) -> None:
    """A row of the table."""
    components = components_of(line, batch, device, precision, compiled)
    torch.cuda.reset_peak_memory_stats()
    state = new_state(components)
    training = steps_of(components, state, components.batches)
    first = seconds(lambda: [next(training) for _ in range(WARM)])
    step = seconds(lambda: [*training]) / STEPS
    memory = torch.cuda.max_memory_allocated() / 2**30

    drawn = replace(components, net=state.ema.eval())
    shape, label = components.dataset.shape, drawn.labels(batch)
    sampler = Multistep(steps=SAMPLES)

    def sample() -> None:
        for _ in chain(sampler, drawn.denoiser, batch, shape, 0, label, components.device):
            pass

    sample()
    drawing = seconds(sample)
    x, level = (torch.zeros(*size, device=device) for size in ((batch, *shape), (1,)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        drawn.net(x, level, label)
    how = ("" if device == "cuda" else "CPU, ") + precision + ", compiled" * compiled
    work = 3 * counter.get_total_flops() / step / 1e12
    row(name, f"{batch:,}", how, f"{1000 * step:.2f} ms", f"{batch / step:,.0f}", f"{work:.3g}",
        f"{batch / drawing:,.0f}", f"{memory:.2f} GB", f"{first:.1f} s")  # fmt: skip


def main(threads: int, rounds: int) -> None:
    if not torch.cuda.is_available():
        print("There is no CUDA device here.")
        return
    x = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    x @ x
    limit = 2 * 8192**3 / seconds(lambda: [x @ x for _ in range(20)]) * 20 / 1e12
    print(f"{torch.cuda.get_device_name()}; a product of matrices in bfloat16: {limit:,.0f} TFLOP/s.\n")
    heading(
        "",
        "batch",
        "precision",
        "step",
        "trained a second",
        "TFLOP/s",
        "drawn a second",
        "memory",
        f"first {WARM} steps",
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pictures.npy")
        np.save(file, np.random.default_rng(0).integers(0, 256, (PICTURES, 32, 32, 3), np.uint8))
        for name, line, batch in WORK:
            for precision in ("fp32", "bf16"):
                measure(name, line.format(file=file), batch, "cuda", precision)
        for name, line, batch in ON_CPU:
            measure(name, line, batch, "cpu", "auto")
        for name, line, batch in COMPILED:
            measure(name, line.format(file=file), batch, "cuda", "bf16", compiled=True)
