"""Metrics that describe themselves: the catalogue, measurements and their table, and an evaluation from outside."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from diffusion_cli.__main__ import main
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics import evaluation as evaluations
from diffusion_cli.metrics.catalogue import METRICS, Metric, arms, label_of
from diffusion_cli.metrics.classification import ClassifierEvaluation
from diffusion_cli.metrics.measurement import beside_floor, measured, measurements, row_of, table_of
from diffusion_cli.metrics.protocol import Evaluation
from diffusion_cli.options.signature import read
from diffusion_cli.runs import comparison, results
from diffusion_cli.runs.directory import RunDirectory

OURS = [
    evaluations.PointEvaluation,
    evaluations.MixtureEvaluation,
    evaluations.SetEvaluation,
    evaluations.ImageEvaluation,
    evaluations.LikelihoodEvaluation,
    ClassifierEvaluation,
]
DISTANCE = Metric("distance", "distance", "data")


def test_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys, diffusion_cli.metrics.catalogue; print({'torch', 'numpy', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_metric_says_which_way_is_better() -> None:
    assert all(name == metric.name and metric.label for name, metric in METRICS.items())
    assert {metric.better for metric in METRICS.values()} == {"lower", "higher", "floor", 0.0, 0.5, 1.0}
    assert METRICS["one_nn_cd"].better == 0.5 and METRICS["accuracy"].better == "higher"
    assert label_of("sliced_w2") == "sliced W2" and label_of("vendi") == "vendi"


def test_a_measurement_beside_its_floor() -> None:
    entry = beside_floor(DISTANCE, [1.0, 3.0], [0.5], n=10)
    assert entry == {
        "value": 2.0, "spread": pytest.approx(math.sqrt(2)), "floor": 0.5, "floor_spread": None, "ratio": 4.0, "n": 10,
        "draws": 2, "floor_draws": 1, "label": "distance", "unit": "data", "better": "lower",
    }  # fmt: skip
    assert beside_floor(DISTANCE, [1.0], [1e-9], n=10, rounding=1e-6)["ratio"] is None
    # The best fraction of stars with five arms is that of the data.
    assert beside_floor(arms(5), [0.5], [0.25], n=10)["better"] == 0.25
    with pytest.raises(ValueError, match="arms_5 has no floor"):
        measured(arms(5), 0.5)


def test_a_report_as_a_row_and_as_a_table() -> None:
    report = {
        "a": beside_floor(replace(DISTANCE, label="first"), [1.0, 3.0], [0.5], n=10),
        "b": measured(replace(DISTANCE, label="second"), 2.5),
        "c": measured(replace(DISTANCE, label="third"), None),
        "terms": [1, 2],
        "n": 7,
        "d": None,
        "about": {"name": "x"},
    }
    assert list(measurements(report)) == ["a", "b", "c"]
    row = row_of(report)
    assert list(row) == ["a", "a_floor", "b", "c"]
    assert (row["a"], row["a_floor"], row["b"]) == (2.0, 0.5, 2.5) and math.isnan(row["c"])
    lines = table_of(report, digits=2, n=lambda entry: str(entry.get("n", ""))).splitlines()
    assert [line.split() for line in lines] == [
        ["metric", "value", "floor", "ratio", "n"],
        ["first", "2.00", "±", "1.41", "0.50", "4.00", "10"],
        ["second", "2.50"],
        ["third", "unknown"],
    ]
    assert len({len(line) for line in lines}) == 1
    # Columns in which nothing stands are left out.
    assert table_of({"b": report["b"]}).splitlines()[0].split() == ["metric", "value"]
    assert table_of({"n": 7}) == "metric"


@pytest.mark.parametrize("evaluation", OURS, ids=lambda made: made.__name__)
def test_arguments_of_an_evaluation_are_described_and_kept_in_range(evaluation: type[Evaluation]) -> None:
    signature = read(f"{evaluation.__module__}.{evaluation.__name__}")
    assert signature is not None and signature.arguments
    for name, argument in signature.arguments.items():
        assert argument.range is not None and argument.text, name
        for junk in ("abc", -1, 10**30, math.nan, [1], {"a": 1}, 0.5):
            assert not argument.range.accepts(junk), (name, junk)
            with pytest.raises(ArgumentError, match=f"^{name}="):
                evaluation(**{name: junk})
        # The default is in its range.
        evaluation(**{name: argument.default})


@pytest.mark.parametrize(
    ("evaluation", "name", "bad"),
    [
        (evaluations.PointEvaluation, "n", 1),
        (evaluations.PointEvaluation, "draws", 0),
        (evaluations.PointEvaluation, "floor_draws", 1),
        (evaluations.MixtureEvaluation, "n", 1),
        (evaluations.SetEvaluation, "emd_points", 0),
        (evaluations.ImageEvaluation, "neighbours", 0),
        (evaluations.ImageEvaluation, "neighbours", None),
        (evaluations.LikelihoodEvaluation, "steps", "abc"),
        (evaluations.LikelihoodEvaluation, "steps", 0),
    ],
)
def test_values_at_the_border_of_a_range(evaluation: type[Evaluation], name: str, bad: object) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}={'null' if bad is None else bad}: must be"):
        evaluation(**{name: bad})


@pytest.mark.parametrize("name", ["mixture", "images"])
def test_an_evaluation_that_does_not_suit_the_data_is_refused_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dataset=circle", f"evaluation={name}", "hydra.run.dir=run"]) == 2
    assert capfd.readouterr().err.startswith("error: evaluation: ") and not Path("run").exists()


RADIUS = '''
from dataclasses import dataclass

from diffusion_cli.metrics.catalogue import Metric
from diffusion_cli.metrics.measurement import measured
from diffusion_cli.metrics.protocol import Evaluation
from diffusion_cli.ranges import Several, checked

RADIUS = Metric("radius", "mean radius", "data", better=1.0)


@checked
@dataclass(frozen=True)
class Radius(Evaluation):
    """The mean distance from the origin.

    n: samples.
    """

    n: Several = 40

    def __call__(self, given):
        return {RADIUS.name: measured(RADIUS, float(given.draw(0).x0.norm(dim=1).mean()))}
'''


def test_an_evaluation_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One class and one YAML: it is found, measured, shown and compared like one of ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DIFFUSION_CLI_TRUST", "my_radius")
    Path("my_radius.py").write_text(RADIUS)
    Path("mine/evaluation").mkdir(parents=True)
    Path("mine/evaluation/radius.yaml").write_text("_target_: my_radius.Radius\nn: 30\n")
    line = ["train", "--config-dir", "mine", "dataset=circle", "evaluation=radius", "steps=4", "model.width=8", "device=cpu",
            "n=20", "stages.every=0", "sampler.steps=2", "monitor.every=2", "monitor.n=10"]  # fmt: skip
    assert main([*line, "evaluation.n=1", "hydra.run.dir=bad"]) == 2
    assert "evaluation.n=1: must be a whole number" in capfd.readouterr().err and not Path("bad").exists()
    assert main([*line, "hydra.run.dir=runs/a"]) == 0
    run = RunDirectory("runs/a")
    entry = json.loads(run.summary_file.read_text())["metrics"]["radius"]
    assert entry.keys() == {"value", "label", "unit", "better"}
    assert (entry["label"], entry["unit"], entry["better"]) == ("mean radius", "data", 1.0)
    assert "mean radius" in (run.path / "train.log").read_text()
    assert run.evaluations_file.read_text().startswith("step,radius,error_")
    (result,) = results.find("runs")
    assert comparison.metrics([result]) == ["loss", "metrics.radius"]
    assert result.cost("metrics.radius") == pytest.approx(abs(entry["value"] - 1))
