"""Flow matching as a diffusion: its schedule, velocity, times and couplings."""

import itertools
import math

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.dataset.targets import coupled
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.mlp import MLP
from diffusion_cli.objective import Objective
from diffusion_cli.prediction import Eps, Velocity
from diffusion_cli.sampler import DDIM

SCHEDULE = schedule.flow(T=20, sigma_max=50)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def straight(level):
    """a and b of a x0 + b eps, a + b = 1."""
    return level.alpha / (level.alpha + level.sigma), level.sigma / (level.alpha + level.sigma)


def test_the_schedule_is_the_straight_way_in_equal_steps():
    b = torch.stack([straight(SCHEDULE.level(t, like=torch.zeros(1)))[1] for t in range(21)])
    assert torch.allclose(b, torch.arange(21, dtype=torch.float64) / 20 * 50 / 51)
    assert math.isclose((1 / SCHEDULE.alpha_bar[-1] - 1).sqrt(), 50)


def test_an_euler_step_of_the_velocity_is_a_step_of_ddim():
    """By Euler's method in b on dx/db = velocity, x = a x0 + b eps not scaled; a network with random weights."""
    torch.manual_seed(0)
    net = MLP((2,), zero_init=False)
    denoiser = NetworkDenoiser(net.double(), Velocity(), SCHEDULE)
    x_T = torch.randn(7, 2, generator=seeded(), dtype=torch.float64)
    sampler = DDIM(steps=None)
    states = [*sampler(denoiser, x_T)]
    level = SCHEDULE.level(20, like=x_T)
    a, b = straight(level)
    x = x_T * a / level.alpha
    with torch.no_grad():
        for now, then in itertools.pairwise(states):
            level = SCHEDULE.level(now.t, like=x)
            a, b = straight(level)
            velocity = net(x * level.alpha / a, level.noise_level)
            _, ahead = straight(SCHEDULE.level(then.t, like=x))
            x = x + (ahead - b) * velocity
            end = SCHEDULE.level(then.t, like=x)
            assert torch.allclose(x * end.alpha / straight(end)[0], then.x, atol=1e-9)
    assert states[-1].t == 0


def test_its_loss_is_a_weighted_loss_of_eps():
    """The same prediction, put out as velocity and as eps: the losses differ by ((alpha + sigma) / alpha)^2."""
    x0, eps, wrong = torch.randn(3, 5, 2, generator=seeded(), dtype=torch.float64)
    t = torch.tensor([1, 5, 10, 15, 20])
    level = SCHEDULE.level(t, like=x0)
    x_t = level.alpha * x0 + level.sigma * eps
    x0_wrong = (x_t - level.sigma * wrong) / level.alpha
    of_velocity = Objective().compare(wrong - x0_wrong, Velocity().target(x0, eps, level), level, Velocity())
    of_eps = Objective().compare(wrong, eps, level, Eps())
    weight = ((level.alpha + level.sigma) / level.alpha).flatten() ** 2
    assert torch.allclose(of_velocity, weight * of_eps)


def test_times_of_lognormal_noise_are_logit_normal():
    objective = Objective(times="lognormal", mean=0, std=1)
    fine = schedule.flow(T=1000, sigma_max=1e4)
    t = objective.draw_times(fine, 20_000, seeded())
    b = straight(fine.level(t, like=torch.zeros(20_000, dtype=torch.float64)))[1]
    logit = (b / (1 - b)).log()
    assert abs(logit.mean()) < 0.03 and abs(logit.std() - 1) < 0.02
    expected = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]))
    assert torch.allclose(
        logit.quantile(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]).double()).float(), expected, atol=0.05
    )


def test_the_coupling_is_the_assignment_of_least_transport():
    x0, eps = torch.randn(2, 6, 1, 3, generator=seeded())
    cost = [sum((x0[i] - eps[j]).square().sum() for i, j in enumerate(order))
            for order in itertools.permutations(range(6))]  # fmt: skip
    assert torch.isclose((x0 - coupled(x0, eps)).square().sum(), min(cost))
    label = torch.tensor([0, 2, 0, 2, 2, 0])
    within = coupled(x0, eps, label)
    for k in (0, 2):
        rows = label == k
        best = min(
            sum((a - b).square().sum() for a, b in zip(x0[rows], order, strict=True))
            for order in itertools.permutations(eps[rows])
        )
        assert torch.isclose((x0[rows] - within[rows]).square().sum(), best)


@pytest.mark.parametrize("data", [Circle(), GaussianMixture()], ids=["circle", "mixture"])
def test_a_coupled_batch_has_the_same_points_and_the_same_noise(data):
    free, near = (
        Batches(data, SCHEDULE, Objective(coupling=kind), 64, seed=3)(5)
        for kind in ("independent", "optimal")
    )
    assert torch.equal(free.x0, near.x0) and torch.equal(free.t, near.t)
    assert torch.equal(free.eps.sort(0)[0], near.eps.sort(0)[0])
    assert (near.x0 - near.eps).square().sum() < (free.x0 - free.eps).square().sum()
    if near.label is not None:
        for k in (0, 1):
            rows = near.label == k
            assert torch.equal(free.eps[rows].sort(0)[0], near.eps[rows].sort(0)[0])


def test_means_over_references_do_not_go_with_a_coupling():
    with pytest.raises(ArgumentError, match="coupling=optimal: is for targets=sample"):
        Objective(targets="stable", coupling="optimal")
