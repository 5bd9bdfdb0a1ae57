"""Schedules against their formulas and against diffusers' tables."""

import math

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.errors import ArgumentError

ALL = {
    "constant": schedule.constant,
    "linear": schedule.linear,
    "quadratic": schedule.quadratic,
    "sigmoid": schedule.sigmoid,
    "cosine": schedule.cosine,
    "loglinear": schedule.loglinear,
    "flow": schedule.flow,
}
THEIRS = {
    "linear": "linear",
    "quadratic": "scaled_linear",
    "sigmoid": "sigmoid",
    "cosine": "squaredcos_cap_v2",
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("T", [20, 50, 1000])
def test_tables_equal_diffusers(name, T):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(T, beta_schedule=THEIRS[name], beta_start=1e-4, beta_end=0.02)
    own = {} if name == "cosine" else {"rescale": False}
    with pytest.warns(UserWarning, match=name) if T < 1000 and own else _silent():
        ours = ALL[name](T, **own)
    assert torch.allclose(
        ours.alpha_bar[1:].float(), theirs.alphas_cumprod, rtol=2e-4 if name == "cosine" else 1e-5, atol=1e-9
    )
    if name == "cosine":  # diffusers clips beta at 0.999 too
        assert torch.allclose((1 - ours.alpha_bar[1:] / ours.alpha_bar[:-1]).float(), theirs.betas, atol=1e-6)


class _silent:
    def __enter__(self): ...
    def __exit__(self, *error): ...


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
@pytest.mark.parametrize("T", [1, 2, 5, 50, 1000])
@pytest.mark.filterwarnings("ignore:schedule constant")
def test_every_schedule_falls_from_one_to_noise(make, T):
    s = make(T)
    assert s.T == T and s.alpha_bar.dtype == torch.float64
    assert s.alpha_bar[0] == 1 and (s.alpha_bar.diff() < 0).all()
    if T >= 50:
        assert s.alpha_bar[-1] < schedule.PURE_NOISE


def test_rescaling_keeps_the_end_of_the_thousand_step_schedule():
    assert torch.equal(schedule.linear(1000).alpha_bar, schedule.linear(1000, rescale=False).alpha_bar)
    at_1000 = schedule.linear(1000).alpha_bar[-1].log()
    assert schedule.linear(50).alpha_bar[-1].log() == pytest.approx(at_1000.item(), rel=0.01)


def test_loglinear_is_log_uniform_in_the_noise_ratio():
    s = schedule.loglinear(50, 0.01, 20.0)
    noise = -s.log_snr[1:] / 2
    assert noise[0] == pytest.approx(math.log(0.01)) and noise[-1] == pytest.approx(math.log(20))
    assert torch.allclose(noise.diff(), noise.diff()[:1].expand(49))


def test_warns_by_name_when_the_end_is_not_noise():
    with pytest.warns(UserWarning, match=r"schedule linear: alpha_bar\[T=50\] = 0.6.* is not noise"):
        schedule.linear(50, rescale=False)


def test_levels_agree_between_a_number_whole_times_and_real_times():
    s, x = schedule.cosine(20), torch.zeros(3, 2, 2)
    t = torch.tensor([1, 7, 20])
    whole, real = s.level(t, x), s.level(t.double(), x)
    for name in ("alpha", "sigma", "beta"):
        one = torch.stack([getattr(s.level(int(k), x), name) for k in t]).float()
        assert getattr(whole, name).shape == (3, 1, 1)
        assert torch.equal(getattr(whole, name).flatten(), one)
        assert torch.equal(getattr(real, name), getattr(whole, name))
    assert torch.allclose(whole.alpha**2 + whole.sigma**2, torch.ones(3, 1, 1))
    assert torch.allclose(whole.noise_level, -s.log_snr[t].float() / 2, rtol=1e-5)


def test_time_of_inverts_log_snr_and_stays_in_the_schedule():
    s, x = schedule.cosine(20), torch.zeros(1, dtype=torch.float64)
    t = torch.tensor([1.0, 1.5, 7.25, 19.9, 20.0], dtype=torch.float64)
    log_snr = torch.stack([2 * (s.level(k, x).alpha / s.level(k, x).sigma).log() for k in t])
    assert torch.allclose(s.time_of(log_snr), t, atol=1e-9)
    assert s.time_of(torch.tensor([1e9, -1e9])).tolist() == [1.0, 20.0]


def test_beta_composes_single_steps_into_the_jump():
    s, x = schedule.quadratic(30), torch.zeros(1, dtype=torch.float64)
    kept = torch.stack([1 - s.level(t, x).beta for t in range(1, 31)]).cumprod(0)
    assert torch.allclose(kept, s.alpha_bar[1:], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "options", "key"),
    [
        (schedule.constant, {"beta": 1.0}, "beta"),
        (schedule.constant, {"T": 0}, "T"),
        (schedule.constant, {"T": 100_000}, "alpha_bar"),
        (schedule.linear, {"beta_min": 0.0}, "beta_min"),
        (schedule.linear, {"beta_min": "abc"}, "beta_min"),
        (schedule.linear, {"beta_min": 0.03}, "beta_max"),
        (schedule.quadratic, {"beta_max": 1e-4}, "beta_max"),
        (schedule.sigmoid, {"beta_max": 1}, "beta_max"),
        (schedule.sigmoid, {"rescale": 1}, "rescale"),
        (schedule.cosine, {"alpha_min": 0.0}, "alpha_min"),
        (schedule.cosine, {"s": -0.1}, "s"),
        (schedule.loglinear, {"sigma_min": 3.0, "sigma_max": 2.0}, "sigma_max"),
    ],
)
def test_bad_values_are_named(make, options, key):
    with pytest.raises(ArgumentError) as error:
        make(**{"T": 10, **options})
    assert error.value.argument == key


def test_a_table_that_does_not_fall_is_refused():
    for values in ([1.0, 0.5, 0.5], [0.9, 0.5], [1.0, 0.5, 0.0], [1.0, float("nan")]):
        with pytest.raises(ArgumentError, match=r"alpha_bar: must fall strictly .*schedule mine"):
            schedule.Schedule("mine", torch.tensor(values, dtype=torch.float64))
