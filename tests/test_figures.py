"""Figures: each carries the data it was given, on the limits it promises, and becomes a whole file."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

import diffusion_cli.figures
from diffusion_cli.figures.animation import Animation, animate
from diffusion_cli.figures.curves import loss_curve, loss_over_time, schedule_comparison, smoothed
from diffusion_cli.figures.files import save_figure
from diffusion_cli.figures.line import trajectories_1d, two_point_trajectories
from diffusion_cli.figures.paths import density_image, end_points, trajectories_2d
from diffusion_cli.figures.plane import count_outside, histogram_top, limits_of, marker
from diffusion_cli.figures.points import LineView, PlaneView, scatter
from diffusion_cli.figures.recipes.guided import heading_of
from diffusion_cli.figures.style import DOUBLE, SINGLE
from diffusion_cli.figures.view import States

ANGLE = np.linspace(0, 2 * np.pi, 200)
RING = [np.stack((np.cos(ANGLE), np.sin(ANGLE)), 1)]


def circle(n, radius=1.0, seed=0):
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return radius * np.stack((np.cos(angle), np.sin(angle)), 1)


def noise(n, d=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def dots(ax):
    """The points of a panel's last scatter."""
    return np.asarray([c for c in ax.collections if not isinstance(c, LineCollection)][-1].get_offsets())


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def heights(ax):
    """Heights of the filled histogram's bars."""
    return np.array([bar.get_height() for bar in ax.containers[-1]])


# curves


def test_loss_curve_shows_raw_smoothed_and_floor():
    steps, loss = np.arange(100), np.linspace(2, 0.2, 100)
    loss[50] = np.nan
    ax = loss_curve(steps, loss, floor=0.15, title="a $ b").axes[0]
    raw, smooth, floor = ax.get_lines()
    kept = np.isfinite(loss)
    np.testing.assert_array_equal(raw.get_xydata(), np.stack((steps, loss), 1)[kept])
    np.testing.assert_allclose(smooth.get_ydata(), smoothed(loss[kept]))
    assert set(floor.get_ydata()) == {0.15} and floor.get_linestyle() == "--"
    assert floor.get_label() == "exact denoiser: 0.15"
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("training step", "loss", "a $ b")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        line.get_label() for line in ax.lines
    ]


@pytest.mark.parametrize("loss", [[1.0, 0.9, 0.8], [1.0, 0.1, -0.2], [0.5], []])
def test_loss_axis_is_linear_where_a_logarithm_does_not_help(loss):
    ax = loss_curve(range(len(loss)), loss).axes[0]
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] <= 0


def test_smoothing_keeps_constants_ends_and_means():
    np.testing.assert_allclose(smoothed(np.full(50, 3.0)), 3)
    line = smoothed(np.arange(200.0))
    np.testing.assert_allclose(line[6:-6], np.arange(200.0)[6:-6])
    assert smoothed(np.arange(200.0))[0] == 0
    alternating = smoothed(np.tile([0.0, 2.0], 200))
    np.testing.assert_allclose(alternating[20:], 1, atol=0.15)


def test_loss_over_time():
    times = np.arange(1, 11)
    ax = loss_over_time(times, {"eps": 1 / times, "$v": 2 / times}, floor=0.5 / times).axes[0]
    for line, values in zip(ax.get_lines(), (1, 2, 0.5), strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.stack((times, values / times), 1))
    assert len({line.get_linestyle() for line in ax.get_lines()[:2]}) == 2


def test_schedule_comparison_leaves_out_what_is_infinite():
    alpha_bar = torch.linspace(1, 0.01, 11, dtype=torch.float64)
    log_snr = (alpha_bar / (1 - alpha_bar)).log()
    figure = schedule_comparison({"linear": (alpha_bar, log_snr), "other": (alpha_bar**2, log_snr - 1)})
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[1].get_ydata(), alpha_bar**2)
    np.testing.assert_allclose(left.lines[0].get_xdata(), np.linspace(0, 1, 11))
    np.testing.assert_allclose(right.lines[0].get_ydata()[1:], log_snr[1:])
    assert np.isnan(right.lines[0].get_ydata()[0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["linear", "other"]


# points


@pytest.mark.parametrize("curve", [RING, RING[0], None], ids=["polylines", "cloud", "none"])
def test_scatter_holds_every_point_on_equal_axes(curve):
    x = circle(700)
    figure = scatter(torch.tensor(x), curve)
    (ax,) = figure.axes
    np.testing.assert_allclose(dots(ax), x)
    assert ax.get_aspect() == 1
    assert ax.get_title() == "700 samples"
    assert figure.get_figwidth() == SINGLE
    drawn = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(drawn) == (curve is RING)
    if drawn:
        np.testing.assert_allclose(drawn[0].get_segments()[0], RING[0])


def test_scatter_counts_what_lies_outside():
    x = circle(1000)
    x[:3] *= 100
    (ax,) = scatter(x, RING).axes
    assert ax.get_title() == "1,000 samples, 3 outside"
    assert ax.get_xlim()[1] < 2


def test_one_dimension_becomes_a_histogram_with_the_truth():
    x, truth = noise(4000, 1), noise(4000, 1, seed=1)
    figure = scatter(x, truth)
    (ax,) = figure.axes
    width = ax.containers[-1][0].get_width()
    assert (heights(ax) * width).sum() == pytest.approx(1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["truth", "samples"]


def test_crowds_get_smaller_and_fainter_marks():
    sizes, alphas = zip(*(marker(n, SINGLE) for n in (500, 2000, 5000, 20_000)), strict=True)
    assert list(sizes) == sorted(sizes, reverse=True) and sizes[0] > 4 * sizes[-1] > 0
    assert list(alphas) == sorted(alphas, reverse=True) and alphas[-1] > 0.1


def test_limits():
    assert limits_of([], RING) == pytest.approx((-1.12, 1.12, -1.12, 1.12), abs=1e-3)
    assert limits_of([], RING, widen=2) == pytest.approx((-2.24, 2.24, -2.24, 2.24), abs=1e-3)
    left, right, bottom, top = limits_of([noise(2000)])
    assert right - left == pytest.approx(top - bottom)
    assert count_outside(noise(2000), (left, right, bottom, top)) == 0  # no outliers: all are shown
    far = np.concatenate((circle(2000), [[500.0, 0.0]]))
    assert limits_of([far]) == pytest.approx(limits_of([circle(2000)]), abs=0.05)
    assert max(limits_of([10 * circle(2000)], RING, reach=1.5)) == pytest.approx(1.5 * 1.12, rel=0.01)
    assert np.isnan(limits_of([noise(10, 1)])[2:]).all()
    assert count_outside([[np.nan, 0.0], [0.0, 0.0]], (-1, 1, -1, 1)) == 1
    with pytest.raises(ValueError, match="no finite points"):
        limits_of([np.full((3, 2), np.nan)])


def test_a_single_point_and_bad_shapes():
    assert isinstance(scatter(np.zeros((1, 2))), Figure)
    with pytest.raises(ValueError, match=r"\(5, 3, 2\)"):
        scatter(np.zeros((5, 3, 2)))


def test_strips_have_a_panel_for_each_state_on_the_limits_of_the_curve():
    sets = [circle(300) + scale * noise(300) for scale in (5, 0.1, 0.01)]
    figure = PlaneView(RING).strip(sets, ["step 0", "step 1,000", "step 2,000"])
    assert titles(figure) == ["step 0", "step 1,000", "step 2,000"]
    assert figure.get_figwidth() <= DOUBLE + 0.5
    limits = limits_of([], RING, widen=1.4)
    for ax, x in zip(figure.axes, sets, strict=True):
        np.testing.assert_allclose(dots(ax), x)
        assert (*ax.get_xlim(), *ax.get_ylim()) == pytest.approx(limits)
    assert figure.axes[0].get_xlabel() == f"{count_outside(sets[0], limits)} outside"
    assert figure.axes[2].get_xlabel() == ""


def test_many_states_wrap():
    sets = [circle(20, seed=i) for i in range(9)]
    figure = PlaneView().strip(sets, [f"step {i}" for i in range(9)])
    assert titles(figure) == [f"step {i}" for i in range(9)]
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 5)
    with pytest.raises(ValueError, match="do not fit 2 titles"):
        PlaneView().strip(sets[:3], ["a", "b"])


def test_wide_strips_hold_the_noise():
    sets = [(1 - s) * circle(200) + s * noise(200) for s in (0, 0.5, 1)]
    figure = PlaneView(RING).strip(sets, ["t = 0", "t = 12", "t = 50"], wide=True)
    assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in figure.axes}) == 1
    assert all(count_outside(x, limits_of(sets, RING)) == 0 for x in sets)
    assert not any(ax.get_xlabel() for ax in figure.axes)


def test_histograms_of_a_strip_share_their_height_and_legend():
    sets = [noise(500, 1), 0.1 * noise(500, 1)]
    figure = LineView(noise(500, 1)).strip(sets, ["t = 50", "t = 0"], wide=True)
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert figure.axes[0].get_ylim()[1] > heights(figure.axes[1]).max()
    assert figure.axes[0].get_ylabel() == "density"
    assert len(figure.legends) == 1


def test_the_top_of_histograms_is_that_of_the_highest():
    uniform = np.linspace(0, 1, 6000, endpoint=False)[:, None]
    assert histogram_top([uniform, uniform / 2 + 0.25], (0.0, 1.0)) == pytest.approx(1.05 * 2, rel=0.02)


def test_samples_are_compared_side_by_side():
    sets = {f"T = {T}": 2 * circle(50, seed=T) for T in (5, 10, 25)} | {"truth": circle(400)}
    figure = PlaneView().compare(sets)
    assert titles(figure) == list(sets)
    np.testing.assert_allclose(dots(figure.axes[-1]), sets["truth"])
    assert figure.axes[0].get_xlim() == pytest.approx(limits_of([sets["truth"]], widen=1.4)[:2])


def test_paths_of_a_view_are_those_of_the_first_samples():
    path = np.linspace(3 * noise(30), circle(30), 5)
    ax = PlaneView(RING).paths(States([4, 3, 2, 1, 0], path, path), followed=6).axes[0]
    np.testing.assert_allclose(ax.get_lines()[0].get_xydata(), path[0, :6])
    ax, side = (
        LineView(density=lambda x: np.exp(-x)).paths(States([4, 3, 2, 1, 0], path[..., :1], path), 6).axes
    )
    assert len(ax.get_lines()) == 6
    x, pdf = side.get_lines()[0].get_ydata(), side.get_lines()[0].get_xdata()
    np.testing.assert_allclose(pdf, np.exp(-x))
    assert x.min() < path[-1, :, 0].min() and x.max() > path[-1, :, 0].max()


# paths


def test_trajectories_run_from_noise_to_data_coloured_by_time():
    path = np.linspace(3 * noise(6), circle(6), 5)  # (5, 6, 2)
    ax, bar = trajectories_2d(path, samples=circle(50), times=[40, 30, 20, 10, 0], curve=RING).axes
    lines = ax.collections[-1]
    assert len(lines.get_segments()) == 4 * 6
    np.testing.assert_allclose(lines.get_segments()[7], path[1:3, 1])
    assert lines.get_array()[7] == 25 and lines.get_clim() == (0, 40)
    start, end = ax.get_lines()
    np.testing.assert_allclose(start.get_xydata(), path[0])
    np.testing.assert_allclose(end.get_xydata(), path[-1])
    assert bar.get_ylabel() == "time $t$"
    assert count_outside(path.reshape(-1, 2), (*ax.get_xlim(), *ax.get_ylim())) == 0


def test_trajectories_under_several_settings():
    path = np.linspace(noise(3), circle(3), 4)
    figure = trajectories_2d({"label 0, w = 1": path, "label 1, w = 1": -path})
    assert titles(figure) == ["label 0, w = 1", "label 1, w = 1", ""]  # and the colour bar
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    with pytest.raises(ValueError, match="paths"):
        trajectories_2d(noise(5))


def test_end_points_are_paired_and_their_distance_is_stated():
    exact = circle(30)
    ax = end_points({"w = 3": np.add(exact, (0.3, 0.4))}, {"w = 3": exact}).axes[0]
    assert ax.get_title() == "w = 3\nrms distance 0.5000"
    np.testing.assert_allclose(ax.get_lines()[0].get_xydata(), exact)
    np.testing.assert_allclose(
        ax.collections[0].get_segments()[4], [[exact[4, 0] + 0.3, exact[4, 1] + 0.4], exact[4]]
    )
    with pytest.raises(ValueError, match="same titles"):
        end_points({"a": exact}, {"b": exact})
    with pytest.raises(ValueError, match="a: "):
        end_points({"a": exact}, {"a": exact[:5]})


def test_density_image():
    log_density = np.log(np.arange(1.0, 13).reshape(3, 4)) + 1000  # normalised without overflow
    walk = noise(10)
    figure = density_image(
        {"t = 5": log_density, "truth": log_density}, (-2, 2, -1, 1), circle(9), walk, [4, 9]
    )
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), np.arange(1.0, 13).reshape(3, 4) / 12)
    assert ax.images[0].get_extent() == [-2, 2, -1, 1] and ax.images[0].origin == "lower"
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-2, 2, -1, 1)
    np.testing.assert_allclose(dots(ax), circle(9))
    rest, past, start, now = ax.get_lines()
    np.testing.assert_allclose(past.get_xydata(), walk[:5])
    np.testing.assert_allclose(rest.get_xydata(), walk[4:])
    np.testing.assert_allclose(start.get_xydata(), walk[:1])
    np.testing.assert_allclose(now.get_xydata(), walk[4:5])
    assert (
        density_image(log_density, (-2, 2, -1, 1), labels=("pixel 1", "pixel 2")).axes[0].get_ylabel()
        == "pixel 2"
    )


# lines


def test_trajectories_1d_share_their_axis_with_the_histogram_of_ends():
    paths, grid = noise(120, 11).cumsum(1), np.linspace(-3, 3, 50)
    pdf = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    ax, side = trajectories_1d(paths, range(10, -1, -1), (grid, pdf), "N(0, 1) $").axes
    drawn = np.array(sorted(tuple(line.get_ydata()) for line in ax.get_lines()))
    np.testing.assert_allclose(drawn, np.array(sorted(map(tuple, paths))))
    assert ax.get_xlim() == (10, 0)  # the process runs from left to right
    assert ax.get_ylim() == side.get_ylim()
    bars = side.containers[0]
    area = sum(bar.get_width() * bar.get_height() for bar in bars)
    assert area == pytest.approx(1)
    low, high = bars[0].get_y(), bars[-1].get_y() + bars[-1].get_height()
    assert (low, high) == pytest.approx((paths[:, -1].min(), paths[:, -1].max()))
    np.testing.assert_allclose(side.get_lines()[0].get_xydata(), np.stack((pdf, grid), 1))
    with pytest.raises(ValueError, match="do not fit"):
        trajectories_1d(paths, range(5))


def test_histogram_may_use_more_ends_than_are_drawn():
    figure = trajectories_1d(noise(3, 5), range(5), final=noise(2000, 1))
    assert len(figure.axes[0].get_lines()) == 3
    assert figure.legends[0].get_texts()[0].get_text() == "2,000 ends"


def test_two_points_go_out_solid_and_come_back_dashed():
    forward, reverse = noise(3, 6), noise(2, 4)
    figure = two_point_trajectories(forward, reverse, range(6), [5, 3, 1, 0], points=[-0.5, 0.5])
    lines = figure.axes[0].get_lines()
    assert [line.get_linestyle() for line in lines] == ["-"] * 3 + ["--"] * 2 + ["None"]
    np.testing.assert_allclose(lines[4].get_xydata(), np.stack(([5, 3, 1, 0], reverse[1]), 1))
    np.testing.assert_allclose(lines[5].get_xydata(), [[0, -0.5], [0, 0.5]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["forward", "reverse", "data"]


# files


def test_png_carries_its_facts_and_replaces_whole(tmp_path):
    target = tmp_path / "figures" / "samples.png"
    assert (
        save_figure(scatter(circle(50)), target, {"seed": 3, "run": "größe/√2", "metrics": {"sw2": 1.5}})
        == target
    )
    first = target.read_bytes()
    with Image.open(target) as image:
        assert image.size == (round(SINGLE * 200), round(SINGLE * 200))
        assert (image.text["seed"], image.text["run"]) == ("3", "größe/√2")
        assert json.loads(image.text["metrics"]) == {"sw2": 1.5}
    figure = scatter(circle(60))
    figure.axes[0].set_xlabel("$x_{$")  # breaks matplotlib while it draws
    with pytest.raises(ValueError):
        save_figure(figure, target)
    assert target.read_bytes() == first
    assert [file.name for file in target.parent.iterdir()] == ["samples.png"]


def test_dollars_in_titles_and_names_are_literal(tmp_path):
    for figure in (
        scatter(circle(5), title="$x_{"),
        schedule_comparison({"$a_{": ([1, 0.5], [1, 0])}),
        trajectories_2d({"$p_{": np.zeros((2, 1, 2))}, curve=RING),
        PlaneView().strip([circle(5)], ["$q_{"]),
    ):
        assert save_figure(figure, tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_vector_formats(tmp_path, suffix):
    path = save_figure(scatter(circle(20)), tmp_path / f"figure{suffix}", {"seed": 3})
    assert b"seed" in path.read_bytes()


def test_wrong_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot write a Figure"):
        save_figure(scatter(circle(5)), tmp_path / "a.gif")
    with pytest.raises(ValueError, match="cannot write a Animation"):
        save_figure(Animation([], []), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_animation_loops_rests_at_the_end_and_stays_small(tmp_path):
    frames = [(1 - s) * circle(2000) + s * noise(2000) for s in np.linspace(1, 0, 101)]
    animation = PlaneView(RING).frames(frames, [f"t = {t}" for t in range(100, -1, -1)])
    assert len(animation.images) == 60
    path = save_figure(animation, tmp_path / "reverse.gif", {"seed": 1})
    assert path.stat().st_size < 2_000_000
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        assert json.loads(image.info["comment"]) == {"seed": 1}
        shown = []
        for i in range(image.n_frames):
            image.seek(i)
            shown.append(image.info["duration"])
        last = np.asarray(image.convert("RGB"))
        image.seek(0)
        first = np.asarray(image.convert("RGB"))
    assert shown[-1] >= 2000 > max(shown[:-1])
    assert (first != last).any(axis=2).mean() > 0.01
    with pytest.raises(ValueError, match="101 states do not fit 2 titles"):
        PlaneView().frames(frames, ["a", "b"])


def test_an_animation_has_its_frames_in_order_and_white_paper():
    shown = []
    animation = animate(lambda ax, k: shown.append(k), ["a", "b", "c"])
    assert isinstance(animation, Animation) and shown == [2, 0, 1, 2]
    assert animation.images[0].convert("RGB").getpixel((2, 2)) == (255, 255, 255)


# style


def test_style_neither_leaks_nor_bends():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.linewidth": 9, "axes.titlesize": 40}):
        ax = scatter(circle(5)).axes[0]
    assert ax.title.get_fontsize() == 8 and ax.spines["left"].get_linewidth() == 0.5
    assert dict(matplotlib.rcParams) == before


def test_modules_import_neither_pyplot_nor_torch():
    names = [path.stem for path in Path(diffusion_cli.figures.__file__).parent.glob("*.py")]
    lines = [f"import diffusion_cli.figures.{name}" for name in names if name != "__init__"]
    lines += [
        "import sys, tempfile, numpy",
        "from diffusion_cli.figures import files, points",
        "files.save_figure(points.scatter(numpy.eye(2)), tempfile.mkdtemp() + '/a.png')",
        "assert not {'matplotlib.pyplot', 'torch', 'hydra'} & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_every_public_function_says_what_it_gives():
    for path in Path(diffusion_cli.figures.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_the_headings_of_a_guidance_study_do_not_overlap() -> None:
    quality = {"outside": 0.0731, "log_density": -1.25, "sliced_w2": 8.3, "coverage": 12.28}
    floor = {"outside": 0.01, "log_density": -0.04, "sliced_w2": 1.0, "coverage": 1.0}
    names = [
        "no guidance",
        "classifier-free, w = 1",
        "the same from 0.1 to 2",
        "autoguidance, w = 1",
        "truth",
    ]
    points = np.random.default_rng(0).normal(size=(20, 2))
    figure = PlaneView().compare({heading_of(name, quality, floor): points for name in names})
    FigureCanvasAgg(figure).draw()
    boxes = [ax.title.get_window_extent() for ax in figure.axes]
    assert len(boxes) == 5 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
