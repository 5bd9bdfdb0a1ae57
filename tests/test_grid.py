"""Fitted times: nearer to the exact way than any fixed grid, held at both ends, found once."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusion_cli import Run, schedule
from diffusion_cli.__main__ import main
from diffusion_cli.dataset.exact import Gaussian1D
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.figures.recipes.process import without_noise
from diffusion_cli.noise import NoiseStream
from diffusion_cli.sampler import DDIM, DDPM, Heun, Multistep
from diffusion_cli.sampler.grid import fitted_times

SCHEDULE = schedule.loglinear()
EXACT = ExactDenoiser(Gaussian1D().density, SCHEDULE)
X_T = NoiseStream(3, 256, (1,))()


def error(sampler, times=None, x_T=X_T):
    """Mean distance of the ends from those of 200 steps."""
    *_, fine = Multistep(steps=200, grid="log_snr")(EXACT, x_T)
    *_, end = sampler(EXACT, x_T, times=times)
    return float((end.x - fine.x).abs().mean())


@pytest.mark.parametrize("kind", [Multistep, DDIM, Heun])
def test_fitted_times_beat_every_fixed_grid_on_other_noise(kind):
    sampler = kind(steps=5, grid="fitted")
    times = fitted_times(sampler, EXACT, X_T)
    assert len(times) == 6 and (times[0], times[-2], times[-1]) == (50, 1, 0)
    assert all(a > b for a, b in itertools.pairwise(times))
    other = NoiseStream(4, 256, (1,))()
    fixed = [error(kind(steps=5, grid=grid), x_T=other) for grid in ("uniform", "log_snr", "rho")]
    assert error(sampler, times, other) < 0.8 * min(fixed)


def test_where_there_is_no_gap_to_choose_the_ends_are_all():
    assert fitted_times(Multistep(steps=2, grid="fitted"), EXACT, X_T) == [50, 1, 0]
    assert fitted_times(Multistep(steps=1, grid="fitted"), EXACT, X_T) == [50, 0]


def deviation_after_ddpm(times, variance=0.25):
    """Standard deviation at the end of DDPM's chain with the exact score of a Gaussian: its steps are linear."""
    levels = SCHEDULE.level(torch.tensor(times), like=torch.zeros(1, dtype=torch.float64))
    pairs = [*zip(levels.alpha.tolist(), levels.sigma.tolist(), strict=True)]
    v = 1.0
    for (alpha_t, sigma_t), (alpha_s, sigma_s) in itertools.pairwise(pairs):
        beta = 1 - (alpha_t / alpha_s) ** 2
        # x0 is `guess` times x, and the mean of the posterior of_x0 x0 + of_x x, both but for a constant
        guess = alpha_t * variance / (alpha_t**2 * variance + sigma_t**2)
        of_x0, of_x = alpha_s * beta / sigma_t**2, alpha_t / alpha_s * (sigma_s / sigma_t) ** 2
        v = (of_x0 * guess + of_x) ** 2 * v + (beta if sigma_s > 0 else 0.0)
    return v**0.5


@pytest.mark.parametrize("steps", [8, 15, 50])
def test_with_noise_steps_are_short_where_x0_moves(steps):
    times = fitted_times(DDPM(steps=steps, grid="fitted"), EXACT, X_T)
    assert len(times) == steps + 1 and (times[0], times[-2], times[-1]) == (50, 1, 0)
    assert all(a > b for a, b in itertools.pairwise(times))
    fixed = [DDPM(steps=steps, grid=grid).times(SCHEDULE) for grid in ("uniform", "log_snr", "rho")]
    wrong, *others = (abs(deviation_after_ddpm(of) - 0.5) for of in (times, *fixed))
    assert wrong < 0.7 * min(others)


def test_a_sampler_wants_its_fitted_times():
    assert fitted_times(DDIM(steps=5, grid="fitted", eta=0.5), EXACT, X_T) == fitted_times(
        DDPM(steps=5, grid="fitted"), EXACT, X_T
    )
    with pytest.raises(ArgumentError, match="grid=fitted: its times are not given"):
        Multistep(steps=5, grid="fitted").times(SCHEDULE)


def test_the_command_fits_once_and_finds_the_times_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    line = [
        "sample",
        "run=exact",
        "dataset=gaussian1d",
        "sampler=dpmpp",
        "sampler.steps=4",
        "n=50",
        "plots=false",
    ]
    for k, (more, fits) in enumerate((([], True), ([], False), (["sampler.order=1"], True))):
        assert main([*line, "sampler.grid=fitted", *more, f"hydra.run.dir={k}"]) == 0
        assert ("fitting the times of 4 steps" in (tmp_path / f"{k}" / "sample.log").read_text()) == fits
    drawn = [np.load(tmp_path / f"{k}" / "samples.npz")["x0"] for k in range(3)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


def test_a_network_in_training_takes_the_grid_in_log_snr(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    small = ["steps=20", "stages.every=10", "stages.n=20", "n=20", "model.width=8", "batch_size=16", "evaluation.n=50",
             "evaluation.floor_draws=2"]  # fmt: skip
    line = ["train", "dataset=gaussian1d", "sampler=dpmpp", "sampler.steps=4", "sampler.grid=fitted", *small]
    assert main([*line, "hydra.run.dir=run"]) == 0
    assert (tmp_path / "run" / "train.log").read_text().count("fitting the times") == 1
    assert torch.isfinite(torch.from_numpy(np.load("run/samples.npz")["x0"])).all()


def test_a_sampler_that_replaces_the_configured_one_has_times_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path))
    run = Run.exact("dataset=gaussian1d", "sampler=ddpm", "sampler.grid=fitted", "sampler.steps=6")
    components = run.components(quiet=True)
    others = [DDPM(steps=9, grid="fitted"), DDIM(steps=6, grid="fitted")]
    times = [components.times, *(replace(components, sampler=sampler).times for sampler in others)]
    assert [len(of) for of in times] == [7, 10, 7] and times[0] != times[2]
    # without its noise it goes through the same times
    smooth = without_noise(components.walking)
    assert not smooth.noisy and replace(components, sampler=smooth).times == times[0]
