"""Recipes of figures: each draws each kind of data, or refuses it at once; and what the figures of a run show."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from diffusion_cli import components as components_module
from diffusion_cli.__main__ import main
from diffusion_cli.components import build, of
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import UserError
from diffusion_cli.figures.animation import Animation
from diffusion_cli.figures.draw import draw, drawable, recipe_of
from diffusion_cli.figures.kinds import KINDS, kinds_of
from diffusion_cli.figures.page import Page
from diffusion_cli.figures.recipes import process
from diffusion_cli.figures.recipes.material import examples, states_of
from diffusion_cli.figures.recipes.training import loss_floor
from diffusion_cli.metrics.sets import chamfer
from diffusion_cli.noise import NoiseStream
from diffusion_cli.options.files import default_figures, names_of, node_of
from diffusion_cli.options.signature import read
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.comparison import Comparison
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.processes import settled
from diffusion_cli.runs.results import results_of
from diffusion_cli.sampler import DDIM

FIGURES = names_of("figure")
SMALL = ["steps=4", "log_every=2", "batch_size=4", "stages.every=2", "stages.n=9", "monitor.every=2", "monitor.n=6",
         "n=20", "threads=1", "device=cpu", "schedule.T=20"]  # fmt: skip
POINTS = [*SMALL, "model.width=16", "evaluation.n=20", "evaluation.draws=1", "evaluation.floor_draws=2"]
LINES = {
    "line": ["dataset=gaussian1d", *POINTS],
    "plane": ["dataset=gmm2px", "guidance=cfg", *POINTS],
    "space": ["dataset=gmm2px", "dataset.means=[[0,0,1],[1,0,0]]", *POINTS],
    "sets": ["dataset=stars", "dataset.n=24", "dataset.test=8", "dataset.size=48", "dataset.points=32", "sampler.steps=4",
             "dataset.sample_points=32", "evaluation.n=6", "evaluation.points=16", "evaluation.emd_points=null", *SMALL],
    "chairs": ["dataset=chairs", "dataset.n=16", "dataset.test=8", "dataset.size=48", "dataset.points=32", "sampler.steps=4",
               "dataset.sample_points=32", "evaluation.n=4", "evaluation.points=16", "evaluation.emd_points=8",
               "plots=false", *SMALL],
    "images": ["dataset=mnist", "dataset.source=bundled", "model.width=8", "sampler.steps=4", "evaluation=likelihood",
               "evaluation.n=2", "evaluation.steps=1", "evaluation.probes=1", *SMALL],
}  # fmt: skip
# Options that make a figure quick to draw, where it has them.
TINY = {"n": 6, "steps": [2, 3], "samplers": ["ddim", "ddpm_posterior"], "background": 8, "floor_draws": 8, "times": [9, 3],
        "frames": 3, "density": 8, "values": [0, 2], "shown": 3, "columns": 3}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """kind -> a finished run on data of that kind, trained when it is first wanted, with its figures drawn."""
    folder, found = tmp_path_factory.mktemp("runs"), {}

    def run(kind):
        if kind not in found:
            directory = folder / kind / "run"
            assert main(["train", *LINES[kind], f"hydra.run.dir={directory}"]) == 0
            found[kind] = RunDirectory(directory)
        return found[kind]

    return run


@pytest.fixture(scope="module")
def world(runs):
    """kind -> the components of that run."""

    def components(kind, **config):
        run = runs(kind)
        keys = {
            "run": str(run.path),
            "weights": "last",
            "label": None,
            "inpaint": "left_half",
            "image": None,
            "completions": 2,
        }
        keys["repaint"] = {"passes": 1, "jump": 1, "between": None, "guidance": 0.0}
        many = {"sweep": None, "runs": None, "x": "seed", "y": "loss", "hue": None}
        return of(run_config.read_record(run.path).current | keys | many | config)

    return components


def node(name, **options):
    found = node_of("figure", name)
    return found | {key: value for key, value in options.items() if key in read(found["_target_"]).arguments}


def tiny(name):
    return node(name, **TINY)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_draws_each_kind_of_data_or_refuses_it_at_once(name, kind, world, monkeypatch):
    components, chosen = world(kind), tiny(name)
    results = None
    signature = read(chosen["_target_"])
    if "results" in signature.arguments and name != "report":
        config = components.config | {"sweep": str(Path(components.config["run"]).parent)}
        of_comparison = signature.arguments["results"].annotation == "Comparison"
        results = Comparison(config) if of_comparison else results_of(config["sweep"], None)
        if name == "objective_table":
            metrics = RunDirectory(components.config["run"]).summary["metrics"]
            measured = next(name for name, entry in metrics.items() if isinstance(entry, dict))
            chosen |= {"metrics": [measured], "variances": ["beta"]}
    needs_guidance = name in ("guidance_trajectories", "guided_comparison") and kind != "plane"
    refused = kind not in kinds_of(recipe_of(chosen)) or name == "twopoint" or needs_guidance
    if name == "error_by_level" and components.dataset.density is None:
        refused = True
    if name == "memory_onset":
        # of runs that were measured during training, which these were not
        refused = True
    if name == "nearest" and components.dataset.examples() is None:
        refused = True
    if name == "turntable" and components.dataset.shape[-1] != 3:
        refused = True
    if not refused:
        assert isinstance(draw(chosen, components, results), Figure | Animation | Page)
        return

    def computed(*_, **__):
        pytest.fail("something is computed before the figure is refused")

    for method in ("walk", "draw", "evaluate"):
        monkeypatch.setattr(components_module.Components, method, computed)
    with pytest.raises(UserError) as caught:
        draw(chosen, components, results)
    assert caught.value.key == ("sweep" if name == "memory_onset" else "figure")


def test_what_is_refused_says_what_can_be_drawn(world):
    with pytest.raises(UserError) as caught:
        draw(tiny("forward1d"), world("plane"))
    message = str(caught.value)
    assert message.startswith("figure=forward1d: draws data on a line, not points in the plane; ")
    assert "trajectory_density" in caught.value.choices and "digit_formation" not in caught.value.choices


@pytest.mark.parametrize("kind", KINDS)
def test_training_draws_the_defaults_that_show_its_data(kind, runs):
    drawn = {file.stem for file in runs(kind).figures.iterdir()}
    more = {"sets": {"data", "nearest"}, "images": {"data"}}
    assert drawn == set(default_figures()) | more.get(kind, set())


def test_the_defaults_are_one_list_for_all_datasets():
    for file in (Path(__file__).parents[1] / "configs" / "dataset").glob("*.yaml"):
        assert "override /figure" not in file.read_text(), file


def test_a_figure_of_the_users_choice_is_never_left_out_silently(tmp_path, monkeypatch, capsys, world):
    line = [
        "train",
        *LINES["line"],
        "+figure@figures.mine=trajectory_density",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    assert main(line) == 2
    assert "figure=trajectory_density: draws points in the plane" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    dataset = world("space").dataset
    nodes = {name: node_of("figure", option) for name, option in default_figures().items()}
    assert set(drawable(nodes | {"samples": None}, dataset)) == set(nodes) - {"samples"}
    with pytest.raises(UserError, match="figure=trajectory_density"):
        drawable(nodes | {"samples": node_of("figure", "trajectory_density")}, dataset)


def test_options_have_the_name_of_their_function_and_state_no_default():
    for name in FIGURES:
        assert node_of("figure", name).keys() == {"_target_"}
        assert node_of("figure", name)["_target_"].endswith(f".{name}")


def test_options_are_typed_and_described():
    for name in FIGURES:
        for argument in read(node_of("figure", name)["_target_"]).arguments.values():
            if argument.name not in ("components", "results"):
                assert argument.range is not None and argument.text and argument.default != "???", (
                    name,
                    argument,
                )


# what is shown


def dots(ax):
    return np.asarray(ax.collections[-1].get_offsets())


@pytest.mark.parametrize("kind", ["plane", "sets"])
def test_strips_show_the_same_examples_forward_and_back(kind, world):
    components = world(kind)
    forward = draw(node("forward_strip", n=3, percents=[0, 50, 75]), components).axes
    back = draw(node("reverse_strip", n=3, percents=[75, 0]), components).axes
    assert [ax.get_title() for ax in forward[:3]] == ["t = 0", "t = 10", "t = 15"]
    assert [ax.get_title() for ax in back[:2]] == ["t = 15", "t = 0"]
    np.testing.assert_allclose(dots(forward[2]), dots(back[0]))
    x0 = examples(components, 3).x0.numpy()
    np.testing.assert_allclose(dots(forward[0]), x0 if kind == "plane" else x0[0])


def test_a_strip_from_noise_is_the_chain_of_the_samples(world):
    components = world("plane")
    axes = draw(node("reverse_strip", n=20), components).axes
    np.testing.assert_allclose(dots(axes[0]), NoiseStream(components.seed, 20, (2,))().numpy())
    np.testing.assert_allclose(dots(axes[-1]), components.samples[0], rtol=1e-5)
    with pytest.raises(UserError, match=r"figure\.percents=\[0,50\]: must fall"):
        draw(node("reverse_strip", percents=[0, 50]), components)


def test_states_are_those_of_the_chain_with_the_predictions_from_them(world):
    components = world("plane")
    states = states_of(components, 5)
    assert all(a > b for a, b in pairwise(states.times)) and states.times[0] == 20 and states.times[-1] == 0
    label = components.labels(5)
    for k in (0, 3):
        with torch.no_grad():
            expected = components.denoiser(torch.tensor(states.x[k]), states.times[k], label).x0
        np.testing.assert_allclose(states.x0[k], expected.numpy(), atol=1e-5)
    np.testing.assert_array_equal(states.x0[-1], states.x[-1])
    few = states_of(components, 5, most=5)
    assert few.times == [20, 15, 10, 5, 0]
    np.testing.assert_array_equal(few.x, states.x[::5])
    np.testing.assert_array_equal(few.x0, states.x0[::5])


def test_a_request_for_labels_decides_those_of_the_examples(world, monkeypatch):
    components, labels = replace(world("plane"), sampler=DDIM(4)), []
    call = DDIM.__call__

    def spy(self, denoiser, x_T, label, noise, times):
        labels.append(label.tolist())
        return call(self, denoiser, x_T, label, noise, times)

    monkeypatch.setattr(DDIM, "__call__", spy)
    process.from_data(components, 6, 3)
    process.from_data(replace(components, label=1), 6, 3)
    assert labels == [examples(components, 6).label.tolist(), [1] * 6]


def test_samples_are_the_runs_own_under_the_names_of_their_classes(world):
    components = world("images")
    figure = draw(node("samples", n=4, columns=2), components)
    names = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert names == [str(k) for k in components.samples[1][:4]]
    axes = draw(node("samples"), world("sets")).axes
    np.testing.assert_allclose(dots(axes[5]), world("sets").samples[0][5])


def test_the_noise_is_that_of_the_samples_below_it(world):
    components = world("sets")
    axes = draw(node("noise", n=3), components).axes
    np.testing.assert_allclose(
        dots(axes[1]), NoiseStream(components.seed, 3, components.dataset.shape)()[1].numpy()
    )
    np.testing.assert_allclose(dots(axes[4]), components.samples[0][1], rtol=1e-5)
    assert [ax.get_ylabel() for ax in (axes[0], axes[3])] == ["noise", "samples"]


def test_neighbours_are_the_nearest_training_sets(world):
    components = world("sets")
    axes = draw(node("nearest", n=3, pairs_in_row=3), components).axes
    truth = components.dataset.train[:, :32].numpy()
    distance = chamfer(components.samples[0][:3], truth)
    for i, row in enumerate(distance):
        np.testing.assert_allclose(dots(axes[2 * i + 1]), truth[row.argmin()])
        assert axes[2 * i + 1].get_title() == f"{row.min():.3g}"


def test_stages_are_those_of_the_run(world, runs):
    axes = draw(node("stages", n=2, columns=2), world("sets")).axes
    assert [ax.get_title() for ax in axes] == ["step 0", "step 4", "", ""]
    np.testing.assert_allclose(dots(axes[3]), runs("sets").stages()[4][1])
    with pytest.raises(UserError, match="run=exact: this figure needs a trained run"):
        draw(node("stages"), replace(world("plane"), run=None))
    empty = replace(world("plane"), run=RunDirectory("nowhere"))
    assert draw(node("stages"), empty) is None


def test_points_on_a_line_are_followed_to_their_ends(world):
    figure = draw(node("trajectories", n=7, background=30), world("line"))
    paths, side = figure.axes
    assert len(paths.lines) == 7 and len(side.lines) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["30 ends", "data"]


def test_steps_are_varied_in_the_schedule_or_in_samplers(world):
    def titles(components, **options):
        return [
            ax.get_title() for ax in draw(node("steps_study", n=9, steps=[2, 5], **options), components).axes
        ]

    exact = replace(world("plane"), net=None, run=None)
    assert titles(exact) == ["T = 2", "T = 5", "truth"]
    assert titles(world("plane")) == ["2 steps", "5 steps", "truth"]
    assert titles(exact, samplers=["heun", "ddpm_analytic"])[1:4] == [
        "heun 5",
        "ddpm_analytic 2",
        "ddpm_analytic 5",
    ]
    with pytest.raises(
        UserError, match=r"figure\.samplers=hoin: no such sampler; choose from ddim, ddpm, ddpm_analytic"
    ):
        titles(exact, samplers=["hoin"])


def test_in_painting_shows_original_known_and_completions(world):
    components = world("sets")
    axes = draw(node("inpainting", n=2), components).axes
    assert [ax.get_title() for ax in axes[:4]] == ["original", "known", "completed", ""]
    assert [len(dots(ax)) for ax in axes[4:]] == [32, 16, 32, 32]
    with pytest.raises(UserError, match="inpaint=null: this figure needs a mask; choose from left_half"):
        draw(node("inpainting"), world("images", inpaint=None))


@pytest.mark.parametrize(
    "name",
    [
        "animation",
        "data",
        "forward_strip",
        "inpainting",
        "nearest",
        "report",
        "samples",
        "trajectories",
        "turntable",
    ],
)
def test_sets_in_space_are_drawn(name, world):
    assert isinstance(draw(tiny(name), world("chairs")), Figure | Animation | Page)


def test_a_turntable_goes_once_around_or_stands_still(world):
    node = {"_target_": "diffusion_cli.figures.recipes.turntable.turntable"}
    turning = draw(node | {"n": 4}, world("chairs"))
    assert len(turning.images) == 60 and len(set(turning.milliseconds)) == 1
    still = draw(node | {"n": 2, "angles": 3}, world("chairs"))
    assert [ax.get_title() for ax in still.axes[:3]] == ["0°", "120°", "240°"] and len(still.axes) == 6
    assert len(draw(node | {"angles": 5}, world("space")).axes) == 5


def test_where_noise_is_coupled_to_points_the_loss_has_no_floor(world):
    """Its floor is not that of independent noise, and the assignment of so many would take minutes."""
    c = world("plane")
    coupled = replace(c.objective, targets="sample", coupling="optimal")
    assert loss_floor(c, 50) > 0 and loss_floor(replace(c, objective=coupled), 50) is None


@pytest.mark.parametrize("line", ["dataset=circle", "dataset=gmm2px guidance.label_dropout=0.5"])
def test_the_floor_of_the_loss_is_what_the_exact_denoiser_has_in_training(composed, line):
    """On the batches of training themselves: of their size, over whose points stable targets are means, and without the labels
    that are dropped. Until these were the same the floor of the circle was a fortieth of the loss of the best network."""
    floors = []
    for size in (32, 512):
        c = build(settled(composed("train", *line.split(), f"batch_size={size}", "device=cpu")))
        exact, losses = ExactDenoiser(c.dataset.density, c.schedule), []
        for step in range(20_000 // size):
            batch = c.batches(step)
            level, x_t = batch.noised(c.schedule)
            guess = exact(x_t, batch.t, batch.label)
            v, best = (level.alpha * one.eps - level.sigma * one.x0 for one in (batch, guess))
            losses.append((v - best).square().mean())
        floors.append(loss_floor(c, 20_000))
        assert floors[-1] == pytest.approx(float(torch.stack(losses).mean()), rel=0.1)
    if "circle" in line:
        assert floors[0] > 1.2 * floors[1]
    else:
        assert floors[0] == pytest.approx(floors[1], rel=0.05)


# a user's own


MODULE = '''
from dataclasses import dataclass

from matplotlib.figure import Figure

from diffusion_cli.figures.kinds import draws
from diffusion_cli.ranges import Count
from diffusion_cli.sampler import DDIM


@draws("plane")
def crowd(components, n: Count = 5) -> Figure:
    """A crowd of samples.

    n: how many.
    """
    figure = Figure()
    x0 = components.draw(n).x0
    figure.subplots().plot(x0[:, 0], x0[:, 1], ".")
    return figure


@dataclass(frozen=True)
class Lazy(DDIM):
    """Does what DDIM does."""
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Options and a module of a user's own: the words of the line that add them."""
    (tmp_path / "own_figures.py").write_text(MODULE)
    for group, name, made in (("figure", "crowd", "crowd"), ("sampler", "lazy", "Lazy")):
        (tmp_path / "options" / group).mkdir(parents=True)
        (tmp_path / "options" / group / f"{name}.yaml").write_text(f"_target_: own_figures.{made}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DIFFUSION_CLI_TRUST", "own_figures")
    yield [f"--config-dir={tmp_path / 'options'}"]
    sys.modules.pop("own_figures", None)


def test_a_figure_of_ones_own_is_a_function_and_a_file(own, runs, tmp_path, capsys):
    line = ["plot", *own, "figure=crowd", f"run={runs('plane').path}", f"hydra.run.dir={tmp_path / 'drawn'}"]
    assert main([*line, "figure.n=7"]) == 0
    assert (tmp_path / "drawn" / "crowd.png").stat().st_size > 1000
    assert main([*line[:-1], "figure.n=none", f"hydra.run.dir={tmp_path / 'bad'}"]) == 2
    assert "figure.n=none: must be a whole number >= 1" in capsys.readouterr().err
    line = ["plot", *own, "figure=crowd", f"run={runs('line').path}", f"hydra.run.dir={tmp_path / 'bad'}"]
    assert main(line) == 2 and not (tmp_path / "bad").exists()
    assert "figure=crowd: draws points in the plane, not data on a line" in capsys.readouterr().err


def test_a_study_finds_a_sampler_of_ones_own(own, runs, tmp_path):
    line = [
        "plot",
        *own,
        "figure=sampler_study",
        f"run={runs('line').path}",
        f"hydra.run.dir={tmp_path / 'study'}",
    ]
    assert main([*line, "figure.samplers=[lazy,ddim]", "figure.steps=[2,3]", "figure.n=20"]) == 0
    assert (tmp_path / "study" / "sampler_study.png").is_file()
