"""The two-dimensional U-Net: shapes, what its output depends on, its presets, precision and compilation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.blocks2d import (
    ChannelNorm,
    Downsample,
    ResidualBlock,
    SelfAttention,
    Upsample,
    attend,
    from_squares,
    squares,
)
from diffusion_cli.model.unet2d import UNet2d

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = {"width": 8, "features": 16}
PAPER = {"skips": "all", "resample": "conv", "norm": "group", "patch": 1, "middle": 2, "dropout": 0.1}


def network(shape: tuple[int, ...] = (1, 28, 28), num_classes: int = 10, seed: int = 0, **options) -> UNet2d:
    torch.manual_seed(seed)
    return UNet2d(shape, num_classes, **({**SMALL, "zero_init": False} | options))


def awake(net: nn.Module) -> nn.Module:
    """Random numbers for the weights that start as zero, so that every path carries something."""
    torch.manual_seed(1)
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    return net


def preset(name: str, shape: tuple[int, ...], num_classes: int) -> UNet2d:
    options = yaml.safe_load((CONFIGS / "model" / f"{name}.yaml").read_text())
    assert options.pop("_target_") == "diffusion_cli.model.unet2d.UNet2d"
    return UNet2d(shape, num_classes, **options)


def images(net: UNet2d, n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    label = torch.randint(max(net.num_classes, 1), (n,), generator=g)
    return torch.randn(n, *net.shape, generator=g), torch.randn(n, generator=g), label


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 28, 28), {}),
        ((3, 32, 32), {"levels": [1, 2, 2, 2], "blocks": 2, "attention": [8, 4], "heads": 2}),
        ((3, 32, 32), {"levels": [1, 2, 2, 2], "blocks": 2, "attention": [16], **PAPER}),
        ((2, 6, 10), {"levels": [2], "patch": 1, "middle": 0}),
        ((1, 12, 20), {"levels": [1, 1], "skips": "all"}),
        ((1, 28, 28), {"levels": [1, 3], "resample": "conv", "attention": []}),
    ],
)
def test_images_keep_their_shape_and_type(shape: tuple[int, ...], options: dict) -> None:
    net = network(shape, **options)
    x, noise_level, label = images(net)
    assert net(x, noise_level, label).shape == x.shape
    assert net(x, noise_level[:1]).shape == x.shape
    assert net(x, noise_level, label).dtype == torch.float32
    assert network(shape, outputs=2, **options)(x, noise_level, label).shape == (3, 2, *shape)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 30, 30), {}, r"levels=\[1,2\]: each but the first halves the size; images of 30x30 in patches of 2 allow 1 lev"),
        ((1, 28, 30), {}, "images of 28x30 in patches of 2 allow 1"),
        ((1, 28, 28), {"levels": [1, 1, 1, 1], "patch": 1}, "in patches of 1 allow 3 levels at most"),
        ((1, 27, 28), {}, "patch=2: must divide the image's 27x28 pixels; with these levels the nearest size is 28x28"),
        ((2,), {}, "UNet2d needs images of shape"),
        ((1, 28, 28), {"attention": [28]}, "attention=28: no level has maps of this height; .*choose from 14, 7"),
        ((1, 28, 28), {"attention": 7}, "attention=7: must be a list"),
        ((1, 28, 28), {"heads": 3}, "heads=3: must divide the 16 channels of a level"),
        ((1, 28, 28), {"levels": []}, r"levels=\[\]: must be a list"),
        ((1, 28, 28), {"levels": [1, 0]}, r"levels=\[1,0\]: must be a list, each a whole number"),
        ((1, 28, 28), {"norm": "batch"}, "norm=batch"),
        ((1, 28, 28), {"skips": "none"}, "skips=none"),
        ((1, 28, 28), {"resample": "pool"}, "resample=pool"),
        ((1, 28, 28), {"dropout": 1.0}, r"dropout=1.0: must be a number in \[0, 1\)"),
        ((1, 28, 28), {"features": 3}, "features=3"),
        ((1, 28, 28), {"blocks": 0}, "blocks=0"),
        ((1, 28, 28), {"middle": -1}, "middle=-1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(shape: tuple[int, ...], options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        network(shape, **options)


def test_options_may_be_lists_of_the_config() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    net = network(levels=omegaconf.ListConfig([1, 2]), attention=omegaconf.ListConfig([14]))
    assert [type(part).__name__ for part in net.encoder] == ["UNetBlock", "Downsample", "UNetBlock"]


@pytest.mark.parametrize("options", [{}, {"levels": [1, 2], "attention": [28, 14], **PAPER}])
def test_label_and_time_matter_and_no_label_is_none(options: dict) -> None:
    net = awake(network(**options)).eval()
    x, noise_level, label = images(net)
    out = net(x, noise_level, label)
    other = (label + 1) % 10
    none = torch.full_like(label, 10)
    assert (out - net(x, noise_level, other)).abs().amax((1, 2, 3)).min() > 1e-3
    assert (out - net(x, noise_level + 1, label)).abs().amax((1, 2, 3)).min() > 1e-3
    assert (out - net(x, noise_level, none)).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(net(x, noise_level, none), net(x, noise_level, None))
    torch.testing.assert_close(net(x, noise_level[:1], label)[0], out[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="without classes"):
        network(num_classes=0)(x, noise_level, label)
    with pytest.raises(ValueError, match="x has shape"):
        net(x[..., 1:], noise_level, label)


@pytest.mark.parametrize("options", [{}, {"levels": [1, 2], "attention": [28, 14], **PAPER}])
def test_an_images_output_depends_on_no_other_image(options: dict) -> None:
    net = awake(network(**options)).eval()
    x, noise_level, label = images(net)
    together = net(x, noise_level, label)
    for i in range(len(x)):
        alone = net(x[i : i + 1], noise_level[i : i + 1], label[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"levels": [1, 1, 2], "attention": [14, 28], **PAPER}])
def test_every_pixel_reaches_every_other(options: dict) -> None:
    """Through the middle and its attention: the slope of one corner by the other."""
    net = awake(network(**options)).eval()
    x, noise_level, label = images(net, 1)
    x.requires_grad_()
    net(x, noise_level, label)[0, 0, 0, 0].backward()
    assert (x.grad[0, 0] != 0).float().mean() > 0.99


@pytest.mark.parametrize("options", [{}, {"levels": [1, 2], "attention": [28], **PAPER}])
def test_it_starts_as_zero_and_gradients_reach_every_parameter(options: dict) -> None:
    net = network(zero_init=True, **options)
    x, noise_level, label = images(net)
    assert not net(x, noise_level, label).any()
    awake(net)
    net(x, noise_level, label).square().mean().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_presets_have_the_sizes_of_their_comments() -> None:
    sizes = {
        "unet2d": preset("unet2d", (1, 28, 28), 10),
        "unet2d_cifar": preset("unet2d_cifar", (3, 32, 32), 0),
    }
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in sizes.items()}
    assert sizes == {"unet2d": 1_054_596, "unet2d_cifar": 35_822_723}


def test_the_papers_network_has_its_layers() -> None:
    """Ho et al. 2020, appendix B: blocks of each level, attention at 16x16 and in the middle alone."""
    with torch.device("meta"):
        net = preset("unet2d_cifar", (3, 32, 32), 0)
    stages = [m for m in net.modules() if isinstance(m, ResidualBlock)]
    channels = [m.conv2.out_channels for m in stages]
    assert channels == [128] * 2 + [256] * 6 + [256] * 2 + [256] * 9 + [128] * 3
    assert sum(isinstance(m, SelfAttention) for m in net.modules()) == 2 + 1 + 3
    assert {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)} == {32}
    joined = [m.conv1.in_channels for m in stages[-12:]]
    assert joined == [512] * 9 + [256] * 3


def test_it_learns_four_images_by_heart() -> None:
    net = network(shape=(1, 8, 8), num_classes=4, zero_init=True)
    x, noise_level, _ = images(net, 4)
    label, target = torch.arange(4), torch.randn(4, 1, 8, 8)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(x, noise_level, label) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05, loss


@pytest.mark.parametrize("options", [{}, {"levels": [1, 2], "attention": [14], **PAPER, "dropout": 0.0}])
def test_bf16_is_close_to_fp32_and_gives_fp32(options: dict) -> None:
    net = awake(network(width=32, **options))
    x, noise_level, label = images(net, 8)
    exact = net(x, noise_level, label)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x, noise_level, label)
    assert rough.dtype == torch.float32
    assert 1e-5 < (rough - exact).square().mean() / exact.square().mean() < 0.02**2 * 4


def test_compiled_it_is_the_same_network_under_the_same_keys() -> None:
    """By dynamo alone, in one graph: what a backend makes of it is torch's affair."""
    net = awake(network(shape=(1, 8, 8), levels=[1])).eval()
    x, noise_level, label = images(net)
    keys, out = list(net.state_dict()), net(x, noise_level, label)
    net.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(net(x, noise_level, label), out)
    assert list(net.state_dict()) == keys


def test_dropout_acts_in_training_alone() -> None:
    net = awake(network(dropout=0.5))
    x, noise_level, label = images(net)
    assert not torch.equal(net(x, noise_level, label), net(x, noise_level, label))
    net.eval()
    assert torch.equal(net(x, noise_level, label), net(x, noise_level, label))


def test_attention_written_out_is_torchs() -> None:
    q, k, v = torch.randn(3, 2, 4, 9, 8)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attend(q, k, v), fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_resampling_by_squares_is_a_convolution_of_stride_2(memory_format: torch.memory_format) -> None:
    h = torch.randn(2, 8, 6, 10).contiguous(memory_format=memory_format)
    down, up = Downsample(8, 12, "shuffle"), Upsample(8, 12, "shuffle")
    kernel = down.layer.weight.view(12, 2, 2, 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(down(h), F.conv2d(h, kernel, down.layer.bias, 2), rtol=1e-4, atol=1e-5)
    kernel, bias = up.layer.weight.view(2, 2, 12, 8).permute(3, 2, 0, 1), up.layer.bias.view(2, 2, 12)
    doubled = F.conv_transpose2d(h, kernel, None, 2) + bias.permute(2, 0, 1).repeat(1, 6, 10)
    torch.testing.assert_close(up(h), doubled, rtol=1e-4, atol=1e-5)
    assert torch.equal(from_squares(squares(h)), h)
    for kind in ("shuffle", "conv"):
        assert Downsample(8, 12, kind)(h).shape == (2, 12, 3, 5)
        assert Upsample(8, 12, kind)(h).shape == (2, 12, 12, 20)


def test_a_residual_block_is_its_formula_in_value_and_gradient() -> None:
    block, h, context = awake(ResidualBlock(4, 6, 8, "layer")), torch.randn(3, 4, 5, 5), torch.randn(3, 8)

    def formula() -> Tensor:
        scale, shift = block.film(context).view(3, 2, 6, 1, 1).unbind(1)
        normed = F.layer_norm(block.conv1(F.silu(block.norm1(h))).movedim(1, -1), (6,)).movedim(-1, 1)
        return block.skip(h) + block.conv2(F.silu((1 + scale) * normed + shift))

    probe = torch.randn(3, 6, 5, 5)
    found, expected = (
        [out, *torch.autograd.grad((out * probe).sum(), list(block.parameters()))]
        for out in (block(h, context), formula())
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_channel_norm_is_a_layer_norm_of_each_pixel() -> None:
    norm, h = ChannelNorm(6), torch.randn(2, 6, 3, 4) * 5 + 2
    out = norm(h)
    assert out.mean(1).abs().max() < 1e-5
    torch.testing.assert_close(out.var(1, correction=0), torch.ones(2, 3, 4), rtol=1e-3, atol=1e-3)
