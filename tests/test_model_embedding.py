"""Embeddings against their formulas, written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.conditioning import Conditioning, LabelEmbedding, NoiseLevels
from diffusion_cli.model.embedding import (
    GaussianFourier,
    Harmonics,
    IdentityEmbedding,
    PlaneFourier,
    RingFourier,
    Sinusoidal,
    embedding,
    fading,
)

X = torch.tensor([[-2.5, -0.3], [0.0, 0.7], [1.1, 3.2]])


def waves(x: torch.Tensor, frequency: np.ndarray) -> np.ndarray:
    angle = x.double().numpy()[..., None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def test_sinusoidal_is_ddpms_table() -> None:
    half = 8
    frequency = np.exp(-math.log(10000) / (half - 1) * np.arange(half))  # as in Ho et al.'s code
    for scale in (1.0, 25.0):
        out = Sinusoidal(2 * half, scale)(X)
        assert out.shape == (3, 2, 16)
        np.testing.assert_allclose(out, waves(scale * X, frequency), atol=1e-5)


def test_harmonics_are_octaves() -> None:
    out = Harmonics()(X)
    assert out.shape == (3, 2, 10)
    np.testing.assert_allclose(out, waves(X, math.pi / 2 * np.array([0.25, 0.5, 1, 2, 4])), atol=1e-5)


def test_gaussian_fourier_draws_once_from_the_seed_and_saves() -> None:
    torch.manual_seed(0)
    first, second = GaussianFourier(2000, scale=0.5), GaussianFourier(2000, scale=0.5)
    torch.manual_seed(0)
    again = GaussianFourier(2000, scale=0.5)
    assert torch.equal(first(X), again(X)) and not torch.equal(first(X), second(X))
    assert not list(first.parameters())
    frequency = first.state_dict()["frequency"][:1000].numpy().astype(float)
    np.testing.assert_allclose(first(X), waves(X, frequency), atol=1e-5)
    assert np.std(frequency) == pytest.approx(2 * math.pi * 0.5, rel=0.1)
    assert abs(np.mean(frequency)) < 0.4
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(X), second(X))


def test_fixed_frequencies_are_not_in_the_state() -> None:
    for module in (Sinusoidal(), Harmonics(), RingFourier(8, 8), IdentityEmbedding()):
        assert not module.state_dict()


def test_identity() -> None:
    assert torch.equal(IdentityEmbedding()(X), X.unsqueeze(-1))


def test_rings_are_waves_of_the_plane() -> None:
    rings = RingFourier(rings=4, directions=5, smallest=0.6, largest=9.0)
    w = rings.frequency[:, :20].double()
    radius = w.norm(dim=0).view(4, 5)
    torch.testing.assert_close(radius, radius[:, :1].expand(4, 5))
    assert radius[0, 0].item() == pytest.approx(0.6) and radius[3, 0].item() == pytest.approx(9.0)
    angle = (X.double() @ w).numpy()
    np.testing.assert_allclose(rings(X), np.concatenate([np.sin(angle), np.cos(angle)], axis=-1), atol=1e-5)
    # no two frequencies are the same wave, w or -w
    both = torch.cat([w, -w], dim=1).T
    assert (torch.cdist(both, both) + 9 * torch.eye(40)).min() > 0.1
    assert RingFourier(rings=1, directions=1).features == 2 and RingFourier(1, 1)(X).isfinite().all()


def test_the_point_stands_beside_its_waves() -> None:
    both = PlaneFourier.of_size(64, 20.0)
    phi = both(X)
    assert phi.shape == (3, both.size(2)) == (3, 66)
    torch.testing.assert_close(phi[:, 64:], X / 2**0.5)
    torch.testing.assert_close(phi[:, :64], RingFourier(4, 8, 0.5, 20.0)(X))
    # waves fade by their frequency, the point never does
    torch.testing.assert_close(both.squares()[:64].sqrt(), both.frequency.norm(dim=0))
    assert both.squares()[64:].tolist() == [0, 0]


@pytest.mark.parametrize("axis", ["x", "time"])
@pytest.mark.parametrize("name", ["fourier", "sinusoidal", "none"])
def test_features_is_the_size_of_the_output(axis: str, name: str) -> None:
    chosen = embedding(axis, name)
    assert chosen(X).shape == (3, 2, chosen.features)
    if name != "none":
        assert embedding(axis, name, features=6, scale=2)(X).shape == (3, 2, 6)


def test_options_without_a_meaning_are_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        embedding("x", "none", features=8)
    assert caught.value.argument == "x_features" and "x_embedding=none" in str(caught.value)
    with pytest.raises(ArgumentError) as caught:
        embedding("time", "none", scale=2.0)
    assert caught.value.argument == "time_scale"


def test_waves_come_in_pairs() -> None:
    for build in (Sinusoidal, GaussianFourier, Harmonics):
        for features in (0, 3, -2):
            with pytest.raises(ValueError, match="pairs"):
                build(features)


def test_labels_look_up_rows_and_none_is_the_last() -> None:
    table = LabelEmbedding(3, 5)
    assert table.weight.shape == (4, 5)
    assert torch.equal(table(torch.tensor([2, 0])), table.weight[[2, 0]])
    assert torch.equal(table(None), table.weight[3:])


def test_the_context_is_the_sum_of_its_inputs() -> None:
    """One row for each sample, whether the batch shares noise levels or not; the label only where there are classes."""
    context = Conditioning(torch.nn.Linear(1, 5), 3, 5)
    context.from_noise_level = torch.nn.Sequential(torch.nn.Unflatten(0, (-1, 1)), torch.nn.Linear(1, 5))
    noise_level, label = torch.arange(256) % 4 / 2, torch.arange(256) % 4
    rows = context.from_noise_level(noise_level)
    torch.testing.assert_close(
        context(NoiseLevels(noise_level), label), rows + context.from_label.weight[label]
    )
    assert context(NoiseLevels(noise_level[:1]), None).shape == (1, 5)
    plain = Conditioning(context.from_noise_level, 0, 5)
    torch.testing.assert_close(plain(NoiseLevels(noise_level), None), rows)
    with pytest.raises(ValueError, match="without classes"):
        plain(NoiseLevels(noise_level), label)


def test_waves_fade_to_their_mean_under_the_noise() -> None:
    """E[sin(w.(x + sigma eps))] = exp(-|w|^2 sigma^2 / 2) sin(w.x), by Monte Carlo."""
    torch.manual_seed(0)
    waves, x, noise_level = PlaneFourier.of_size(32, 4.0), torch.tensor([[0.3, -0.7]]), torch.tensor([-0.5])
    sigma = torch.sigmoid(2 * noise_level).sqrt()
    mean = waves(x + sigma * torch.randn(200_000, 2)).mean(0)
    assert torch.allclose((waves(x) * fading(waves.squares(), noise_level))[0], mean, atol=0.01)


def test_waves_much_longer_than_the_noise_are_whole() -> None:
    waves = Harmonics()
    factor = fading(waves.squares(), torch.tensor([-1.0, -9.0, 9.0]))
    assert factor.shape == (3, waves.features) and torch.allclose(factor[1], torch.ones(()), atol=1e-5)
    assert bool((factor.diff(dim=0)[0] >= 0).all()) and bool((factor[2] <= factor[1]).all())


@pytest.mark.parametrize(
    ("n", "different", "kept"), [(128, 3, 3), (129, 64, 64), (128, 128, 128), (4, 2, 4), (1, 1, 1)]
)
def test_a_level_is_computed_once_and_every_sample_gets_its_own(n: int, different: int, kept: int) -> None:
    """Values and gradients are those of a computation for each sample by itself."""
    noise_level, x = torch.linspace(-1, 1, different)[torch.arange(n) % different], torch.randn(max(n, 4), 1)
    table = torch.randn(3, requires_grad=True)
    levels = NoiseLevels(noise_level)
    assert len(levels.values) == kept
    shared = (x * levels.spread(levels.values[:, None] * table)).square().sum()
    separate = (x * (noise_level[:, None] * table)).square().sum()
    assert torch.allclose(shared, separate)
    assert torch.allclose(*(torch.autograd.grad(f, table)[0] for f in (shared, separate)))
