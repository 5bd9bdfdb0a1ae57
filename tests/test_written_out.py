"""The MLP written out against the plain module under autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.descent import by_autograd, descent_of, is_plain
from diffusion_cli.model.mlp import MLP
from diffusion_cli.objective import Hybrid, Objective, TrainingBatch
from diffusion_cli.prediction import Eps, V
from diffusion_cli.schedule import loglinear

TINY_DIFFUSION = {
    "activation": "gelu",
    "x_embedding": "sinusoidal",
    "time_embedding": "sinusoidal",
    "fade": False,
}


def denoiser_of(parameterization=None, **options: Any) -> NetworkDenoiser:
    torch.manual_seed(0)
    net = MLP(options.pop("shape", (2,)), **({"zero_init": False} | options))
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    return NetworkDenoiser(net, parameterization or V(), loglinear(50))


def gradients(denoiser: NetworkDenoiser, descend, batch) -> list[torch.Tensor]:
    """The losses, and the gradients after two calls: they add up."""
    for p in denoiser.net.parameters():
        p.grad.zero_()
    losses = [descend(batch), descend(batch)]
    assert not any(loss.requires_grad for loss in losses) and torch.equal(*losses)
    return [losses[0], *(p.grad.clone() for p in denoiser.net.parameters())]


@pytest.mark.parametrize(
    "options",
    [
        {},
        TINY_DIFFUSION | {"parameterization": Eps()},
        {"activation": "relu", "x_embedding": "none", "time_embedding": "none", "depth": 1},
        {"shape": (3, 1), "width": 48, "depth": 2, "x_embedding": "harmonics"},
        {"shape": (1,), "time_embedding": "none"},
    ],
    ids=["default", "tiny-diffusion", "smallest", "space", "line"],
)
# More samples than levels or fewer, and products above and below linear.WORK.
@pytest.mark.parametrize("size", [1, 32, 150, 300])
def test_gradients_are_those_of_autograd(options: dict[str, Any], size: int) -> None:
    denoiser = denoiser_of(**options)
    g = torch.Generator().manual_seed(size)
    x0, eps = (torch.randn(size, *denoiser.net.shape, generator=g) for _ in range(2))
    batch = TrainingBatch(x0, torch.randint(1, 51, (size,), generator=g), eps)
    ours = gradients(denoiser, descent_of(denoiser, Objective()), batch)
    theirs = gradients(denoiser, by_autograd(denoiser, Objective()), batch)
    assert all(x.abs().max() > 0 for x in theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_times_between_the_steps() -> None:
    """Real times, of which each is another level."""
    denoiser, t = denoiser_of(), 1 + 49 * torch.rand(300, generator=torch.Generator().manual_seed(0))
    batch = TrainingBatch(torch.randn(300, 2), t, torch.randn(300, 2))
    for a, b in zip(
        gradients(denoiser, descent_of(denoiser, Objective()), batch),
        gradients(denoiser, by_autograd(denoiser, Objective()), batch),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_only_the_plain_case_is_written_out() -> None:
    def chosen(denoiser: NetworkDenoiser, objective: Objective | None = None) -> str:
        return descent_of(denoiser, objective or Objective()).__qualname__.partition(".")[0]

    assert chosen(denoiser_of()) == "written_out"
    assert chosen(denoiser_of(), Objective(loss="l1")) == "by_autograd"
    assert chosen(denoiser_of(), Objective(weighting="vlb")) == "by_autograd"
    assert chosen(denoiser_of(outputs=2), Hybrid()) == "by_autograd"
    assert chosen(denoiser_of(num_classes=2)) == "by_autograd"
    half = denoiser_of()
    half.precision = torch.bfloat16
    assert chosen(half) == "by_autograd"


def test_a_watched_or_changed_network_is_not_plain() -> None:
    class Mine(MLP):
        pass

    net = MLP((2,))
    assert is_plain(net) and not is_plain(Mine((2,)))
    handle = net.register_forward_hook(lambda *_: None)
    assert not is_plain(net)
    handle.remove()
    assert is_plain(net)
