"""A training step of the U-Net for digits, beside the U-Nets that people take: floating-point work per second.

Each network has about a million parameters and is trained on 28 x 28 grey images: forward, backward, AdamW (ours by
our optimizer, as `diffusion train` does it; a rival by torch's fused one). Each is first timed in fp32 and in bf16
autocast, with its memory in either order, and goes on in what is best for it. Reported are the medians of images per
second, and of the work done in a second: images per second x the floating-point operations of one image
(torch.utils.flop_counter), which is what compares networks of unlike sizes. The limit is a 3x3 convolution alone, forward
and backward, in bfloat16 where the processor multiplies in it.

Rivals that are not installed are left out: diffusers, denoising-diffusion-pytorch (which wants torchvision).
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.turns import Turns, heading, row, take_turns
from diffusion_cli.device import cpu_multiplies_bf16
from diffusion_cli.model.unet2d import UNet2d
from diffusion_cli.optimizer import Flat, Optimizer

SHAPE = (1, 28, 28)


@dataclass
class Setting:
    """How a network runs: the type of autocast, and where the channels lie in memory."""

    bf16: bool
    channels_last: bool

    def __str__(self) -> str:
        return ("bf16" if self.bf16 else "fp32") + (", channels last" if self.channels_last else "")


class Side:
    """One network in training on random images: `step()` is one update."""

    def __init__(self, name: str, net: nn.Module, call: Callable[..., Tensor], batch: int):
        self.name, self.net, self.call = name, net, call
        self.x, self.t = torch.randn(batch, *SHAPE), torch.randint(1000, (batch,))
        self.optimizer = torch.optim.AdamW(net.parameters(), fused=True)
        self.setting = Setting(False, False)
        self.parameters = sum(p.numel() for p in net.parameters())

    def use(self, setting: Setting) -> None:
        self.setting = setting
        order = torch.channels_last if setting.channels_last else torch.contiguous_format
        self.net.to(memory_format=order)
        self.x = self.x.contiguous(memory_format=order)
        self.prepare()

    def prepare(self) -> None:
        """An optimizer for the weights as they now lie in memory."""
        self.optimizer = torch.optim.AdamW(self.net.parameters(), fused=True)

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, rows: int) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16) if self.setting.bf16 else nullcontext():
            out = self.call(self.net, self.x[:rows], self.t[:rows])
        return (out.float() - self.x[:rows]).square().mean()

    def step(self) -> None:
        self.loss(len(self.x)).backward()
        self.update()

    def flops(self) -> int:
        """Floating-point operations of forward and backward pass of one image, attention included."""
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self.loss(1).backward()
        self.net.zero_grad()
        return counter.get_total_flops()


class OurSide(Side):
    """With our own optimizer: all weights are one vector."""

    def prepare(self) -> None:
        self.adam = Optimizer(kind="adamw", clip=None).build(Flat(self.net.parameters()))

    def update(self) -> None:
        self.adam.step(lr=1e-3)


def ours(batch: int) -> Side:
    """The preset unet2d, with labels; it is given the noise level where the others are given the time."""
    label = torch.randint(10, (batch,))
    return OurSide(
        "diffusion_cli", UNet2d(SHAPE, 10), lambda net, x, t: net(x, t / 1000, label[: len(x)]), batch
    )


def diffusers(batch: int) -> Side:
    from diffusers import UNet2DModel

    net = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    return Side("diffusers UNet2DModel", net, lambda net, x, t: net(x, t).sample, batch)


def lucidrains(batch: int) -> Side:
    from denoising_diffusion_pytorch import Unet

    net = Unet(dim=20, dim_mults=(1, 2, 4), channels=1)
    return Side("denoising-diffusion-pytorch Unet", net, lambda net, x, t: net(x, t), batch)


RIVALS = {"diffusers": diffusers, "denoising_diffusion_pytorch": lucidrains}


def settle(side: Side, threads: int) -> None:
    """Leaves the side in the quickest of its four settings."""
    best = {}
    for bf16, last in itertools.product((False, True), repeat=2):
        side.use(Setting(bf16, last))
        best[bf16, last] = min(take_turns({"": side.step}, 2, 1, threads).of[""])
    side.use(Setting(*min(best, key=best.__getitem__)))


def convolution(batch: int) -> tuple[Callable[[], object], float]:
    """A 3x3 convolution of 64 channels on maps of 14 x 14 pixels with its backward pass, and its operations."""
    dtype = torch.bfloat16 if cpu_multiplies_bf16() else torch.float32
    layer = nn.Conv2d(64, 64, 3, padding=1).to(dtype=dtype, memory_format=torch.channels_last)
    x = torch.randn(batch, 64, 14, 14, dtype=dtype, requires_grad=True)
    x = x.contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(x)
    return lambda: torch.autograd.grad(layer(x), (x, *layer.parameters()), gradient), 6 * x.numel() * 64 * 9


def main(threads: int, rounds: int, batch: int = 64) -> None:
    sides = [ours(batch)]
    for module, make in RIVALS.items():
        if importlib.util.find_spec(module):
            sides.append(make(batch))
        else:
            print(f"{module} is not installed, and left out.\n")
    work = {side.name: side.flops() for side in sides}
    for side in sides:
        settle(side, threads)
    alone, operations = convolution(batch)
    turns = take_turns({side.name: side.step for side in sides} | {"": alone}, rounds, 1, threads)

    heading(
        "", "parameters", "GFLOP an image", "images/s", "GFLOP/s", "ours / it (quartiles)", "quickest setting"
    )
    mine = sides[0].name
    scaled = Turns({side.name: [t / work[side.name] for t in turns.of[side.name]] for side in sides})
    for side in sides:
        rate, flops = batch / turns.seconds(side.name), work[side.name]
        row(side.name, f"{side.parameters:,}", f"{flops / 1e9:.3f}", f"{rate:,.0f}", f"{rate * flops / 1e9:,.0f}",
            scaled.ratio(side.name, mine), str(side.setting))  # fmt: skip
    row("3x3 convolution alone", "", "", "", f"{operations / turns.seconds('') / 1e9:,.0f}", "", "")
