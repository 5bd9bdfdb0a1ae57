"""Targets averaged over the whole set: equal to sums in double precision, the same in the mean, and far less noisy."""

import math
import subprocess
import sys

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.plane import Circle, Square
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.stars import Stars
from diffusion_cli.dataset.targets import averaged, exact, stable
from diffusion_cli.errors import ArgumentError
from diffusion_cli.objective import Hybrid, Objective
from diffusion_cli.prediction import V


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
        Batches(data, s, Objective(times="lognormal", targets=kind), 5, seed=3)(7)
        for kind in ("sample", "stable")
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
    for objective in (Objective(), Objective(targets="stable")):
        for held_out in (False, True):
            batch = Batches(data, s, objective, 5, seed=3, held_out=held_out)(0)
            assert torch.allclose(batch.x0, torch.full((5, 4, 2), float(held_out)), atol=1e-5)


@pytest.mark.parametrize(("kind", "options"), [(Objective, {"loss": "l1"}), (Hybrid, {})])
def test_what_no_mean_serves_is_refused(kind, options):
    with pytest.raises(ArgumentError, match="targets=stable: is for the loss mse alone"):
        kind(targets="stable", **options)


SCHEDULE = schedule.loglinear(50)


def points(n, seed=0, dim=2):
    return torch.randn(n, dim, generator=seeded(seed))


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_stable_targets_are_the_closed_form_sum(shape):
    """In float64, for each row at its own level, over further points and the batch."""
    x0, eps, more = (torch.randn(n, *shape, generator=seeded(n)) for n in (7, 8, 90))
    eps, t = eps[:7], torch.tensor([1, 8, 17, 25, 33, 42, 50])
    level = SCHEDULE.level(t, like=x0)
    mean, noise = stable(x0, eps, Batch(more), level)
    alpha, sigma = (part.double().flatten() for part in (level.alpha, level.sigma))
    references = torch.cat((more, x0)).double().flatten(1)
    for i in range(7):
        x_t = alpha[i] * x0[i].double().flatten() + sigma[i] * eps[i].double().flatten()
        exponent = -(x_t - alpha[i] * references).square().sum(1) / (2 * sigma[i] ** 2)
        expected = (exponent.exp()[:, None] * references).sum(0) / exponent.exp().sum()
        assert torch.allclose(mean[i].double().flatten(), expected, atol=1e-4)
    x_t = level.alpha * x0 + level.sigma * eps
    assert torch.allclose(level.alpha * mean + level.sigma * noise, x_t, atol=1e-5)


def test_over_all_points_of_a_set_stable_targets_are_exact():
    """The posterior mean of the density that has these points as its atoms (dataset.points)."""
    data, t = points(60), torch.arange(5, 51)
    x0, eps, density = data[: len(t)], points(len(t), 3), Points(data)
    level = SCHEDULE.level(t, like=x0)
    mean, _ = stable(x0, eps, Batch(data[len(t) :]), level)
    truth, _ = exact(x0, eps, density, level)
    assert torch.allclose(mean, truth, atol=1e-4)
    x_t = (level.alpha * x0 + level.sigma * eps).double()
    assert torch.allclose(truth.double(), density.posterior_mean(x_t, level.alpha, level.sigma), atol=1e-6)


def test_a_label_leaves_the_points_that_have_it():
    """Two atoms, each with its label: known from the label whatever the noise, and mixed where it is dropped."""
    atoms = torch.tensor([[-0.5], [0.5]])
    label = torch.tensor([0, 1, 2, 2])
    x0, level = atoms[[0, 1, 0, 1]], SCHEDULE.level(torch.full((4,), 50), like=atoms)
    mean, _ = stable(x0, torch.zeros(4, 1), Batch(atoms.repeat(10, 1), label[:2].repeat(10)), level, label, 2)
    assert torch.allclose(mean[:2], atoms)
    assert mean[2:].abs().max() < 0.01


def test_stable_targets_are_near_the_exact_ones_and_samples_are_not():
    """Mean square of the error of the targets of a batch, in the velocity that a network learns."""
    errors = {}
    for kind in ("sample", "stable", "exact"):
        batch = Batches(Circle(), SCHEDULE, Objective(targets=kind), 4096, seed=1)(7)
        level = SCHEDULE.level(batch.t, like=batch.x0)
        x_t = level.alpha * batch.x0 + level.sigma * batch.eps
        truth = Circle().density.posterior_mean(x_t, level.alpha, level.sigma)
        errors[kind] = float(((batch.x0 - truth) / level.sigma).square().mean())
    assert errors["exact"] < 1e-9 < errors["stable"] < 0.02 * errors["sample"]


def test_batches_with_references_are_functions_of_seed_and_step():
    def batch(seed, step):
        return Batches(Square(n=50), SCHEDULE, Objective(targets="stable"), 32, seed=seed)(step)

    assert torch.equal(batch(1, 7).x0, batch(1, 7).x0)
    assert not torch.equal(batch(1, 7).x0, batch(1, 8).x0)
    # What is noised is what it was without references.
    plain = Batches(Square(n=50), SCHEDULE, Objective(), 32, seed=1)(7)
    level, means = SCHEDULE.level(plain.t, like=plain.x0), batch(1, 7)
    assert torch.equal(plain.t, means.t)
    noised = [level.alpha * b.x0 + level.sigma * b.eps for b in (plain, means)]
    assert torch.allclose(*noised, atol=1e-5)


def test_exact_targets_without_a_density_are_refused_and_nothing_is_left_behind(tmp_path):
    line = ["train", "dataset=stars", "objective.targets=exact"]
    done = subprocess.run(
        [sys.executable, "-m", "diffusion_cli", *line],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr == "error: objective.targets=exact: the exact density of this dataset is not known\n"
