"""The four commands from end to end, on real configs: what they leave, and what they refuse."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_cli.__main__ import main
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.rows import read_csv

SMALL = ["steps=60", "batch_size=64", "model.width=16", "log_every=10", "stages.every=20", "stages.n=50", "n=80",
         "evaluation.n=100", "evaluation.draws=2", "evaluation.floor_draws=2", "device=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run on the circle and a labelled one of two pixels, trained by the command line."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "dataset=gmm2px", *SMALL, "hydra.run.dir=pixels"]) == 0
        assert (
            main(["train", "dataset=gmm2px", "objective=classifier", "steps=20", "hydra.run.dir=classifier"])
            == 0
        )
        assert main(["train", "dataset=circle", "dataset.jitter=0.05", *SMALL]) == 0
    return folder


@pytest.fixture
def cli(home, monkeypatch, capfd):
    monkeypatch.chdir(home)

    def run(*line):
        capfd.readouterr()
        code = main(list(line))
        return code, *capfd.readouterr()

    return run


def only(pattern):
    (found,) = Path().glob(pattern)
    return found


def test_what_train_leaves(cli):
    run = RunDirectory(only("outputs/train/circle/*"))
    assert run.status == "finished"
    names = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert {".hydra/config.yaml", "config.json", "train.log", "metrics.csv",
            "checkpoints/step_00000060.safetensors", "samples.npz", "summary.json",
            "figures/loss.png", "figures/samples.png", "figures/stages.png"} <= names  # fmt: skip
    assert not any(".part" in name for name in names)
    table = read_csv(run.metrics_file)
    assert table["step"] == [10, 20, 30, 40, 50, 60] and np.isfinite(table["loss"]).all()
    assert list(run.stages()) == [0, 20, 40, 60]
    samples = np.load(run.samples_file)
    assert samples["x0"].shape == (80, 2) and samples["x0"].dtype == np.float32 and "label" not in samples
    summary = run.summary
    assert summary["steps"] == 60 and summary["metrics"]["sliced_w2"]["n"] == 100
    assert summary["versions"]["torch"] == str(torch.__version__) and summary["seed"] == 0
    assert checkpoint.load(run.checkpoints()[-1])["config"]["dataset"]["jitter"] == 0.05
    record = run.record
    assert record.config["dataset"]["jitter"] == 0.05 and record.config["schedule"]["T"] == 50
    assert record.choices["dataset"] == "circle" and record.choices["model"] == "mlp"
    assert record.command == "train" and record.overrides == ["dataset=circle", "dataset.jitter=0.05", *SMALL]


def test_the_terminal_is_short_and_the_log_is_long(cli):
    """A header, the phases, what to open; the time and the module of each line are in train.log."""
    code, out, error = cli("train", "dataset=circle", *SMALL, "hydra.run.dir=talks")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "data: circle" and not any("][" in line for line in lines), error
    said = "\n".join(lines)
    for expected in ("network    mlp, ", "parameterization v, objective stable, schedule loglinear",
                     "60 steps of", "seed 0", "device     cpu, float32, 1 thread", "directory  ",
                     "\nsampling 80\n", "\nevaluating\nDDPM, seed 0\nmetric", "\ndrawing loss, samples, ",
                     "\nfinished: ", f"open {Path('talks', 'figures', 'samples.png').absolute()}"):  # fmt: skip
        assert expected in said
    sizes = re.search(r"mlp, ([\d,]+) parameters", said)
    saved = checkpoint.load(RunDirectory("talks").checkpoints()[-1])["state"]["net"]
    buffers = ("frequency", "phase")
    numbers = sum(v.numel() for name, v in saved.items() if not name.endswith(buffers))
    assert sizes and int(sizes[1].replace(",", "")) == numbers
    log = Path("talks", "train.log").read_text().splitlines()
    assert any(line.startswith("[20") and line.endswith("evaluating") for line in log)
    code, out, _ = cli("sample", "run=talks", "n=5", "hydra.run.dir=talks-more", "sampler.clip=2.0")
    assert code == 0 and out.splitlines()[0] == "run talks"
    code, out, _ = cli("train", "dataset=circle", *SMALL, "hydra.run.dir=mine", "steps=2", "plots=false",
                       "hydra.job_logging.formatters.simple.format='%(levelname)s | %(message)s'")  # fmt: skip
    assert code == 0 and out.startswith("INFO | data: circle")


def test_sample_repeats_no_flag(cli):
    """The defaults of sample are the run's: the very samples that training left."""
    code, _, error = cli("sample", "hydra.run.dir=again")
    assert code == 0, error
    first, again = (
        np.load(RunDirectory(path).samples_file)["x0"] for path in (only("outputs/train/circle/*"), "again")
    )
    assert np.array_equal(first, again)
    config = json.loads(Path("again/summary.json").read_text())
    assert config["run"].startswith("outputs/train/circle/") and config["sampler"]["variance"] == "beta"


def test_sample_takes_another_sampler_and_more(cli):
    code, _, error = cli(
        "sample", "run=pixels", "sampler=ddim", "sampler.steps=5", "n=7", "label=[1,0]", "guidance=cfg",
        "guidance.w=2", "hydra.run.dir=guided",
    )  # fmt: skip
    assert code == 0, error
    assert np.load("guided/samples.npz")["label"].tolist() == [1, 0, 1, 0, 1, 0, 1]
    summary = json.loads(Path("guided/summary.json").read_text())
    assert summary["sampler"]["steps"] == 5 and summary["guidance"]["w"] == 2
    assert summary["guidance"]["label_dropout"] == 0.1  # the run's


def test_third_order_with_a_network_warns_and_with_the_exact_score_does_not(cli):
    more = ["n=5", "sampler=dpmpp_3m", "sampler.steps=4"]
    code, _, error = cli("sample", "run=pixels", *more, "hydra.run.dir=third")
    assert code == 0, error
    warning = "third order amplifies the error of a trained network"
    assert warning in Path("third/sample.log").read_text()
    code, _, error = cli("sample", "run=exact", "dataset=circle", *more, "hydra.run.dir=exact_third")
    assert code == 0, error
    assert warning not in Path("exact_third/sample.log").read_text()


def test_classifier_guidance(cli):
    code, _, error = cli("sample", "run=pixels", "guidance=classifier", "guidance.run=classifier", "label=1", "n=5",
                         "hydra.run.dir=steered")  # fmt: skip
    assert code == 0, error
    assert RunDirectory("classifier").summary["metrics"]["accuracy"]["value"] > 0.5


def test_evaluate_writes_what_it_prints(cli):
    code, _, _ = cli("evaluate", "sampler.steps=10", "evaluation.n=200", "hydra.run.dir=measured")
    assert code == 0
    report = json.loads(Path("measured/evaluation.json").read_text())
    assert report["sampler"]["steps"] == 10 and report["metrics"]["coverage"]["n"] == 200
    assert "sliced W2" in Path("measured/evaluate.log").read_text()


def test_exact_needs_no_run(cli):
    code, _, error = cli("evaluate", "run=exact", "dataset=circle", "sampler=dpmpp", "sampler.steps=10",
                         "evaluation.n=500", "hydra.run.dir=truth")  # fmt: skip
    assert code == 0, error
    assert json.loads(Path("truth/evaluation.json").read_text())["metrics"]["distance_mean"]["value"] < 1e-3


@pytest.mark.parametrize(
    ("figure", "more"),
    [("loss", []), ("animation", ["figure.n=20"]), ("schedules", ["schedule.T=20"]), ("samples", [])],
)
def test_plot(cli, figure, more):
    code, _, error = cli("plot", f"figure={figure}", *more, f"hydra.run.dir=plot_{figure}")
    assert code == 0, error
    drawn = only(f"plot_{figure}/{figure}.*")
    assert drawn.suffix == (".gif" if "animation" in figure else ".png") and drawn.stat().st_size > 3000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["sample", "run=nowhere"], "run=nowhere: no such directory"),
        (["sample", "run="], "run=: must be a name or a path"),
        (["evaluate", "run=null"], "run=null: must be a name or a path"),
        (["plot", "figure=loss", "run=[pixels]"], "run=[pixels]: must be a name or a path"),
        (["sample", "run=again_nothing/.."], "run=again_nothing/.."),
        (["sample", "run=pixels", "label=2"], "label=2: must be one of 0..1"),
        (["sample", "label=0"], "label=0: this model was trained without labels"),
        (["sample", "run=pixels", "model.width=3"], "model.width=3: comes from the run"),
        (["sample", "run=pixels", "dataset=circle"], "dataset=circle: comes from the run"),
        (
            ["sample", "run=pixels", "sampler.eta=0.5"],
            "sampler.eta=0.5: no such key; it is a key of sampler=ddim",
        ),
        (["sample", "guidance=cfg"], "guidance=cfg: this model was trained without label dropout"),
        (["train", "guidance=cfg"], "guidance=cfg: this dataset has no labels"),
        (["sample", "run=classifier"], "run=classifier: is a classifier, which draws no samples"),
        (
            ["sample", "run=pixels", "guidance=classifier", "guidance.run=pixels", "label=0"],
            "guidance.run=pixels: is no",
        ),
        (
            ["sample", "guidance=classifier", "guidance.run=classifier", "label=0"],
            "was trained on another dataset",
        ),
        (
            ["sample", "run=pixels", "sampler.variance=learned"],
            "sampler.variance=learned: this denoiser predicts no",
        ),
        (["evaluate", "run=exact", "dataset=points", "dataset.path=none.csv"], "dataset.path=none.csv"),
        (["plot", "figure=loss", "run=exact"], "run=exact: this figure needs a trained run"),
        (["plot"], "figure"),
        (["train", "device=cuda:9"], "device=cuda:9: there is none here"),
        (
            ["train", "resume=true", "hydra.run.dir=pixels", "dataset=gmm2px", *SMALL, "seed=3"],
            "seed=3: the run was begun with",
        ),
        (
            ["train", "hydra.run.dir=pixels"],
            "hydra.run.dir=pixels: a run is already there; resume=true continues it",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(cli, line, message):
    before = {str(path) for path in Path().rglob("*")}
    code, _, error = cli(*line)
    assert code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert {str(path) for path in Path().rglob("*")} == before


def test_what_is_no_run_says_what_would_be(cli, tmp_path):
    (tmp_path / "parent").mkdir()
    for name in ("a", "b", "b/c/d"):
        (tmp_path / "parent" / name).mkdir(parents=True)
    for name in ("a", "b/c/d"):
        (tmp_path / "parent" / name / "config.json").write_text("{}")
    file, parent = only("outputs/train/circle/*/checkpoints/*60.safetensors"), tmp_path / "parent"
    reason = "is a file; a run is named by its directory, which holds config.json"
    assert cli("sample", f"run={file}")[::2] == (2, f"error: run={file}: {reason}\n")
    code, _, error = cli("sample", f"run={parent}")
    assert code == 2 and f"is no run, but holds some (diffusion runs root={parent} lists them); " in error
    assert error.endswith(f"choose from {parent / 'a'}, {parent / 'b/c/d'}\n")
    run = only("outputs/train/circle/*")
    reason = "error: n=100: no such key; did you mean evaluation.n?\n"
    assert cli("evaluate", f"run={run}", "n=100")[::2] == (2, reason)


@pytest.mark.parametrize("line", [["sample", "n=4"], ["evaluate"], ["plot", "figure=loss"]])
def test_nothing_is_written_over_a_trained_run(cli, line):
    before = {path: path.read_bytes() for path in Path("pixels").rglob("*") if path.is_file()}
    code, _, error = cli(*line, "run=pixels", "hydra.run.dir=pixels")
    assert (
        code == 2
        and error.startswith("error: hydra.run.dir=pixels: a trained run is there")
        and error.count("\n") == 1
    )
    assert {path: path.read_bytes() for path in Path("pixels").rglob("*") if path.is_file()} == before


def test_what_sample_left_is_no_training_to_go_on_with(cli):
    assert cli("sample", "run=pixels", "n=3", "hydra.run.dir=three", "plots=false")[0] == 0
    code, _, error = cli("train", "dataset=gmm2px", *SMALL, "hydra.run.dir=three", "resume=true")
    assert (code, error) == (
        2,
        "error: hydra.run.dir=three: holds what `sample` left, which is nothing that `train` goes on with\n",
    )
    assert RunDirectory("three").record.command == "sample"


def test_a_sweep_over_runs_figures_and_numbers_of_samples(cli):
    assert cli("plot", "-m", "run=pixels", "figure=loss,schedules", "hydra.sweep.dir=two")[0] == 0
    assert sorted(path.name for path in Path("two").glob("*/*.png")) == ["loss.png", "schedules.png"]
    line = ["run=pixels,exact", "dataset=gmm2px", "n=3,4", "plots=false", "hydra.sweep.dir=four"]
    code, _, error = cli("sample", "-m", *line)
    # a run brings its own data; what is bad in one job is said before any of them
    assert code == 2 and "dataset=gmm2px: comes from the run" in error and not Path("four").exists()
    assert cli("sample", "-m", line[0], *line[2:])[0] == 0
    assert sorted(len(np.load(file)["x0"]) for file in Path("four").glob("*/samples.npz")) == [3, 3, 4, 4]


def test_a_directory_may_be_used_again_and_says_what_it_holds_now(cli):
    for figure in ("loss", "schedules"):
        assert cli("plot", f"figure={figure}", "run=pixels", "hydra.run.dir=figures")[0] == 0
        assert RunDirectory("figures").record.overrides == [f"figure={figure}", "run=pixels"]
    assert {path.name for path in Path("figures").glob("*.png")} == {"loss.png", "schedules.png"}
    for n in (3, 5):
        assert cli("sample", f"n={n}", "run=pixels", "hydra.run.dir=points", "plots=false")[0] == 0
        assert len(np.load("points/samples.npz")["x0"]) == RunDirectory("points").record.config["n"] == n


def test_a_damaged_run_is_named(cli, home):
    for name, harm in (
        ("cut", lambda f: f.write_bytes(f.read_bytes()[:-50])),
        ("empty", lambda f: f.write_bytes(b"")),
    ):
        shutil.copytree("pixels", name)
        for file in RunDirectory(name).checkpoints():
            harm(file)
        code, _, error = cli("sample", f"run={name}")
        assert code == 2 and error.splitlines()[-1].startswith(f"error: run={name}: has no checkpoint")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read (JSONDecodeError)"),
        ("not: json", "cannot be read (JSONDecodeError)"),
        ("\x00\xff", "cannot be read (UnicodeDecodeError)"),
        ("[" * 100_000, "cannot be read (RecursionError)"),
        ("[1, 2]", "is no config of a run"),
        ("{}", "is no config of a run"),
        ('{"seed": 0, "choices": 3}', "is no config of a run"),
        ('{"seed": 0, "extensions": [{"steps": "many"}]}', "is no config of a run"),
        ('{"seed": 0, "dataset": "${oc.env:HOME}"}', "refers to values from outside"),
        ('{"seed": 0, "x": "' + "a" * 2**20 + '"}', "is larger than 1024 kB"),
        ('{"seed": ' + "9" * 5000 + "}", "cannot be read (ValueError)"),
        ('{"seed": ' + "9" * 400 + "}", "must be a whole number >= 0"),
        ('{"seed": NaN}', "seed=nan: must be a whole number >= 0"),
        ('{"seed": 0, "x": ' + "[" * 40 + "]" * 40 + "}", "too deep for a configuration"),
        ('{"seed": 0, "x": [' + "0," * 150_000 + "0]}", "too large for a configuration"),
        ('{"seed": 0, "dataset": {"_target_": "os.system"}}', "dataset._target_=os.system: not one of ours"),
        ('{"seed": 0, "x": {"_target_": "os.system"}}', "a class is not named here"),
        ('{"seed": 0, "model": {"_target_": "diffusion_cli.model.mlp.MLP", "_args_": [1]}}', "not allowed"),
        ('{"seed": 0, "../x": 1}', "no name of a key"),
        ('{"seed": 0}', "its config.json says nothing of dataset, model, schedule, "),
        ('{"seed": 0, "dataset": 3, "guidance": null}', "dataset=3: holds further keys"),
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_a_hostile_config_is_refused(cli, text, reason, tmp_path):
    hostile = tmp_path / "hostile"
    (hostile / "checkpoints").mkdir(parents=True)
    (hostile / "checkpoints" / "step_00000001.safetensors").write_bytes(b"")
    (hostile / "config.json").write_bytes(text.encode("latin-1"))
    before = sorted(Path().rglob("*"))
    # one of them by all ways in which a run is taken
    others = (
        [("sample", "guidance=cfg"), ("evaluate",), ("plot", "figure=loss")] if text == '{"seed": 0}' else []
    )
    for line in (("sample",), *others):
        code, _, error = cli(*line, f"run={hostile}")
        assert code == 2 and reason in error and error.count("\n") == 1 and len(error) < 700
    assert sorted(Path().rglob("*")) == before


def test_a_config_that_is_a_pipe_is_not_waited_for(cli, tmp_path):
    os.mkfifo(tmp_path / "config.json")
    code, _, error = cli("sample", f"run={tmp_path}")
    assert code == 2 and "config.json is no ordinary file" in error and error.count("\n") == 1


def test_an_older_run_is_refused_by_a_line_that_says_so(cli, tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").touch()
    code, _, error = cli("sample", f"run={tmp_path}")
    assert code == 2 and "it was made by an older version" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "target", ["os.system", "torch.load", "diffusion_cli.runs.checkpoint.torch.load", "my.Model"]
)
def test_a_run_may_not_name_a_class_that_is_not_ours(cli, target, tmp_path):
    shutil.copytree("pixels", tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    file.write_text(file.read_text().replace("diffusion_cli.model.mlp.MLP", target))
    code, _, error = cli("sample", f"run={tmp_path / 'run'}")
    assert code == 2 and error.startswith(f"error: model._target_={target}: ") and error.count("\n") == 1


def test_a_damaged_value_in_a_run_s_config_is_named(cli, tmp_path):
    """Each key of it, as it would be on the line."""
    shutil.copytree("pixels", tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    whole = json.loads(file.read_text())
    for key, value in (("steps", 0), ("device", "gpu"), ("ema", 3), ("figures", [])):
        file.write_text(json.dumps(whole | {key: value}))
        code, _, error = cli("sample", f"run={tmp_path / 'run'}")
        assert code == 2 and error.startswith(f"error: {key}=") and error.count("\n") == 1
    for key in ("dataset", "model", "schedule", "sampler", "guidance"):
        file.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        for more in ((), ("guidance=cfg",)):
            code, _, error = cli("sample", f"run={tmp_path / 'run'}", *more)
            assert code == 2 and error.endswith(f"its config.json says nothing of {key}\n")


def test_divergence_stops_the_run_and_saves_nothing_bad(cli):
    line = ["train", "dataset=circle", *SMALL, "steps=400", "optimizer.lr=1e30", "optimizer.clip=null",
            "optimizer.warmup=0", "checkpoint.every=20", "plots=false", "hydra.run.dir=diverged"]  # fmt: skip
    code, _, error = cli(*line)
    assert code == 1 and "diverged by step" in error
    run = RunDirectory("diverged")
    assert run.status == "failed"
    for file in run.checkpoints():
        state = checkpoint.load(file)["state"]
        assert all(p.isfinite().all() for p in state["net"].values())


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (["schedule=cosine", "parameterization=eps", "sampler=ddpm"], True),
        (["schedule=linear", "parameterization=eps", "sampler=ddim", "sampler.eta=1"], True),
        (["schedule=cosine", "parameterization=eps", "sampler=ddpm", "sampler.clip=data"], False),
        (["schedule=cosine", "parameterization=eps", "sampler=ddim"], True),
        (["schedule=cosine", "parameterization=v", "sampler=ddpm"], False),
        (["schedule=loglinear", "parameterization=eps", "sampler=ddpm"], False),
    ],
)
def test_what_throws_samples_far_out_is_warned_of_at_the_start(words, warned, tmp_path):
    line = [
        "train",
        "dataset=gmm2px",
        "steps=1",
        "plots=false",
        "stages.every=0",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    assert main([*line, *words]) == 0
    told = (tmp_path / "run" / "train.log").read_text()
    assert ("outliers are likely" in told) == ("sampler.clip=data keeps" in told) == warned


def test_metrics_and_figures_are_two_keys(cli):
    for keys, measured, drawn in (
        (["plots=false", "evaluate=true"], True, False),
        (["evaluate=false", "figures.stages=null"], False, True),
        (["plots=false"], False, False),
    ):
        name = "-".join(keys).replace("=", "_")
        code, _, err = cli("train", "dataset=circle", *SMALL, *keys, f"hydra.run.dir={name}")
        assert code == 0, err
        run = RunDirectory(name)
        assert bool(run.summary["metrics"]) is measured
        assert (run.figures / "samples.png").exists() is drawn
        assert not (run.figures / "stages.png").exists()
        assert run.samples_file.exists() is (measured or drawn)
    code, _, err = cli("train", "plots=false", "optimize=metrics.sliced_w2")
    assert code == 2 and "evaluate=true" in err
    code, _, err = cli("train", "figures=null")
    assert code == 2 and "plots=false" in err
    # the word to blame is named, whatever stands before it
    code, _, err = cli("train", "steps=5", "evaluation=null")
    assert code == 2 and err.startswith("error: evaluation=null:")
