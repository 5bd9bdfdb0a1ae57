"""What every network promises: net(x, noise_level, label) -> like x, whatever is inside."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.dit import DiT
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.network import as_network
from diffusion_cli.model.set import SetNet
from diffusion_cli.model.unet1d import UNet1d

CLASSES, BATCH = 3, 5
NETS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "mlp": (MLP, (2,)),
    "mlp-of-images": (partial(MLP, activation="gelu", time_embedding="sinusoidal"), (1, 4, 4)),
    "mlp-relu-plain": (partial(MLP, activation="relu", x_embedding="none", time_embedding="none"), (1,)),
    "mlp-fourier": (partial(MLP, x_embedding="fourier", depth=1, width=24), (2,)),
    "unet1d": (UNet1d, (2,)),
    "unet1d-odd": (UNet1d, (7,)),
    "unet1d-deep": (partial(UNet1d, channels=[8, 64, 96, 64]), (12,)),
    "dit": (partial(DiT, width=16, depth=2, heads=2, features=16), (2, 8, 12)),
    "set-fourier": (SetNet, (6, 2)),
    "set-deepsets": (partial(SetNet, kind="deepsets"), (6, 2)),
    "set-deepsets-max": (partial(SetNet, kind="deepsets", pooling="max"), (6, 2)),
    "set-deepsets-attention": (partial(SetNet, kind="deepsets", pooling="attention"), (6, 2)),
    "set-inducing": (partial(SetNet, kind="inducing"), (6, 2)),
}


@pytest.fixture(params=list(NETS))
def make(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    build, shape = NETS[request.param]

    def made(
        num_classes: int = CLASSES, seed: int = 0, zero_init: bool = False, **options: object
    ) -> nn.Module:
        torch.manual_seed(seed)
        return build(shape=shape, num_classes=num_classes, zero_init=zero_init, **options)

    return made


def inputs(net: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, *net.shape, generator=g, dtype=torch.float64)
    noise_level = 12 * torch.rand(BATCH, generator=g, dtype=torch.float64) - 5
    label = torch.randint(CLASSES + 1, (BATCH,), generator=g)
    return x.to(dtype), noise_level.to(dtype), label


def test_output_is_like_x(make: Callable[..., nn.Module]) -> None:
    net = make()
    x, noise_level, label = inputs(net)
    out = net(x, noise_level, label)
    assert out.shape == x.shape and out.dtype == x.dtype
    assert out.isfinite().all() and out.std() > 1e-3


def test_zero_init_starts_at_zero(make: Callable[..., nn.Module]) -> None:
    net = make(zero_init=True)
    assert torch.equal(net(*inputs(net)), torch.zeros_like(inputs(net)[0]))


def test_under_autocast_waves_and_output_keep_their_digits(make: Callable[..., nn.Module]) -> None:
    net = make()
    conditions = inputs(net)
    out = net(*conditions)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(*conditions)
    assert rough.dtype == torch.float32 and not torch.equal(rough, rough.bfloat16().float())
    assert (rough - out).square().mean() < 0.02**2 * out.square().mean()


def test_two_outputs_lie_in_the_second_dimension(make: Callable[..., nn.Module]) -> None:
    net = make(outputs=2)
    x, noise_level, label = inputs(net)
    assert net(x, noise_level, label).shape == (BATCH, 2, *net.shape)


def test_one_noise_level_is_the_same_level_for_each_sample(make: Callable[..., nn.Module]) -> None:
    net = make().double()
    x, _, label = inputs(net, torch.float64)
    for value in (-4.6, 0.3, 6.9):
        one = torch.tensor([value], dtype=torch.float64)
        for labels in (label, None):
            torch.testing.assert_close(
                net(x, one, labels), net(x, one.expand(BATCH), labels), rtol=0, atol=1e-12
            )


def test_samples_do_not_see_each_other(make: Callable[..., nn.Module]) -> None:
    net = make().double()
    x, noise_level, label = inputs(net, torch.float64)
    for i in range(BATCH):
        alone = net(x[i : i + 1], noise_level[i : i + 1], label[i : i + 1])
        torch.testing.assert_close(alone, net(x, noise_level, label)[i : i + 1], rtol=0, atol=1e-12)


def test_no_label_is_the_last_row(make: Callable[..., nn.Module]) -> None:
    net = make().double()
    x, noise_level, _ = inputs(net, torch.float64)
    none = torch.full((BATCH,), CLASSES)
    torch.testing.assert_close(net(x, noise_level), net(x, noise_level, none), rtol=0, atol=1e-12)
    for y in range(CLASSES):
        assert (net(x, noise_level) - net(x, noise_level, torch.full((BATCH,), y))).abs().max() > 1e-4


def test_the_noise_level_matters(make: Callable[..., nn.Module]) -> None:
    net = make()
    x, noise_level, label = inputs(net)
    assert (net(x, noise_level, label) - net(x, noise_level + 0.5, label)).abs().max() > 1e-4


def test_a_network_without_classes_refuses_labels(make: Callable[..., nn.Module]) -> None:
    net = make(num_classes=0)
    x, noise_level, label = inputs(net)
    assert net(x, noise_level).shape == x.shape
    with pytest.raises(ValueError, match="without classes"):
        net(x, noise_level, label)


def test_a_wrong_shape_is_refused(make: Callable[..., nn.Module]) -> None:
    net = make()
    _, noise_level, _ = inputs(net)
    with pytest.raises(ValueError, match="x has shape"):
        net(torch.zeros(BATCH, *net.shape[:-1], net.shape[-1] + 1), noise_level)


def test_every_parameter_learns(make: Callable[..., nn.Module]) -> None:
    """After two steps: a zero head lets no gradient through, nor do the zero gates behind it."""
    net = make(zero_init=True)
    x, noise_level, label = inputs(net)
    label = torch.arange(BATCH) % (CLASSES + 1)  # each row of the table is used
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x, noise_level, label) - torch.randn_like(x)).square().mean().backward()
        optimizer.step()
    still = [name for name, p in net.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert not still


def test_the_gradient_to_x_is_the_derivative(make: Callable[..., nn.Module]) -> None:
    """Guidance differentiates networks; the embeddings work in place."""
    net = make().double()
    x, noise_level, label = inputs(net, torch.float64)
    v = torch.randn_like(x)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(net(x, noise_level, label).sum(), x)
    h = 1e-6
    numeric = (net(x + h * v, noise_level, label).sum() - net(x - h * v, noise_level, label).sum()) / (2 * h)
    torch.testing.assert_close((slope * v).sum(), numeric.detach(), rtol=1e-5, atol=1e-7)


def test_float64_agrees_with_float32(make: Callable[..., nn.Module]) -> None:
    net = make()
    single = net(*inputs(net))
    double = net.double()(*inputs(net, torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3)


def test_the_seed_decides_the_weights(make: Callable[..., nn.Module]) -> None:
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    x, noise_level, label = inputs(first)
    assert torch.equal(first(x, noise_level, label), again(x, noise_level, label))
    assert not torch.allclose(first(x, noise_level, label), other(x, noise_level, label))


def test_the_state_is_complete_and_safe_to_load(make: Callable[..., nn.Module]) -> None:
    net, other = make(seed=3), make(seed=4)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x, noise_level, label = inputs(net)
    assert torch.equal(net(x, noise_level, label), other(x, noise_level, label))


class Plain(nn.Module):
    """A module that is no Network."""

    def forward(self, x: Tensor, noise_level: Tensor, label: Tensor | None) -> Tensor:
        return x * noise_level.view(-1, 1)


def test_a_plain_module_is_taken_as_a_network() -> None:
    plain, net = Plain(), MLP((2,))
    wrapped = as_network(plain, [2], num_classes=3, outputs=1)
    assert (wrapped.shape, wrapped.num_classes, wrapped.outputs) == ((2,), 3, 1)
    assert (wrapped.dropout, wrapped.bf16_pays) == (0.0, False)
    x, noise_level = torch.randn(4, 2), torch.randn(4)
    assert torch.equal(wrapped(x, noise_level), plain(x, noise_level, None))
    assert as_network(net, [2]) is net


@pytest.mark.parametrize(
    ("build", "option", "value", "hint"),
    [
        (MLP, "width", 0, "whole number in 1..65536"),
        (MLP, "width", 12.5, "whole number"),
        (MLP, "depth", True, "whole number"),
        (MLP, "depth", "3", "whole number"),
        (MLP, "activation", "tanh", "choose from silu, gelu, relu"),
        (MLP, "activation", None, "choose from"),
        (MLP, "x_embedding", "sinus", "choose from rings, harmonics, sinusoidal, fourier, none"),
        (MLP, "x_embedding", ["none"], "choose from"),
        (MLP, "time_embedding", "harmonics", "choose from fourier, sinusoidal, none"),
        (MLP, "x_features", 7, "multiple of 2"),
        (MLP, "x_features", 0, "multiple of 2 in 2..65536"),
        (MLP, "x_features", 24, "multiple of 16"),
        (MLP, "time_features", -2, "multiple of 2"),
        (MLP, "x_scale", 0, "number > 0"),
        (MLP, "x_scale", float("nan"), "number > 0"),
        (MLP, "time_scale", float("inf"), "number > 0"),
        (MLP, "time_scale", "big", "number > 0"),
        (MLP, "zero_init", "no", "choose from true, false"),
        (MLP, "outputs", 0, "whole number >= 1"),
        (UNet1d, "channels", [64], "at least two"),
        (UNet1d, "channels", 64, "must be a list"),
        (UNet1d, "channels", "64,128", "must be a list"),
        (UNet1d, "channels", [6, 64], "multiple of 4"),
        (UNet1d, "channels", [64, 100], "multiple of 32"),
        (UNet1d, "channels", [64, 32], "at least 64"),
        (UNet1d, "channels", [64, 64.5], "whole number"),
        (UNet1d, "features", 5, "multiple of 2"),
        (UNet1d, "time_scale", -1, "number > 0"),
    ],
)
def test_bad_options_are_named(
    build: Callable[..., nn.Module], option: str, value: object, hint: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        build((2,), 3, **{option: value})
    assert caught.value.argument == option
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("kind", "perceiver", "choose from fourier, deepsets, inducing"),
        ("pooling", "sum", "choose from mean, max, attention"),
        ("points", 0, "whole number in 1..65536"),
        ("heads", 5, "must divide the width, 64"),
        ("rings", 0, "whole number in"),
        ("directions", 2.5, "whole number in"),
        ("time_features", 3, "multiple of 2"),
        ("time_scale", 0, "number > 0"),
        ("width", None, "whole number in"),
        ("depth", -1, "whole number in"),
        ("outputs", "two", "whole number >= 1"),
        ("zero_init", 1, "choose from true, false"),
    ],
)
def test_bad_options_of_sets_are_named(option: str, value: object, hint: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        SetNet((8, 2), **{option: value})
    assert caught.value.argument == option
    assert hint in str(caught.value)
