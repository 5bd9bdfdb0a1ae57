"""Parameterizations: round trips, the identities of the papers, and gains as derivatives."""

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.prediction import X0, Eps, Mean, V, Velocity

EACH = [Eps(), X0(), V(), V(sigma_data=0.3), Velocity(), Mean()]


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(0)
    s = schedule.cosine(40)
    t = torch.arange(2, 40)
    x0, eps = torch.randn(2, len(t), 2, 3, generator=g, dtype=torch.float64)
    level = s.level(t, x0)
    return x0, eps, level, level.alpha * x0 + level.sigma * eps


@pytest.mark.parametrize("p", EACH, ids=str)
def test_decoding_the_target_gives_back_x0_and_eps(p, case):
    x0, eps, level, x_t = case
    back = p.decode(p.target(x0, eps, level), x_t, level)
    assert torch.allclose(back.x0, x0, atol=1e-9) and torch.allclose(back.eps, eps, atol=1e-9)


@pytest.mark.parametrize("p", EACH, ids=str)
def test_any_output_decodes_to_a_point_on_the_noising_line(p, case):
    _, other, level, x_t = case
    made = p.decode(other.flip(0), x_t, level)
    assert torch.allclose(level.alpha * made.x0 + level.sigma * made.eps, x_t, atol=1e-9)


@pytest.mark.parametrize("p", EACH, ids=str)
def test_gain_is_the_size_of_an_output_error_for_an_eps_error(p, case):
    x0, eps, level, x_t = case
    output = p.target(x0, eps, level)
    error = p.decode(output + 1e-3, x_t, level).eps - eps
    assert torch.allclose(error.abs() * p.gain(level), torch.full_like(eps, 1e-3), rtol=1e-6)


def test_v_is_that_of_salimans_and_ho(case):
    x0, eps, level, _ = case
    assert torch.allclose(V().target(x0, eps, level), level.alpha * eps - level.sigma * x0)


def test_v_at_any_sigma_data_is_edms_preconditioning(case):
    """Karras et al. 2022, table 1: D = c_skip x + c_out F(c_in x), with x = x_t / alpha and F = -v."""
    x0, eps, level, x_t = case
    sigma, data = level.sigma / level.alpha, 0.3
    x = x_t / level.alpha
    c_skip = data**2 / (sigma**2 + data**2)
    c_out = sigma * data / (sigma**2 + data**2).sqrt()
    c_in = 1 / (sigma**2 + data**2).sqrt()
    p = V(sigma_data=data)
    assert torch.allclose(-p.target(x0, eps, level), (x0 - c_skip * x) / c_out)
    assert torch.allclose(p.scale(level) * x_t, c_in * x)
    output = torch.randn_like(x0)
    assert torch.allclose(p.decode(-output, x_t, level).x0, c_skip * x + c_out * output)


def test_mean_is_the_posterior_mean_of_ho_et_al():
    s, t = schedule.linear(1000), 300
    x0, x_t = torch.randn(2, 5, 2, dtype=torch.float64)
    level = s.level(t, x0)
    eps = (x_t - level.alpha * x0) / level.sigma
    now, before = s.alpha_bar[t], s.alpha_bar[t - 1]
    beta = 1 - now / before
    mean = before.sqrt() * beta / (1 - now) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * x_t  # eq. 7
    assert torch.allclose(Mean().target(x0, eps, level), mean, atol=1e-12)
