"""The one-dimensional U-Net: the course's layers for two pixels, and longer signals."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.unet1d import UNet1d


def test_two_pixels_have_the_courses_layers() -> None:
    net = UNet1d((2,), channels=[32, 64])
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d, nn.GroupNorm))]
    found = [
        (type(m).__name__, *((m.num_groups,) if isinstance(m, nn.GroupNorm) else m.kernel_size))
        for m in layers
    ]
    assert found == [
        ("Conv1d", 2), ("GroupNorm", 4),
        ("Conv1d", 1), ("GroupNorm", 32),
        ("ConvTranspose1d", 1), ("GroupNorm", 4),
        ("ConvTranspose1d", 2),
    ]  # fmt: skip


def test_two_pixels_are_the_formula_of_the_docstring() -> None:
    torch.manual_seed(0)
    net = UNet1d((2,), num_classes=2, channels=[32, 64], features=16, zero_init=False)
    x, noise_level, label = torch.randn(4, 2), torch.randn(4), torch.tensor([0, 1, 2, 1])
    fourier, linear = net.context.from_noise_level
    frequency = fourier.frequency[:8]
    waves = torch.cat(
        [(noise_level[:, None] * frequency).sin(), (noise_level[:, None] * frequency).cos()], dim=1
    )
    context = F.silu(linear(waves) + F.one_hot(label, 3).float() @ net.context.from_label.weight)
    (first, second), (third,) = net.encoder, net.decoder
    # on one pixel, a convolution and a transposed one are matrices
    h0 = x @ first.conv.weight[:, 0].T + first.dense(context)
    h0 = F.silu(F.group_norm(h0, 4, first.norm.weight, first.norm.bias))
    h1 = h0 @ second.conv.weight[..., 0].T + second.dense(context)
    h1 = F.silu(F.group_norm(h1, 32, second.norm.weight, second.norm.bias))
    h = h1 @ third.conv.weight[..., 0] + third.dense(context)
    h = F.silu(F.group_norm(h, 4, third.norm.weight, third.norm.bias))
    out = torch.cat([h, h0], dim=1) @ net.head.weight[:, 0] + net.head.bias
    torch.testing.assert_close(net(x, noise_level, label), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [2, 3, 4, 5, 8, 13, 32, 33])
def test_any_length_and_every_pixel_reaches_every_other(length: int) -> None:
    torch.manual_seed(0)
    net = UNet1d((length,), zero_init=False).double()
    x, noise_level = torch.randn(1, length, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(lambda x: net(x, noise_level), x).view(length, length)
    assert (slope != 0).all()


def test_channels_may_be_a_list_of_the_config() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    net = UNet1d((2,), channels=omegaconf.ListConfig([8, 64, 64]))
    assert [level.conv.out_channels for level in net.encoder] == [8, 64, 64]


@pytest.mark.parametrize("shape", [(1,), (8, 2), (3, 28, 28)])
def test_what_is_no_signal_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="UNet1d needs signals"):
        UNet1d(shape)
