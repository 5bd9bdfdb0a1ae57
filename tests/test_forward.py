"""The forward process and its exact reversal, against Bayes' rule, each other, and the moments of a Gaussian."""

import math

import pytest
import torch
from scipy import stats

from diffusion_cli import schedule
from diffusion_cli.dataset.exact import Gaussian1D
from diffusion_cli.forward import forward_chain, forward_distribution, reverse_chain, reverse_distribution
from diffusion_cli.noise import NoiseStream

# Those that reach noise with 50 steps, whose published betas are for 1000.
SCHEDULES = [schedule.constant, schedule.linear, schedule.quadratic, schedule.cosine, schedule.loglinear]
CHAINS = 10_000


def close(a, b, tolerance=1e-12):
    assert (a - b).abs().max().item() <= tolerance * max(1.0, b.abs().max().item())


@pytest.fixture(params=SCHEDULES, ids=lambda make: make.__name__)
def noising(request):
    return request.param(50)


def points(seed=0, shape=(7, 2)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_single_steps_compose_to_the_jump(noising):
    x0 = points()
    mean, variance = x0, torch.zeros((), dtype=torch.float64)
    for t in range(1, noising.T + 1):
        step = forward_distribution(noising, mean, t, t - 1)
        ratio = (noising.alpha_bar[t] / noising.alpha_bar[t - 1]).sqrt()
        close(step.mean, ratio * mean)
        mean, variance = step.mean, ratio**2 * variance + step.variance
        jump = forward_distribution(noising, x0, t)
        close(mean, jump.mean)
        close(variance, jump.variance)
        close(jump.variance, 1 - noising.alpha_bar[t])


def test_a_step_takes_away_beta():
    step = forward_distribution(schedule.constant(30, beta=0.2), points(), 12, 11)
    close(step.variance, torch.tensor(0.2, dtype=torch.float64))


@pytest.mark.parametrize(("t", "s"), [(1, 0), (2, 1), (17, 16), (50, 49), (40, 10), (20.5, 3.25)])
def test_the_reverse_step_is_bayes_rule(noising, t, s):
    """Precisions add: q(x_s | x_t, x0) is q(x_s | x0) times q(x_t | x_s) as a function of x_s."""
    x0, x_t = points(1), points(2)
    got = reverse_distribution(noising, x_t, x0, t, s)
    if s == 0:
        close(got.mean, x0)
        assert got.variance == 0
        return
    prior = forward_distribution(noising, x0, s)
    now, then = (float(noising.level(time, like=x0).alpha) for time in (t, s))
    kept = now / then
    precision = 1 / prior.variance + kept**2 / (1 - kept**2)
    mean = (prior.mean / prior.variance + kept * x_t / (1 - kept**2)) / precision
    # Tiny variances are differences of numbers near 1, known to 1e-16: relative to x that is still 1e-12.
    close(got.mean, mean, 1e-11)
    close(got.variance, 1 / precision)


def test_the_next_time_is_the_default_and_times_may_be_a_batch(noising):
    x0, x_t = points(1), points(2)
    together = reverse_distribution(noising, x_t, x0, torch.arange(7) + 3)
    for i in range(7):
        alone = reverse_distribution(noising, x_t[i : i + 1], x0[i : i + 1], i + 3, i + 2)
        close(together.mean[i], alone.mean[0])
        close(together.variance[i], alone.variance)


def test_averaged_over_x_t_the_reverse_step_gives_the_jump(noising):
    """E and Var of x_{t-1} | x0, by the law of total variance over x_t | x0."""
    x0 = points(3)
    for t in (1, 2, 25, 50):
        now, then = forward_distribution(noising, x0, t), forward_distribution(noising, x0, t - 1)
        at_mean = reverse_distribution(noising, now.mean, x0, t)
        slope = reverse_distribution(noising, now.mean + 1, x0, t).mean - at_mean.mean
        close(at_mean.mean, then.mean)
        close(at_mean.variance + slope.square().mean() * now.variance, then.variance)


@pytest.mark.parametrize("make", [schedule.constant, schedule.cosine], ids=lambda make: make.__name__)
def test_forward_chains_end_in_noise_and_reverse_ones_in_the_data(make):
    noising, data = make(50), Gaussian1D(mean=1.0, variance=0.25)
    x0 = data.draw(CHAINS, torch.Generator().manual_seed(0)).x0.double()
    forward = dict(forward_chain(noising, x0, NoiseStream(1, CHAINS, (1,))))
    assert list(forward) == list(range(51))
    assert stats.kstest(forward[50][:, 0].numpy(), "norm").pvalue > 0.01
    noise = NoiseStream(2, CHAINS, (1,))
    reverse = dict(reverse_chain(noising, noise().double(), x0, noise))
    assert list(reverse) == list(range(50, -1, -1))
    for t, x in [*forward.items(), *reverse.items()]:
        level = noising.level(t, like=x)
        variance = float(level.alpha**2 * 0.25 + level.sigma**2)
        assert abs(x.mean().item() - float(level.alpha)) < 4 * math.sqrt(variance / CHAINS), t
        assert abs(x.var().item() - variance) < 4 * variance * math.sqrt(2 / CHAINS), t
    end = reverse[0]
    assert abs(end.mean().item() - 1) < 3 * 0.5 / math.sqrt(CHAINS)
    assert abs(end.var().item() - 0.25) < 3 * 0.25 * math.sqrt(2 / CHAINS)
    close(end, x0)
