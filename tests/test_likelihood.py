"""Likelihoods against laws known in closed form."""

import math

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.dataset.exact import Gaussian1D, GaussianMixture
from diffusion_cli.dataset.plane import Ring
from diffusion_cli.denoiser import ExactDenoiser, MeasuredVariance
from diffusion_cli.metrics import likelihood
from diffusion_cli.metrics.likelihood import flow_log_prob, log_likelihood, variational_terms
from diffusion_cli.noise import NoiseStream

MIXTURE = GaussianMixture()
N = 2_000


def exact(data, make=schedule.loglinear, T=50):
    return ExactDenoiser(data.density, make(T))


def noised(density, noising, n, t=1.0):
    x0, label, _ = density.sample(n, torch.Generator().manual_seed(0))
    level = noising.level(t, like=x0.double())
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return level.alpha * x0 + level.sigma * eps, level, label


@pytest.mark.parametrize("make", [schedule.loglinear, schedule.cosine], ids=lambda make: make.__name__)
def test_the_flow_of_the_exact_score_has_the_true_density(make):
    denoiser = exact(MIXTURE, make)
    x_1, level, label = noised(MIXTURE.density, denoiser.schedule, N)
    true = MIXTURE.density.log_prob(x_1, level.alpha, level.sigma)
    error = flow_log_prob(denoiser, x_1, steps=50) - true
    assert abs(error.mean().item()) < 1e-3  # asked: 0.01
    assert error.square().mean().sqrt().item() < 0.03  # at x_T, which is not quite N(0, 1)
    few = slice(0, 200)
    given = flow_log_prob(denoiser, x_1[few], label=label[few], steps=50)
    true = MIXTURE.density.log_prob(x_1[few], level.alpha, level.sigma, label[few])
    assert (given - true).mean().abs().item() < 5e-3


def test_the_flow_of_clean_points_is_the_datas_but_for_the_blur():
    denoiser = exact(MIXTURE)
    x0 = MIXTURE.density.sample(N, torch.Generator().manual_seed(0)).x0
    error = log_likelihood(denoiser, x0, steps=50) - MIXTURE.density.log_prob(x0.double(), 1.0, 0.0)
    assert abs(error.mean().item()) < 1e-3


def test_the_flow_of_a_gaussian_is_exact_in_closed_form():
    """For N(m, p) the probability-flow map is affine: log p of it has one number to get wrong."""
    data = Gaussian1D(mean=0.0, variance=0.25)
    noising = schedule.cosine(50)
    x_1, level, _ = noised(data.density, noising, 50)
    got = flow_log_prob(exact(data, schedule.cosine), x_1, steps=100)
    # x_T = x_1 s_T / s_1 with s_t the standard deviation of x_t: the prior N(0, 1) is read at that point.
    last = noising.level(50, like=x_1)
    s_1, s_T = (math.sqrt(0.25 * float(x.alpha) ** 2 + float(x.sigma) ** 2) for x in (level, last))
    x_T = x_1[:, 0] * s_T / s_1
    want = -(x_T**2 + math.log(2 * math.pi)) / 2 + math.log(s_T / s_1)
    assert (got - want).abs().max().item() < 1e-4


def test_it_may_start_later_and_on_a_curve():
    ring = Ring(1.0)
    denoiser = ExactDenoiser(ring, schedule.loglinear(50))
    x_t, level, _ = noised(ring, denoiser.schedule, 300, t=15.0)
    error = flow_log_prob(denoiser, x_t, 15.0, steps=50) - ring.log_prob(x_t, level.alpha, level.sigma)
    assert abs(error.mean().item()) < 5e-3


def test_hutchinson_is_unbiased():
    """In one dimension a sign squared is 1: the estimate is exact. In two, its mean is."""
    line = Gaussian1D()
    x, *_ = noised(line.density, schedule.cosine(50), 20)
    options = {"steps": 20, "probes": 1, "generator": torch.Generator().manual_seed(0)}
    known = flow_log_prob(exact(line, schedule.cosine), x, steps=20)
    assert torch.allclose(flow_log_prob(exact(line, schedule.cosine), x, **options), known, atol=1e-9)
    x, *_ = noised(MIXTURE.density, schedule.cosine(50), 1_000)
    gap = flow_log_prob(exact(MIXTURE, schedule.cosine), x, **options)
    gap = gap - flow_log_prob(exact(MIXTURE, schedule.cosine), x, steps=20)
    assert gap.std().item() > 0.01
    assert abs(gap.mean().item()) < 4 * gap.std().item() / math.sqrt(len(x))
    with pytest.raises(ValueError, match="generator"):
        flow_log_prob(exact(line), x, probes=1)


def test_the_bound_is_tight_where_the_reverse_steps_are_exact():
    """For Gaussian data the analytic variance makes every reverse step the true one: the bound is the entropy."""
    data = Gaussian1D()
    denoiser = MeasuredVariance(exact(data, schedule.cosine), data, seed=0)
    x0 = data.density.sample(20_000, torch.Generator().manual_seed(3)).x0.double()
    terms = variational_terms(denoiser, x0, NoiseStream(4, len(x0), (1,)))
    assert terms.shape == (51, len(x0))
    entropy = math.log(2 * math.pi * math.e * 0.25) / 2
    got = likelihood.Estimate.of(terms.sum(0))
    assert abs(got.value - entropy) < 4 * got.error
    assert got.error < 0.03
    assert (terms[1:].mean(1) > -1e-12).all()
    wider = variational_terms(exact(data, schedule.cosine), x0, NoiseStream(4, len(x0), (1,)))
    worse = likelihood.Estimate.of((wider - terms).sum(0))  # beta is not the best variance
    assert worse.value > 4 * worse.error


def test_the_terms_of_the_bound_by_hand():
    """T = 1: the decoder alone, and the prior's divergence, both of one point."""
    noising = schedule.constant(1, beta=0.995)
    denoiser = ExactDenoiser(Gaussian1D(mean=0.0, variance=1.0).density, noising)
    x0, eps = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    alpha, sigma = math.sqrt(0.005), math.sqrt(0.995)
    x_1 = alpha * 0.7 + sigma * -0.4
    given = variational_terms(denoiser, x0, lambda: eps, variance=lambda level, prediction: torch.tensor(0.3))
    # E[x0 | x_1] = alpha x_1 for unit data
    decoder = ((0.7 - alpha * x_1) ** 2 / 0.3 + math.log(2 * math.pi * 0.3)) / 2
    prior = (0.995 + (alpha * 0.7) ** 2 - 1 - math.log(0.995)) / 2
    assert given[:, 0].tolist() == pytest.approx([decoder, prior], abs=1e-7)


def test_entropy_and_bits():
    data = Gaussian1D(mean=2.0, variance=0.09)
    got = likelihood.entropy(data.density, 50_000, torch.Generator().manual_seed(0))
    want = math.log(2 * math.pi * math.e * 0.09) / 2
    assert abs(got.value - want) < 4 * got.error < 0.02
    assert likelihood.bits(got.value, (1,)) == pytest.approx(got.value / math.log(2))
    assert likelihood.bits(1.0, (2, 3)) == pytest.approx(1 / (6 * math.log(2)))
    assert likelihood.entropy(Ring(1.0), 10, torch.Generator()) is None
