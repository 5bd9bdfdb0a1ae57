"""Networks on sets: the order of the points is nothing, their number is free, and no P x P tensor arises."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_cli.batches import Batches
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.embedding import RingFourier
from diffusion_cli.model.set import AttentionPool, FourierMix, InducingMix, SetNet
from diffusion_cli.objective import Objective
from diffusion_cli.optimizer import Optimizer
from diffusion_cli.prediction import V
from diffusion_cli.schedule import loglinear
from diffusion_cli.trainer import TrainState, fit

VARIANTS = [
    {"kind": "fourier"},
    {"kind": "fourier", "pooling": "max"},
    {"kind": "deepsets"},
    {"kind": "deepsets", "pooling": "max"},
    {"kind": "deepsets", "pooling": "attention"},
    {"kind": "inducing"},
]
every_variant = pytest.mark.parametrize("options", VARIANTS, ids=lambda o: "-".join(o.values()))


def network(options: dict[str, str]) -> SetNet:
    torch.manual_seed(0)
    return SetNet((64, 2), num_classes=2, zero_init=False, **options)


@every_variant
def test_permuting_the_input_permutes_the_output(options: dict[str, str]) -> None:
    net = network(options)
    g = torch.Generator().manual_seed(1)
    for points in (1, 2, 37, 300):
        x, noise_level = torch.randn(3, points, 2, generator=g), torch.randn(3, generator=g)
        label = torch.randint(3, (3,), generator=g)
        order = torch.randperm(points, generator=g)
        out, permuted = net(x, noise_level, label), net(x[:, order], noise_level, label)
        assert out.shape == x.shape and out.std(correction=0) > 1e-2
        torch.testing.assert_close(permuted, out[:, order], rtol=1e-5, atol=1e-5)


@every_variant
def test_the_same_points_twice_are_the_same_set(options: dict[str, str]) -> None:
    """Means, maxima and softmaxes do not count points: P may differ between training and sampling."""
    net = network(options).double()
    x, noise_level = torch.randn(2, 20, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(
        net(x.repeat(1, 3, 1), noise_level), net(x, noise_level).repeat(1, 3, 1), rtol=0, atol=1e-10
    )


@every_variant
def test_points_depend_on_each_other(options: dict[str, str]) -> None:
    net = network(options)
    x, noise_level = torch.randn(1, 5, 2), torch.zeros(1)
    moved = x.clone()
    moved[0, 0] += 1
    assert ((net(x, noise_level) - net(moved, noise_level))[0, 1:].abs() > 1e-6).all()


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return out


@every_variant
def test_memory_is_linear_in_the_number_of_points(options: dict[str, str]) -> None:
    net = SetNet((64, 2), **options)
    most = {}
    for points in (1000, 2000):
        with Largest() as seen, torch.no_grad():
            net(torch.randn(1, points, 2), torch.zeros(1))
        most[points] = seen.elements
    assert most[2000] <= 2 * most[1000] and most[2000] < 2000 * 2000 / 8


def test_memory_of_training_is_linear_in_the_number_of_points() -> None:
    """A whole step: the averaged targets, the network forth and back, the update."""
    most = {}
    for points in (1000, 2000):
        data = SetDataset(torch.randn(2, points, 2), test=1, rotate=True)
        batches = Batches(data, loglinear(50), Objective(times="lognormal", targets="stable"), size=1, seed=0)
        state = TrainState.start(SetNet(data.shape), Optimizer())
        with Largest() as seen:
            next(fit(state, NetworkDenoiser(state.net, V(0.5), batches.schedule), batches, steps=1))
        most[points] = seen.elements
    assert most[2000] <= 2 * max(most[1000], 381_122) and most[2000] < 2000 * 2000 / 8


def test_fourier_mix_is_a_convolution() -> None:
    """Against the double sum over pairs of points: mean_j K(x_i - x_j) V h_j."""
    torch.manual_seed(0)
    rings = RingFourier(rings=3, directions=4).double()
    mix = FourierMix(width=5, hidden=6, context=7, features=rings.features).double()
    x, h, g = (torch.randn(2, *size, dtype=torch.float64) for size in ((9, 2), (9, 5), (7,)))
    difference = (x.unsqueeze(2) - x.unsqueeze(1)) @ rings.frequency[:, :12]  # (B, P, P, n)
    kernel = ((1 + mix.gate(g))[:, None, None] * difference.cos()).sum(-1) / 12**0.5
    torch.testing.assert_close(mix(h, g, rings(x)), kernel @ mix.value(h) / 9, rtol=0, atol=1e-6)


def test_attention_against_loops() -> None:
    torch.manual_seed(0)
    mix = InducingMix(width=6, hidden=8, context=3, points=4, heads=2).double()
    query, key_value = torch.randn(2, 5, 6).double(), torch.randn(2, 9, 12).double()
    out = mix._attend(query, key_value)
    key, value = key_value[..., :6], key_value[..., 6:]
    for b in range(2):
        for part in (slice(0, 3), slice(3, 6)):
            weight = (query[b, :, part] @ key[b, :, part].T / 3**0.5).softmax(-1)
            torch.testing.assert_close(out[b, :, part], weight @ value[b, :, part], rtol=0, atol=1e-12)
    pool = AttentionPool(hidden=8, heads=2).double()
    u = torch.randn(2, 9, 8).double()
    weight = pool.score(u).softmax(1)
    expected = torch.cat(
        [(weight[..., :1] * u[..., :4]).sum(1), (weight[..., 1:] * u[..., 4:]).sum(1)], dim=1
    )
    torch.testing.assert_close(pool(u), expected, rtol=0, atol=1e-12)


def test_size_of_the_default() -> None:
    count = sum(p.numel() for p in SetNet((1024, 2)).parameters())
    assert count == 396_578  # about the prototype's 0.39M
    build = partial(SetNet, (1024, 2), width=32, depth=2)
    assert sum(p.numel() for p in build().parameters()) < count / 5


def test_it_learns_what_needs_the_other_points() -> None:
    """Each point's target is the set's mean: unknown to a network that sees one point."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    for kind in ("fourier", "deepsets", "inducing"):
        net: nn.Module = SetNet((16, 2), kind=kind, width=16, depth=2)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=150)
        losses = []
        for _ in range(150):
            x = torch.randn(16, 16, 2, generator=g) * 0.3 + torch.randn(16, 1, 2, generator=g)
            loss = (net(x, torch.zeros(1)) - x.mean(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
            losses.append(loss.item())
        assert sum(losses[-20:]) / 20 < 0.04  # the best that one point alone can do is 0.078


@pytest.mark.parametrize("shape", [(2,), (8, 4), (1, 28, 28)])
def test_what_is_no_set_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="SetNet needs sets"):
        SetNet(shape)
