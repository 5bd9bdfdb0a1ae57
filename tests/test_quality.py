"""Studies of quality: calls are counted, metrics are those of the evaluation, tables hold what the runs give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffusion_cli import components, sampler, schedule
from diffusion_cli.__main__ import main
from diffusion_cli.errors import ArgumentError, UserError
from diffusion_cli.figures import quality as pictures
from diffusion_cli.figures.recipes import quality
from diffusion_cli.options.files import node_of
from diffusion_cli.runs import results
from diffusion_cli.sampler import Multistep

SMALL = ["steps=15", "model.width=16", "stages.every=0", "device=cpu", "plots=false", "dataset=circle", "schedule.T=10",
         "evaluation.n=60", "evaluation.draws=1", "evaluation.floor_draws=2"]  # fmt: skip
GROUPS = {
    "objective": "mse",
    "guidance": "none",
    "sampler": "ddpm",
    "parameterization": "eps",
    "optimizer": "adamw",
}


@pytest.mark.parametrize(
    ("one", "calls"),
    [
        (sampler.DDPM(7), 7),
        (sampler.DDIM(), 20),
        (Multistep(1), 1),
        (sampler.Heun(6), 11),
        (sampler.Heun(1), 1),
    ],
)
def test_calls_are_counted(one, calls):
    assert quality.network_calls(one, schedule.cosine(20)) == calls


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, more in (("a", ["parameterization=eps"]), ("b", ["parameterization=v", "objective.weighting=vlb"]),
                           ("c", ["parameterization=v", "objective=hybrid"])):  # fmt: skip
            assert main(["train", *SMALL, *more, f"hydra.run.dir=many/{name}"]) == 0
    return folder


@pytest.fixture
def exact():
    """The exact denoiser of a circle."""
    config = {
        "seed": 0, "device": "cpu", "threads": None, "sample_batch": 1000,
        "dataset": {"_target_": "diffusion_cli.dataset.plane.Circle", "jitter": 0.1},
        "schedule": {"_target_": "diffusion_cli.schedule.loglinear", "T": 20},
        **{group: node_of(group, name) for group, name in GROUPS.items()},
        "evaluation": {"_target_": "diffusion_cli.metrics.evaluation.PointEvaluation", "n": 50, "draws": 3, "floor_draws": 3},
    }  # fmt: skip
    return components.build(config)


def test_measures_are_the_evaluations_own(exact):
    measure = quality.Measure(["sliced_w2", "distance_mean"], 80, 1)
    ours = measure(exact, sampler.DDIM(5))
    report = replace(exact.varied(evaluation={"n": 80, "draws": 1}), sampler=sampler.DDIM(5)).evaluate()
    ratios = {name: pytest.approx(report[name]["ratio"]) for name in ("sliced_w2", "distance_mean")}
    assert {name: number.value for name, number in ours.items()} == ratios
    assert measure.floors["sliced_w2"] == report["sliced_w2"]["floor"]
    assert quality.Measure(None, 80, 1)(exact, sampler.DDIM(5)) == {"sliced_w2": ours["sliced_w2"]}
    with pytest.raises(ArgumentError, match="frechet: is not measured"):
        quality.Measure(["frechet"], 80, 1)(exact, sampler.DDIM(5))


def test_study_of_samplers(exact, monkeypatch):
    drawn = {}
    monkeypatch.setattr(pictures, "over_calls", lambda *given: drawn.update(enumerate(given)))
    quality.sampler_study(exact, ["ddim", "heun", "ddpm_posterior"], [2, 8], "sliced_w2", 300)
    lines, best, label, floor = drawn.values()
    assert lines["ddim"].calls == [2, 8] and lines["heun"].calls == [3, 15]
    assert best == {} and floor and label == "sliced W2 / floor"
    assert lines["ddim"].values[1] < lines["ddim"].values[0]  # more steps of an exact denoiser come nearer
    assert set(lines) == {"ddim", "heun", "ddpm_posterior"}
    with pytest.raises(
        ArgumentError, match=r"samplers=euler: no such sampler; .*choose from ddim, ddpm, ddpm_a"
    ):
        quality.sampler_study(exact, ["euler"], [2], "sliced_w2", 300)


def test_table_of_objectives(home, monkeypatch):
    monkeypatch.chdir(home)
    assert main(["plot", "figure=objective_table", "sweep=many", "figure.n=60", "hydra.run.dir=table"]) == 0
    assert {"objective_table.png", "objective_table.md"} <= {file.name for file in (home / "table").iterdir()}
    drawn = {}
    monkeypatch.setattr(pictures, "number_tables", lambda *given: drawn.update(enumerate(given)))
    quality.objective_table(results.results_of("many", None), ["beta", "posterior"], ["coverage"], 60)
    rows, columns, tables, groups = drawn.values()
    assert rows == ["eps", "v"]
    assert columns == ["beta", "posterior", "beta", "posterior", "learned"]
    assert groups == ["L simple", "L simple", "L", "L", "L hybrid"]
    (table,) = tables.values()
    assert (
        np.isfinite(table.values).tolist()
        == np.isfinite(table.errors).tolist()
        == [
            [True, True, False, False, False],
            [False, False, True, True, True],
        ]
    )


def test_no_cell_of_the_table_averages_what_differs(home, monkeypatch):
    monkeypatch.chdir(home)
    one, *others = results.results_of("many", None)
    config = one.config | {"schedule": one.config["schedule"] | {"T": 7}}
    longer = replace(one, config=config, keys=one.keys | {"schedule.T": 7}, said=(*one.said, "schedule.T"))
    with pytest.raises(UserError, match=r"the runs differ in schedule\.T too, over which no mean is taken"):
        quality.objective_table([one, longer, *others], n=60)
    huber = replace(one, keys=one.keys | {"objective.loss": "huber"}, said=(*one.said, "objective.loss"))
    with pytest.raises(UserError, match=r"the runs differ in objective\.loss too"):
        quality.objective_table([one, huber], n=60)


def test_the_best_cell_is_the_one_that_is_clearly_best_in_its_own_direction():
    def cell(value, better, error=0.01):
        return [quality.Number(value, error, better)]

    assert quality.averaged_table([[cell(0.5, "higher"), cell(0.9, "higher"), []]]).best == (0, 1)
    assert quality.averaged_table([[cell(0.5, "lower"), cell(0.9, "lower"), []]]).best == (0, 0)
    assert quality.averaged_table([[cell(0.5, 1.0), cell(0.9, 1.0)]]).best == (0, 1)
    assert quality.averaged_table([[cell(0.5, "lower"), cell(0.51, "lower")]]).best is None
    assert quality.averaged_table([[cell(0.5, "lower", None), cell(0.9, "lower")]]).best is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["figure=objective_table"], "say sweep=DIR"),
        (["figure=objective_table", "sweep=nowhere"], "sweep=nowhere: no such directory"),
        (["figure=samples", "run=many/a", "sweep=many"], "sweep=many: is for figures of many runs"),
        (["figure=report", "sweep=many", "x=seed"], "x=seed: is for figures of many runs"),
    ],
)
def test_bad_lines_of_many_runs(home, monkeypatch, capfd, line, message):
    monkeypatch.chdir(home)
    assert main(["plot", *line, "hydra.run.dir=bad"]) == 2
    assert message in capfd.readouterr().err and not (home / "bad").exists()


def test_the_page_of_a_sweep(home, monkeypatch):
    monkeypatch.chdir(home)
    assert (
        main(["plot", "figure=report", "sweep=many", "figure.n=50", "figure.density=0", "hydra.run.dir=page"])
        == 0
    )
    html = (home / "page" / "report.html").read_text()
    assert (
        "3 of 3 runs finished" in html
        and "the first, but not clearly the best, by loss is run" in html
        and 'id="slider"' in html
    )
    for word in ("parameterization", "objective.weighting", "hybrid", "vlb"):
        assert word in html


def test_pictures_of_quality(tmp_path):
    line = pictures.CallsLine([5, 10, 20], [9.0, 3.0, 1.2])
    figure = pictures.over_calls({"ddpm": line, "a $b": line}, {"ddpm": line}, "sliced W2 / floor", True)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "ddpm",
        "a $b",
        "exact score",
        "true samples",
    ]
    table = np.array([[1.0, 2.0], [np.nan, 0.0]])
    errors = np.array([[0.1, np.nan], [np.nan, np.nan]])
    tables = {"m": pictures.NumberTable(table, errors, (0, 1))}
    figure = pictures.number_tables(["x", "y"], ["p", "q"], tables, ["g", "h"])
    texts = {t.get_text(): t.get_weight() for t in figure.axes[0].texts}
    assert set(texts) == {"1\n± 0.1", "2", "0", "g", "h"}
    # not the smallest, but what the numbers say is best
    assert [text for text, weight in texts.items() if weight == "bold" and text not in "gh"] == ["2"]
    with pytest.raises(ValueError, match="do not fit"):
        pictures.number_tables(["x"], ["p", "q"], tables, ["g", "h"])
    assert [pictures.short(v) for v in (0.00012, 0.034, 1.234, 33.21, 12345.0)] == [
        "0.00012",
        "0.034",
        "1.23",
        "33.2",
        "1e4",
    ]
