"""Every figure of lines and mixtures, drawn from its own YAML; the data behind it against the law."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from scipy import stats

from diffusion_cli.components import Experiment, build
from diffusion_cli.errors import UserError
from diffusion_cli.figures.recipes import line, mixture, study
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.directory import Run

CONFIGS = Path(__file__).parents[1] / "configs"


def read(group, option):
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{option}.yaml"))


def config(dataset, schedule="constant", sampler="ddim", guidance="cfg", **keys):
    """The plain config of an experiment, of the same files as the commands compose."""
    node = read("dataset", dataset)["dataset"]
    groups = {
        "schedule": schedule,
        "sampler": sampler,
        "guidance": guidance,
        "model": "mlp",
        "optimizer": "adamw",
    }
    groups |= {"objective": "mse", "parameterization": "eps"}
    parts = {group: read(group, option) for group, option in groups.items()}
    parts["model"] |= {"width": 16, "depth": 1}
    fixed = {
        "seed": 0,
        "device": "cpu",
        "threads": None,
        "precision": "fp32",
        "compile": False,
        "label": None,
    }
    return {"dataset": node, "sample_batch": 10_000, "batch_size": 16, "n": 10} | parts | fixed | keys


def draw(experiment, figure, **changes):
    node = read("figure", figure)
    return build({"figure": node.get("figure", node) | changes}, "figure", experiment=experiment)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a network as it was initialised: (config, run)."""
    run = Run(tmp_path_factory.mktemp("run"))
    experiment = Experiment(config("gmm2px"))
    state = {"ema": experiment.new_net().state_dict(), "step": 1}  # all of it that figures read
    checkpoint.save(run.checkpoint_file(1), {"state": state, "config": experiment.config, "made_with": {}})
    return experiment.config, run


@pytest.mark.parametrize("schedule", ["constant", "linear", "quadratic", "cosine"])
def test_forward1d_shows_noise_that_passes_for_normal(schedule):
    experiment = Experiment(config("gaussian1d", schedule))
    figure = draw(experiment, "forward1d", n=2_000)
    assert isinstance(figure, Figure)
    paths, side = figure.axes
    assert len(paths.lines) >= 100  # trajectories
    assert f"{schedule} schedule, T = 50" in paths.get_title()
    assert len(side.lines) == 1 and len(side.patches) >= 10
    times, shown, ends = line.collect(line.forward_states(experiment, 2_000), 5)
    assert times == list(range(51)) and shown.shape == (5, 51) and np.array_equal(shown[:, -1], ends[:5])
    assert stats.kstest(ends, "norm").pvalue > 0.01


def test_reverse1d_ends_in_the_data():
    experiment = Experiment(config("gaussian1d", "cosine"))
    assert len(draw(experiment, "reverse1d", n=500).axes[0].lines) >= 100
    times, _, ends = line.collect(line.reverse_states(experiment, 4_000), 5)
    assert times == list(range(50, -1, -1))
    assert stats.kstest(ends, "norm", args=(1, 0.5)).pvalue > 0.01
    grid, density = line.law(experiment, ends)
    assert density == pytest.approx(stats.norm(1, 0.5).pdf(grid), abs=1e-5)


def test_trajectories1d_are_the_samplers_own():
    experiment = Experiment(config("twopoint", "loglinear", guidance="none"))
    figure = draw(experiment, "trajectories1d", n=200, shown=20)
    assert len(figure.axes[0].lines) == 20 and not figure.axes[1].lines  # points have no density
    *_, ends = line.collect(line.sampled_states(experiment, 200), 1)
    assert np.abs(np.abs(ends) - 0.5).max() < 1e-3


def test_twopoint_draws_forward_solid_and_reverse_dashed():
    experiment = Experiment(config("twopoint"))
    (axes,) = draw(experiment, "twopoint", shown=7).axes
    styles = [drawn.get_linestyle() for drawn in axes.lines]
    assert styles.count("-") == 7 and styles.count("--") == 7
    assert line.atoms(experiment).tolist() == [-0.5, 0.5]
    for name in ("forward_states", "reverse_states"):
        states = dict(getattr(line, name)(experiment, 30))
        assert set(np.abs(states[0].numpy()).ravel()) == {0.5}
    with pytest.raises(UserError, match="dataset=twopoint"):
        draw(Experiment(config("gaussian1d")), "twopoint")


@pytest.mark.parametrize("figure", ["forward1d", "reverse1d", "trajectories1d", "twopoint"])
def test_a_line_is_needed(figure):
    with pytest.raises(UserError, match="dataset=gaussian1d"):
        draw(Experiment(config("gmm2px")), figure)


def test_the_density_is_that_of_the_law():
    experiment = Experiment(config("gmm2px"))
    for t, half in ((0, 2), (10, 6)):
        image = mixture.exact_density(experiment, (-half, half, -half, half), t)
        assert np.exp(image).sum() * (2 * half / mixture.PIXELS) ** 2 == pytest.approx(1, abs=1e-5)
    extent = (-1.5, 1.5, -1.5, 1.5)
    image = mixture.exact_density(experiment, extent, 0)
    row, column = np.unravel_index(image.argmax(), image.shape)  # the heavier mode, at (0.75, -0.45)
    assert [column, row] == pytest.approx([mixture.PIXELS * 0.75, mixture.PIXELS * 0.35], abs=1)
    draw(experiment, "density", samples=20)
    with pytest.raises(UserError, match=r"figure\.t"):
        draw(Experiment(config("gmm2px") | {"dataset": read("dataset", "circle")}), "density")


@pytest.mark.parametrize("estimate", ["histogram", "kde"])
def test_estimates_agree_with_the_truth(estimate):
    experiment = Experiment(config("gmm2px"))
    x = experiment.dataset.draw(20_000, torch.Generator().manual_seed(0)).x0.numpy()
    extent = (-1.5, 1.5, -1.5, 1.5)
    image = np.exp(mixture.estimated_density(x, extent, estimate))
    true = np.exp(mixture.exact_density(experiment, extent, 0))
    coarse = mixture.BINS // 3  # cells as wide as a mode
    image, true = (
        a.reshape(coarse, len(a) // coarse, coarse, -1).sum((1, 3)) / a.sum() for a in (image, true)
    )
    assert np.abs(image - true).sum() / 2 < (0.05 if estimate == "histogram" else 0.12)


def test_trajectory_over_densities():
    experiment = Experiment(config("gmm2px"))
    figure = draw(experiment, "trajectory_density", n=300, estimate="histogram")
    assert [axes.get_title() for axes in figure.axes[:6]] == [
        *(f"t = {t}" for t in (50, 40, 30, 20, 10)),
        "truth",
    ]
    for bad in ({"times": [60]}, {"sample": 300}, {"estimate": "guess"}):
        with pytest.raises(UserError, match=f"figure.{next(iter(bad))}"):
            draw(experiment, "trajectory_density", n=300, **bad)


def test_steps_study_varies_the_schedule_or_the_sampler(trained):
    titles = [
        axes.get_title() for axes in draw(Experiment(config("gmm2px", "loglinear")), "steps_study", n=50).axes
    ]
    assert titles == ["T = 5", "T = 10", "T = 25", "T = 50", "truth"]
    titles = [axes.get_title() for axes in draw(Experiment(*trained), "steps_study", n=50).axes]
    assert titles == ["5 steps", "10 steps", "25 steps", "50 steps", "truth"]


def test_guidance_is_compared_from_the_same_noise(trained):
    experiment = Experiment(config("gmm2px"))
    panels = draw(experiment, "guidance_trajectories", n=3, background=50).axes[:6]
    assert panels[0].get_title() == "label 0, w = 0" and panels[5].get_title() == "label 1, w = 3"
    starts = [axes.lines[0].get_xydata() for axes in panels]
    assert all(np.array_equal(start, starts[0]) for start in starts)
    one = Experiment(config("gmm2px") | {"label": 1})
    assert (
        len(draw(one, "guidance_trajectories", n=3, background=50, values=[2]).axes) == 2
    )  # and the colour bar
    steered = Experiment(config("gmm2px", guidance="classifier") | {"label": 1})
    steered.config["guidance"]["run"] = "exact"
    assert (
        draw(steered, "guidance_trajectories", n=3, background=9, values=[2]).axes[0].get_title()
        == "label 1, s = 2"
    )
    with pytest.raises(UserError, match="guidance=cfg"):
        draw(Experiment(config("gmm2px", guidance="none")), "guidance_trajectories")
    figure = draw(Experiment(*trained), "guided_comparison", n=20)
    assert len(figure.axes) == 6 and "rms distance" in figure.axes[0].get_title()
    pairs = next(c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    assert len(pairs.get_segments()) == 20
    with pytest.raises(UserError, match="needs a trained run"):
        draw(experiment, "guided_comparison")


def test_losses_and_bounds_over_time(trained):
    (axes,) = draw(Experiment(*trained), "loss_by_timestep", n=100).axes
    network, exact = (drawn.get_ydata() for drawn in axes.lines)
    assert network == pytest.approx(np.ones(50), abs=0.5)  # an untrained network says eps = 0
    assert (exact < network).mean() > 0.9
    (axes,) = draw(Experiment(*trained), "bound", n=100).axes
    assert [drawn.get_label()[:7] for drawn in axes.lines] == ["network", "exact d"]
    assert len(axes.lines[0].get_xdata()) == 49
    with pytest.raises(UserError, match="needs a trained run"):
        draw(Experiment(config("gmm2px")), "loss_by_timestep")


def test_an_experiment_is_varied_without_a_trace(trained):
    experiment = Experiment(*trained)
    other = study.varied(experiment, sampler={"steps": 3}, run=None)
    assert (other.sampler.steps, other.run) == (3, None)
    assert (experiment.sampler.steps, experiment.run) == (None, trained[1])
