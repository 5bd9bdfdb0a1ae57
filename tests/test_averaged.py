"""Targets averaged over the whole set: equal to sums in double precision, the same in the mean, and far less noisy."""

import math
import subprocess
import sys

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.dataset.averaged import averaged
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.stars import Stars
from diffusion_cli.errors import ArgumentError
from diffusion_cli.objective import Hybrid, Objective
from diffusion_cli.prediction import V
from diffusion_cli.trainer import Batches


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def level(ratio, n=1):
    """alpha and sigma (n, 1, 1) with sigma / alpha = ratio."""
    alpha = torch.full((n, 1, 1), 1 / math.sqrt(1 + ratio**2))
    return alpha, ratio * alpha


def noised(ratio, n=3, points=40, size=100, shift=0.0):
    source = torch.randn(n, size, 2, generator=seeded(1)) + shift
    x0, eps = source[:, :points], torch.randn(n, points, 2, generator=seeded(2))
    return x0, eps, source, *level(ratio, n)


@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_the_means_are_those_of_the_formula(ratio, shift):
    x0, eps, source, alpha, sigma = noised(ratio, shift=shift)
    mean, noise = averaged(x0, eps, source, alpha, sigma)
    x_t, s, a, b = ((alpha * x0 + sigma * eps).double(), source.double(), alpha.double(), sigma.double())
    exponent = -((x_t.unsqueeze(2) - a.unsqueeze(2) * s.unsqueeze(1)).square().sum(-1)) / (2 * b**2)
    expected = exponent.softmax(-1) @ s
    # x_t itself is rounded to float32, which far from the origin is what limits the weights.
    assert torch.allclose(mean.double(), expected, atol=2e-4 if shift else 1e-5)
    assert torch.allclose(alpha * mean + sigma * noise, alpha * x0 + sigma * eps, atol=1e-5)


def test_with_too_little_noise_to_tell_the_points_stay_what_they_are():
    x0, eps, source, alpha, sigma = noised(1e-5)
    mean, noise = averaged(x0, eps, source, alpha, sigma)
    assert torch.equal(mean, x0)
    assert torch.isfinite(noise).all()


def test_one_point_and_sets_of_one_place_are_known_whatever_the_noise():
    for source in (torch.randn(2, 1, 2, generator=seeded()), torch.ones(2, 5, 2)):
        x0, eps = source[:, :1], torch.randn(2, 1, 2, generator=seeded(1))
        for ratio in (1e-4, 1.0, 1e3):
            mean, _ = averaged(x0, eps, source, *level(ratio, 2))
            assert torch.allclose(mean, x0, atol=1e-6)


def test_only_the_noise_of_the_targets_is_lost():
    # E[x0 - mean | x_t] = 0, so x0 - mean is not correlated with anything that is a function of x_t.
    data = Stars(n=8, test=4, points=1024, rotate=True)
    x0, _, source = data.draw(64, seeded())
    eps = torch.randn(x0.shape, generator=seeded(1))
    alpha, sigma = level(0.3, 64)
    mean, _ = averaged(x0, eps, source, alpha, sigma)
    x_t = alpha * x0 + sigma * eps
    for test in (x_t, mean, x_t * x_t.norm(dim=-1, keepdim=True)):
        lost = ((x0 - mean) * test).mean() / ((x0 - mean).square().mean() * test.square().mean()).sqrt()
        assert abs(lost) < 0.01  # 131,072 coordinates
    assert (x0 - mean).square().mean() > 0.04  # what single points differ by, which no network can foretell


def test_a_batch_of_means_is_a_batch_as_it_was_noised():
    data, s = Stars(n=8, test=4), schedule.loglinear(50)
    plain, means = (
        Batches(data, s, Objective(times="lognormal", averaged=flag), 5, seed=3)(7) for flag in (False, True)
    )
    at = s.level(plain.t, like=plain.x0)
    assert torch.equal(plain.t, means.t) and not torch.allclose(plain.x0, means.x0, atol=1e-3)
    x_t = [at.alpha * b.x0 + at.sigma * b.eps for b in (plain, means)]
    assert torch.allclose(*x_t, atol=1e-5)
    target, mean_target = (V(0.5).target(b.x0, b.eps, at) for b in (plain, means))
    assert mean_target.square().mean() < target.square().mean()


def test_held_out_batches_come_from_held_out_sets():
    sets = torch.cat((torch.zeros(3, 4, 2), torch.ones(2, 4, 2)))
    data, s = SetDataset(sets, test=2), schedule.loglinear(50)
    x0, _, source = data.held_out.draw(6, seeded())
    assert (x0 == 1).all() and (source == 1).all() and x0.shape == (6, 4, 2)
    assert (data.draw(6, seeded()).x0 == 0).all()
    for objective in (Objective(), Objective(averaged=True)):
        for held_out in (False, True):
            batch = Batches(data, s, objective, 5, seed=3, held_out=held_out)(0)
            assert torch.allclose(batch.x0, torch.full((5, 4, 2), float(held_out)), atol=1e-5)


def test_points_that_are_no_sets_have_no_means():
    batches = Batches(Circle(), schedule.loglinear(50), Objective(averaged=True), 5, seed=3)
    with pytest.raises(ArgumentError, match="averaged=true: needs sets of points"):
        batches(0)


@pytest.mark.parametrize(("kind", "options"), [(Objective, {"loss": "l1"}), (Hybrid, {})])
def test_what_no_mean_serves_is_refused(kind, options):
    with pytest.raises(ArgumentError, match="averaged=true: is for objective=mse"):
        kind(averaged=True, **options)


def test_data_without_sets_are_refused_and_nothing_is_left_behind(tmp_path):
    line = [sys.executable, "-m", "diffusion_cli", "train", "dataset=circle", "objective.averaged=true"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert (
        done.stderr == "error: objective.averaged=true: needs sets of points: dataset=stars or point_sets\n"
    )
