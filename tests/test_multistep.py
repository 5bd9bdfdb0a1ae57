"""Multistep samplers: diffusers' schedulers step by step, and the order at which each converges."""

import math
import warnings

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.dataset.plane import Ring
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.sampler import DDIM, Multistep

# diffusers' own
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RING = ExactDenoiser(Ring(1.0), schedule.linear(100))
TIMES = [100, 90, 81, 64, 50, 41, 33, 26, 20, 15, 11, 7, 4, 1]


def normal(n):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def against(theirs, ours):
    """Max abs difference of all states of a chain, ours and a diffusers scheduler's, over uneven times in float64."""
    x = y = normal(64)
    theirs.set_timesteps(len(TIMES) - 1)
    levels = [RING.schedule.level(t, x) for t in TIMES]
    theirs.sigmas = torch.stack([level.sigma / level.alpha for level in levels])
    theirs.timesteps = torch.tensor(TIMES[:-1]) - 1
    worst = 0.0
    for t, state in zip(TIMES, list(ours(RING, x, times=TIMES))[1:], strict=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = theirs.step(RING(y, t).eps, t - 1, y).prev_sample
        worst = max(worst, (state.x - y).abs().max().item())
    return worst


def theirs_of(kind, **options):
    diffusers = pytest.importorskip("diffusers")
    options |= {"lower_order_final": False, "final_sigmas_type": "sigma_min"}
    options.pop("final_sigmas_type") if kind == "DEISMultistepScheduler" else None
    return getattr(diffusers, kind)(100, **options)


@pytest.mark.parametrize("order", [1, 2])
def test_dpmpp_equals_diffusers(order):
    theirs = theirs_of("DPMSolverMultistepScheduler", solver_order=order, solver_type="midpoint")
    assert against(theirs, Multistep(order=order)) < 1e-5


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_predictors_of_unipc_equal_diffusers(order):
    """Of order 3 this is DPM-Solver++(3M) as it follows from the integral. diffusers' DPMSolverMultistepScheduler halves its
    second difference, which makes it converge at order 2."""
    theirs = theirs_of("UniPCMultistepScheduler", solver_order=order, disable_corrector=list(range(100)))
    assert against(theirs, Multistep(order=order)) < 1e-5


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_equals_diffusers(order):
    theirs = theirs_of("UniPCMultistepScheduler", solver_order=order)
    assert against(theirs, Multistep(order=order, corrector=True)) < 1e-5


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis_equals_diffusers(order):
    theirs = theirs_of("DEISMultistepScheduler", solver_order=order)
    assert against(theirs, Multistep(order=order, form="eps")) < 1e-5


@pytest.mark.parametrize("form", ["x0", "eps"])
def test_of_first_order_it_is_ddim(form):
    x = normal(64)
    for ours, theirs in zip(Multistep(order=1, form=form)(RING, x), DDIM()(RING, x), strict=True):
        assert torch.allclose(ours.x, theirs.x, atol=1e-12)


MIXTURE = ExactDenoiser(GaussianMixture().density, schedule.loglinear(2000))


def end(**options):
    *_, last = Multistep(grid="log_snr", **options)(MIXTURE, normal(100))
    return last.x


@pytest.fixture(scope="module")
def truth():
    return end(steps=1000, order=3, corrector=True)


@pytest.mark.parametrize(
    ("form", "order", "corrector", "expected"),
    [
        ("x0", 1, False, 1),
        ("eps", 1, False, 1),
        ("x0", 2, False, 2),
        ("eps", 2, False, 2),
        ("x0", 3, False, 3),
        ("eps", 3, False, 3),
        ("x0", 1, True, 2),
        ("x0", 2, True, 3),
        ("x0", 3, True, 4),
    ],
)
def test_each_converges_at_its_order(truth, form, order, corrector, expected):
    """On the two-pixel mixture with the exact score: the slope of the end points' error from 128 to 256 steps."""
    options = {"form": form, "order": order, "corrector": corrector}
    coarse, fine = ((end(steps=n, **options) - truth).norm(dim=1).mean() for n in (128, 256))
    assert math.log2(coarse / fine) == pytest.approx(expected, abs=0.15)


def test_bad_options_are_named():
    with pytest.raises(ArgumentError, match=r"order=4: .*choose from 1, 2, 3"):
        Multistep(order=4)
    with pytest.raises(ArgumentError, match=r"form=v: .*choose from x0, eps"):
        Multistep(form="v")
