"""Figures of lines and mixtures: the data behind them against the exact distribution."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy import stats

from diffusion_cli import components as components_module
from diffusion_cli.errors import UserError
from diffusion_cli.figures import draw as drawing
from diffusion_cli.figures.recipes import line, mixture
from diffusion_cli.figures.recipes.material import density_on_line, states_of
from diffusion_cli.figures.recipes.study import fresh
from diffusion_cli.options.files import node_of
from diffusion_cli.runs.directory import RunDirectory


def build(dataset, schedule="constant", sampler="ddim", guidance=None, label=None, **keys):
    """The components of options, with the exact denoiser."""
    guidance = guidance or ("cfg" if dataset == "gmm2px" else "none")
    groups = {"dataset": dataset, "schedule": schedule, "sampler": sampler, "guidance": guidance}
    groups |= {
        "objective": "mse",
        "parameterization": "eps",
        "model": "mlp",
        "optimizer": "adamw",
        "evaluation": "points",
    }
    config = {group: node_of(group, name) for group, name in groups.items()} | keys
    config["model"] |= {"width": 16, "depth": 1}
    if guidance != "none":
        config["guidance"] |= {"w" if guidance == "cfg" else "s": 1.0}
    fixed = {"seed": 0, "device": "cpu", "precision": "fp32", "label": label, "sample_batch": 10_000, "n": 10}
    return components_module.build(config | fixed)


def draw(components, figure, **options):
    return drawing.draw(node_of("figure", figure) | options, components)


@pytest.fixture(scope="module")
def trained():
    """Components with a network as it was initialised."""
    components = build("gmm2px")
    return replace(components, net=components.new_net().eval(), run=RunDirectory("nowhere"))


@pytest.mark.parametrize("schedule", ["constant", "linear", "quadratic", "cosine"])
def test_forward1d_shows_noise_that_passes_for_normal(schedule):
    components = build("gaussian1d", schedule)
    figure = draw(components, "forward1d", n=2_000)
    assert isinstance(figure, Figure)
    paths, side = figure.axes
    assert len(paths.lines) >= 100  # trajectories
    assert f"{schedule} schedule, T = 50" in paths.get_title()
    assert len(side.lines) == 1 and len(side.patches) >= 10
    times, shown, ends = line.forward_paths(components, 2_000, 5)
    assert times == list(range(51)) and shown.shape == (5, 51) and np.array_equal(shown[:, -1], ends[:5])
    assert stats.kstest(ends, "norm").pvalue > 0.01


def test_reverse1d_ends_in_the_data():
    components = build("gaussian1d", "cosine")
    assert len(draw(components, "reverse1d", n=500).axes[0].lines) >= 100
    times, _, ends = line.reverse_paths(components, 4_000, 5)
    assert times == list(range(50, -1, -1))
    assert stats.kstest(ends, "norm", args=(1, 0.5)).pvalue > 0.01
    grid = np.linspace(-1, 3, 50)
    assert density_on_line(components)(grid) == pytest.approx(stats.norm(1, 0.5).pdf(grid), abs=1e-5)


def test_trajectories_on_a_line_are_the_samplers_own():
    components = build("twopoint", "loglinear", guidance="none")
    figure = draw(components, "trajectories", n=20, background=200)
    # Points have no density.
    assert len(figure.axes[0].lines) == 20 and not figure.axes[1].lines
    assert np.abs(np.abs(states_of(components, 200).x[-1]) - 0.5).max() < 1e-3


def test_twopoint_draws_forward_solid_and_reverse_dashed():
    components = build("twopoint")
    (axes,) = draw(components, "twopoint", shown=7).axes
    styles = [drawn.get_linestyle() for drawn in axes.lines]
    assert styles.count("-") == 7 and styles.count("--") == 7
    assert line.atoms(components).tolist() == [-0.5, 0.5]
    assert set(np.abs(line.forward_paths(components, 30, 30).paths[:, 0])) == {0.5}
    assert set(np.abs(line.reverse_paths(components, 30, 1).ends)) == {0.5}
    with pytest.raises(UserError, match="dataset=twopoint"):
        draw(build("gaussian1d"), "twopoint")


@pytest.mark.parametrize("figure", ["forward1d", "reverse1d", "twopoint"])
def test_a_line_is_needed(figure):
    with pytest.raises(UserError, match=f"figure={figure}: draws data on a line"):
        draw(build("gmm2px"), figure)


def test_the_density_is_the_exact_one():
    components = build("gmm2px")
    for t, half in ((0, 2), (10, 6)):
        image = mixture.exact_density(components, (-half, half, -half, half), t)
        assert np.exp(image).sum() * (2 * half / mixture.PIXELS) ** 2 == pytest.approx(1, abs=1e-5)
    extent = (-1.5, 1.5, -1.5, 1.5)
    image = mixture.exact_density(components, extent, 0)
    row, column = np.unravel_index(image.argmax(), image.shape)  # the heavier mode, at (0.75, -0.45)
    assert [column, row] == pytest.approx([mixture.PIXELS * 0.75, mixture.PIXELS * 0.35], abs=1)
    draw(components, "density", samples=20)
    with pytest.raises(UserError, match=r"figure\.t"):
        draw(build("circle", guidance="none"), "density")


@pytest.mark.parametrize("estimate", ["histogram", "kde"])
def test_estimates_agree_with_the_truth(estimate):
    components = build("gmm2px")
    x = components.dataset.draw(20_000, torch.Generator().manual_seed(0)).x0.numpy()
    extent = (-1.5, 1.5, -1.5, 1.5)
    image = np.exp(mixture.estimated_density(x, extent, estimate))
    true = np.exp(mixture.exact_density(components, extent, 0))
    coarse = mixture.BINS // 3  # cells as wide as a mode
    image, true = (
        a.reshape(coarse, len(a) // coarse, coarse, -1).sum((1, 3)) / a.sum() for a in (image, true)
    )
    assert np.abs(image - true).sum() / 2 < (0.05 if estimate == "histogram" else 0.12)


def test_trajectory_over_densities():
    components = build("gmm2px")
    figure = draw(components, "trajectory_density", n=300, estimate="histogram")
    assert [axes.get_title() for axes in figure.axes[:6]] == [
        *(f"t = {t}" for t in (50, 40, 30, 20, 10)),
        "truth",
    ]
    for bad in ({"times": [60]}, {"sample": 300}, {"estimate": "guess"}):
        with pytest.raises(UserError, match=f"figure.{next(iter(bad))}"):
            draw(components, "trajectory_density", n=300, **bad)


def test_excess_of_a_loss_over_the_exact_one(trained):
    """It is the difference of the two in expectation, with no noise of its own, so that it is never negative."""
    figure = draw(trained, "loss_by_timestep", n=4000)
    (network, exact), (excess, _) = (ax.get_lines() for ax in figure.axes)
    difference = network.get_ydata() - exact.get_ydata()
    assert (excess.get_ydata() >= 0).all()
    np.testing.assert_allclose(excess.get_ydata(), difference, atol=0.1 * network.get_ydata().max())
    figure = draw(trained, "bound", n=200)
    assert len(figure.axes) == 2 and figure.axes[1].get_ylabel() == "bits per dimension, above the exact"


def test_in_the_plane_ddim_stands_beside_a_sampler_with_noise():
    figure = draw(build("gmm2px", sampler="ddpm"), "trajectories", n=3, background=20)
    own, smooth = figure.axes[:2]
    assert smooth.get_title() == "by DDIM, without noise"
    np.testing.assert_array_equal(own.lines[0].get_xydata(), smooth.lines[0].get_xydata())
    assert not np.array_equal(own.lines[1].get_xydata(), smooth.lines[1].get_xydata())
    assert len(draw(build("gmm2px", sampler="ddim"), "trajectories", n=3, background=20).axes) == 2


def test_guidance_is_compared_from_the_same_noise(trained):
    components = build("gmm2px")
    panels = draw(components, "guidance_trajectories", n=3, background=50).axes[:6]
    assert panels[0].get_title() == "label 0, w = 0" and panels[5].get_title() == "label 1, w = 3"
    starts = [axes.lines[0].get_xydata() for axes in panels]
    assert all(np.array_equal(start, starts[0]) for start in starts)
    # One label; the other axes is the colour bar.
    one = draw(build("gmm2px", label=1), "guidance_trajectories", n=3, background=50, values=[2])
    assert len(one.axes) == 2
    guidance = node_of("guidance", "classifier") | {"run": "exact", "s": 1.0}
    by_classifier = components_module.build(components.config | {"guidance": guidance, "label": 1})
    (panel, _) = draw(by_classifier, "guidance_trajectories", n=3, background=9, values=[2]).axes
    assert panel.get_title() == "label 1, s = 2"
    with pytest.raises(UserError, match="guidance=cfg"):
        draw(build("gmm2px", guidance="none"), "guidance_trajectories")
    figure = draw(trained, "guided_comparison", n=20)
    assert len(figure.axes) == 6 and "rms distance" in figure.axes[0].get_title()
    pairs = next(c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    assert len(pairs.get_segments()) == 20
    with pytest.raises(UserError, match="needs a trained run"):
        draw(components, "guided_comparison")


def test_the_error_of_a_network_by_noise_level(trained):
    """The mean square difference of the velocities themselves, whatever the network puts out."""
    (axes,) = draw(trained, "error_by_level", n=100).axes
    (drawn,) = axes.lines
    schedule, density = trained.schedule, trained.dataset.density
    ratio = torch.sqrt(1 / schedule.alpha_bar - 1)[1:]
    assert axes.get_xscale() == "log" and np.allclose(drawn.get_xdata(), ratio)
    x0, label, noise = fresh(trained, 100)
    for time, error in enumerate(drawn.get_ydata(), 1):
        level = schedule.level(time, like=x0)
        x_t = level.alpha * x0 + level.sigma * noise()
        velocity = (
            level.alpha * x_t - density.posterior_mean(x_t, level.alpha, level.sigma, label)
        ) / level.sigma
        net = trained.network_denoiser(trained.net)(x_t.float(), time, label)
        own = level.alpha * net.eps - level.sigma * net.x0
        assert error == pytest.approx(float((own - velocity).square().sum(1).mean()), rel=1e-3)
    with pytest.raises(UserError, match="needs a trained run"):
        draw(build("gmm2px"), "error_by_level")


def test_losses_and_bounds_over_time(trained):
    axes, _ = draw(trained, "loss_by_timestep", n=100).axes
    network, exact = (drawn.get_ydata() for drawn in axes.lines)
    # An untrained network predicts eps = 0.
    assert network == pytest.approx(np.ones(50), abs=0.5)
    assert (exact < network).mean() > 0.9
    axes, _ = draw(trained, "bound", n=100).axes
    assert [drawn.get_label()[:7] for drawn in axes.lines] == ["network", "exact d"]
    assert len(axes.lines[0].get_xdata()) == 49
    with pytest.raises(UserError, match="needs a trained run"):
        draw(build("gmm2px"), "loss_by_timestep")
