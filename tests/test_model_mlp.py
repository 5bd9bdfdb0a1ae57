"""The MLP against tiny-diffusion's network written out plainly, and the classifier on its features."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.classifier import LabelClassifier
from diffusion_cli.model.mlp import MLP


class TinyDiffusion(nn.Module):
    """https://github.com/tanelp/tiny-diffusion, ddpm.py: the same formulas with nothing shared or precomputed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(384, 128)
        self.blocks = nn.ModuleList(nn.Linear(128, 128) for _ in range(3))
        self.last = nn.Linear(128, 2)

    @staticmethod
    def embed(x: Tensor) -> Tensor:
        frequency = torch.exp(-math.log(10000.0) / 63 * torch.arange(64))
        angle = 25 * x.unsqueeze(-1) * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.cat([self.embed(x[:, 0]), self.embed(x[:, 1]), self.embed(t)], dim=-1)
        h = nn.functional.gelu(self.first(h))
        for linear in self.blocks:
            h = h + nn.functional.gelu(linear(h))
        return self.last(h)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_it_is_tiny_diffusions_network() -> None:
    torch.manual_seed(0)
    theirs = TinyDiffusion()
    ours = MLP(
        (2,),
        activation="gelu",
        x_embedding="sinusoidal",
        time_embedding="sinusoidal",
        fade=False,
        zero_init=False,
    )
    assert parameters(ours) == parameters(theirs) == 99_074
    state = theirs.state_dict()
    weights = {
        "from_x.weight": state["first.weight"][:, :256],
        "context.from_noise_level.1.weight": state["first.weight"][:, 256:],
        "context.from_noise_level.1.bias": state["first.bias"],
        "head.weight": state["last.weight"],
        "head.bias": state["last.bias"],
    }
    weights |= {name: value for name, value in state.items() if name.startswith("blocks.")}
    ours.load_state_dict(weights)
    x, t = torch.randn(200, 2), 12 * torch.rand(200) - 5
    torch.testing.assert_close(ours(x, t), theirs(x, t), rtol=0, atol=1e-5)


def test_parameters_of_the_recipe() -> None:
    blocks, head = 3 * (128 * 128 + 128), 128 * 2 + 2
    assert parameters(MLP((2,))) == (160 + 2 + 64) * 128 + 128 + blocks + head
    assert parameters(MLP((2,), num_classes=3)) == parameters(MLP((2,))) + 4 * 128
    assert parameters(MLP((2,), outputs=2)) == parameters(MLP((2,))) + head
    assert parameters(MLP((1,), width=16, depth=1, x_embedding="none", time_embedding="none")) == (
        2 * 16 + 16 + 16 * 16 + 16 + 16 + 1
    )


def test_coordinates_start_with_unit_variance_whatever_the_embedding() -> None:
    torch.manual_seed(0)
    for options in ({}, {"x_embedding": "sinusoidal"}, {"x_embedding": "fourier", "x_features": 32}):
        net = MLP((2,), width=512, **options)
        h = net.embed_x(torch.randn(500, 2)).flatten(1) @ net.from_x.weight.t()
        assert h.square().mean().item() == pytest.approx(1, abs=0.25)


def test_it_learns_a_curve() -> None:
    """300 steps of v-prediction at one noise level come near the exact posterior mean of two points."""
    torch.manual_seed(0)
    net = MLP((2,), width=64, depth=2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    g = torch.Generator().manual_seed(0)
    noise_level = torch.zeros(1)  # sigma = alpha
    for _ in range(300):
        x0 = torch.randint(2, (256, 1), generator=g) * torch.tensor([[2.0, 2.0]]) - 1  # +-(1, 1)
        x_t = (x0 + torch.randn(x0.shape, generator=g)) / math.sqrt(2)
        optimizer.zero_grad()
        (net(x_t, noise_level) - x0).square().mean().backward()
        optimizer.step()
    exact = torch.tanh(math.sqrt(2) * x_t.sum(1, keepdim=True)).expand(-1, 2)  # E[x0 | x_t]
    assert (net(x_t, noise_level) - exact).square().mean() < 0.01


def test_classifier_gives_logits_and_starts_undecided() -> None:
    torch.manual_seed(0)
    classifier = LabelClassifier(MLP((2,)), num_classes=4)
    x, noise_level = torch.randn(6, 2), torch.randn(6)
    assert torch.equal(classifier(x, noise_level), torch.zeros(6, 4))
    assert parameters(classifier) == parameters(MLP((2,))) + 2 * (128 + 1)
    nn.init.normal_(classifier.head.weight)
    one = classifier(x, noise_level[:1])
    torch.testing.assert_close(one, classifier(x, noise_level[:1].expand(6)), rtol=1e-5, atol=1e-4)
    (slope,) = torch.autograd.grad(classifier(x.requires_grad_(), noise_level).log_softmax(1)[:, 1].sum(), x)
    assert slope.shape == x.shape and (slope != 0).all()


def test_rings_are_for_the_plane() -> None:
    with pytest.raises(ArgumentError, match="x_embedding=rings: is for points of the plane"):
        MLP((3,), x_embedding="rings")


def test_classifier_needs_classes() -> None:
    with pytest.raises(ArgumentError, match="needs a dataset with classes"):
        LabelClassifier(MLP((2,)), num_classes=0)
