"""The commands as functions, and a run as an object: the same as by the command line, but for how errors arrive."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffusion_cli import Run, device, plot, train
from diffusion_cli.__main__ import main
from diffusion_cli.api.words import typed, words_of
from diffusion_cli.commands.course import Training
from diffusion_cli.errors import ArgumentError, RunFailed
from diffusion_cli.figures.graphic import Graphic
from diffusion_cli.runs import checkpoint

FEW = [f"figures.{name}=null" for name in ("stages", "forward_strip", "reverse_strip", "trajectories")]
WORDS = [*FEW, "evaluation.n=64", "evaluation.draws=1", "evaluation.floor_draws=2", "stages.every=0"]
KEYS = {"dataset": "circle", "steps": 30, "n": 50, "log_every": 10}
LINE = [*WORDS, *(f"{key}={value}" for key, value in KEYS.items())]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the same line has trained twice: by the command, and from Python."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(*WORDS, "hydra.run.dir=outputs/train/circle/here", quiet=True, **KEYS)
        assert main(["train", *LINE, "hydra.run.dir=by_command"]) == 0
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(home)
    return Run.load()


def files_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


# training


def test_a_training_is_that_of_the_command(home: Path) -> None:
    ours, theirs = home / "outputs/train/circle/here", home / "by_command"
    assert files_in(ours) == files_in(theirs)
    for name in ("metrics.csv", ".hydra/config.yaml"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert json.loads((ours / "config.json").read_text()) == json.loads((theirs / "config.json").read_text())
    states = [checkpoint.load(f / "checkpoints/step_00000030.safetensors")["state"] for f in (ours, theirs)]
    for name in ("net", "ema"):
        assert all(torch.equal(states[0][name][key], states[1][name][key]) for key in states[0][name])
    assert np.array_equal(np.load(ours / "samples.npz")["x0"], np.load(theirs / "samples.npz")["x0"])
    logs = [(f / "train.log").read_text() for f in (ours, theirs)]
    assert "sliced W2" in logs[0] and logs[0].count("\n") == logs[1].count("\n")


@pytest.mark.parametrize(
    ("words", "keys", "line"),
    [
        ([], {"dataset": "circel"}, "dataset=circel: no such option; did you mean circle?"),
        ([], {"stepz": 3}, "stepz=3: no such key; did you mean steps?"),
        ([], {"steps": -1}, "steps=-1: must be a whole number >= 1"),
        ([], {"seed": [0, 1]}, "seed=[0,1]: must be a whole number >= 0"),
        ([], {"optimizer": {"lr": 1}}, 'optimizer={lr:1}: takes no dict; a key with a dot is a string: "optimizer'),
        (["optimizer.lr=0"], {}, "optimizer.lr=0: must be a number > 0"),
        (["seed=0,1"], {}, "seed=0,1: several values need -m"),
        (["-m"], {}, '-m: must be a string such as "optimizer.lr=1e-3"'),
        ([], {"dataset": "gmm2px", "init": "nowhere"}, "init=nowhere: no such directory"),
        ([], {"sampler": "ddim", "dataset": "points"}, "dataset.path=???: a value is needed"),
    ],
)  # fmt: skip
def test_bad_input_is_a_value_error(words, keys, line, tmp_path, monkeypatch) -> None:
    """The line of the command, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError) as caught:
        train(*words, quiet=True, **keys)
    assert isinstance(caught.value, ValueError) and str(caught.value).startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_saves_and_the_training_goes_on(home, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    row, rows = Training.log_row, []

    def interrupted(self):
        rows.append(self.state.step)
        if len(rows) == 1:
            signal.raise_signal(signal.SIGINT)
        return row(self)

    monkeypatch.setattr(Training, "log_row", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        train(*WORDS, "hydra.run.dir=run", quiet=True, **KEYS)
    assert signal.getsignal(signal.SIGINT) is handler and rows == [10]
    assert Run.load("run").status == "interrupted"
    run = train(*WORDS, "hydra.run.dir=run", quiet=True, resume=True, **KEYS)
    assert run.status == "finished" and rows == [10, 20, 30]
    assert (run.path / "metrics.csv").read_bytes() == (home / "by_command/metrics.csv").read_bytes()


def test_a_second_interrupt_leaves_the_program_alive(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)

    def twice(self):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Training, "log_row", twice)
    with pytest.raises(KeyboardInterrupt):
        train("hydra.run.dir=run", quiet=True, dataset="circle", steps=60, plots=False)
    assert json.loads(Path("run/summary.json").read_text())["status"] == "interrupted"


def test_a_training_that_diverges_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFailed, match="diverged by step"):
        train("optimizer.lr=1e30", quiet=True, dataset="circle", steps=50, objective="mse", plots=False)


def test_what_is_said_is_printed_unless_quiet(tmp_path, monkeypatch, capfd) -> None:
    """Where the program has set up logging, it is left to that."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    keys = {"dataset": "circle", "steps": 2, "plots": False, "threads": 1}
    train(quiet=True, **keys)
    assert capfd.readouterr().out == ""
    train(**keys)
    assert "finished: " in capfd.readouterr().out
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    root.addHandler(handler)
    train(**keys)
    assert capfd.readouterr().out == "" and any("finished" in record.getMessage() for record in records)
    assert logging.getLogger("diffusion_cli").handlers == []


def test_hydra_and_the_threads_are_as_they_were(run) -> None:
    with initialize(version_base=None):
        mine = GlobalHydra.instance().hydra
        torch.set_num_threads(2)
        run.sample(5, quiet=True, threads=1)
        assert GlobalHydra.instance().hydra is mine and torch.get_num_threads() == 2
        torch.set_num_threads(1)


# runs


def test_a_run_is_found_by_its_names(home: Path, run: Run) -> None:
    here = home / "outputs/train/circle/here"
    for name in ("latest", "circle", "circle/here", here, "outputs/train/circle", run):
        assert Run.load(name).path == here
    assert Run.load("by_command").path == home / "by_command"
    with pytest.raises(ArgumentError, match=r"run=nowhere: no such directory"):
        Run.load("nowhere")
    with pytest.raises(ArgumentError, match=r"run=latest: there is no finished run below elsewhere"):
        Run.load(root="elsewhere")


def test_a_run_says_what_it_is(run: Run) -> None:
    assert run.config["steps"] == 30 and run.config["dataset"]["_target_"].endswith("Circle")
    assert run.status == run.summary["status"] == "finished"
    assert run.metrics["sliced_w2"]["value"] == run.summary["metrics"]["sliced_w2"]["value"] > 0
    assert repr(run.metrics).startswith("metric") and "sliced W2" in repr(run.metrics)
    assert run.history["step"] == [10, 20, 30] and all(loss > 0 for loss in run.history["loss"])
    shown = run._repr_html_()
    assert str(run.path) in shown and "sliced W2" in shown and "data:image/png;base64," in shown


def test_samples_are_those_of_the_command(run: Run) -> None:
    assert (
        main(["sample", "run=circle/here", "n=70", "sampler=dpmpp", "sampler.steps=5", "hydra.run.dir=drawn"])
        == 0
    )
    samples = run.sample(70, sampler="dpmpp", steps=5, quiet=True)
    assert np.array_equal(samples.x0, np.load("drawn/samples.npz")["x0"]) and len(samples) == 70
    assert samples.label is None and samples.class_names == ()
    assert repr(samples) == "70 samples, x0 (70, 2)"
    content = samples.plot()._repr_png_()[0]
    assert Path("drawn/figures/samples.png").stat().st_size == pytest.approx(len(content), rel=0.01)


def test_an_evaluation_is_that_of_the_command(run: Run) -> None:
    assert main(["evaluate", "sampler=ddim", "hydra.run.dir=measured"]) == 0
    ours = run.evaluate(sampler="ddim", quiet=True)
    assert ours == json.loads(Path("measured/evaluation.json").read_text())["metrics"]
    assert "draws" in repr(ours)


def test_figures_show_themselves(run: Run, tmp_path: Path) -> None:
    picture = run.plot("loss", quiet=True)
    content, about = picture._repr_png_()
    image = Image.open(BytesIO(content))
    assert image.width > about["width"] > 100 and picture._repr_html_() is None
    saved = Image.open(picture.save(tmp_path / "loss.png"))
    assert saved.size == image.size and saved.text["seed"] == image.text["seed"] == "0"
    moving = run.plot("animation", "figure.n=20", steps=3, quiet=True)
    assert moving._repr_png_() is None and "data:image/gif;base64," in moving._repr_html_()
    page = plot("report", "figure.n=20", "figure.frames=3", run="exact", dataset="gmm2px", quiet=True)
    assert page._repr_html_().startswith("<iframe srcdoc=") and page.suffix == ".html"
    assert isinstance(plot("schedules", quiet=True), Graphic)
    with pytest.raises(ArgumentError, match="did you mean loss"):
        run.plot("losss")


def test_components_are_those_of_the_run(run: Run) -> None:
    denoiser = run.components("sampler.steps=3", quiet=True).denoiser
    x_T = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    prediction = denoiser(x_T, 50.0)
    level = denoiser.schedule.level(50.0, x_T)
    assert torch.allclose(level.alpha * prediction.x0 + level.sigma * prediction.eps, x_T, atol=1e-5)


def test_a_student_is_a_run(run: Run) -> None:
    keys = {"steps": 3, "trajectories": 300, "trajectory_steps": 4, "plots": False, "calls": 1}
    student = run.distill("hydra.run.dir=student", quiet=True, **keys)
    assert student.status == "finished" and (student.path / "distill.log").stat().st_size > 0
    assert student.sample(5, quiet=True).x0.shape == (5, 2)


def test_an_exact_denoiser_stands_for_a_run() -> None:
    exact = Run.exact(dataset="gmm2px")
    samples = exact.sample(300, sampler="dpmpp", steps=20, guidance="cfg", w=1, label=[0, 1], quiet=True)
    assert samples.label.tolist() == [0, 1] * 150
    centre = [samples.x0[samples.label == k].mean(0) for k in (0, 1)]
    means = np.array(exact.config["dataset"]["means"])
    assert np.abs(np.array(centre) - means).max() < 0.1
    with pytest.raises(ArgumentError, match="run=exact: was not trained"):
        _ = exact.path
    with pytest.raises(ArgumentError, match="run=exact: the exact denoiser of this dataset is not known"):
        Run.exact("dataset.source=bundled", dataset="mnist").sample(2, quiet=True)


def test_completions_are_in_the_units_of_the_file(tmp_path, monkeypatch) -> None:
    """As the known half of each is: the table's own column."""
    monkeypatch.chdir(tmp_path)
    points = 1000 + 30 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).numpy()
    np.save("my points.npy", points)
    keys = {"dataset": "points", "steps": 5, "plots": False, "quiet": True}
    run = train("hydra.run.dir=run", f"dataset.path='{tmp_path / 'my points.npy'}'", **keys)
    done = run.sample(3, "repaint.passes=1", inpaint="left_half", completions=2, quiet=True)
    assert done.x0.shape == (6, 2) and np.array_equal(done.x0[:, 0], done.original[:, 0])
    assert all(np.abs(points - row).sum(1).min() < 1e-3 for row in done.original)
    assert isinstance(done.plot(), Graphic)


# words


TEXTS = st.text(
    st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs"), exclude_characters="$"), min_size=1
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS, st.lists, max_leaves=4
    )
)
def test_a_value_comes_back_as_it_was_given(value) -> None:
    override = OverridesParser.create().parse_override(f"key={typed('key', value)}")
    assert override.value() == value and not override.is_sweep_override()


def test_words_of_numbers_and_paths() -> None:
    keys = {"a": np.float32(0.5), "b": np.int64(3), "c": Path("runs/mine"), "d": (1, None)}
    assert words_of(["x.y=1"], keys) == ["x.y=1", "a=0.5", "b=3", "c=runs/mine", "d=[1,null]"]


# the package


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, diffusion_cli as d; print({*d.__all__} <= {*dir(d)}, d.Run.__name__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True Run False\n"
    with pytest.raises(ImportError):
        exec("from diffusion_cli import nothing")


@pytest.fixture
def two_threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(device, "_DEFAULT", 2)
    monkeypatch.setattr(device, "_chosen", False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    yield
    torch.set_num_threads(before)


def test_threads_are_limited_once(two_threads, caplog, monkeypatch) -> None:
    device.limit_threads((3, 32, 32), "cpu")
    device.limit_threads((2,), "cuda")
    assert torch.get_num_threads() == 2
    device.limit_threads((2,), "cpu")
    assert torch.get_num_threads() == 1 and "torch.set_num_threads(N) changes it" in caplog.text
    torch.set_num_threads(2)
    device.limit_threads((2,), "cpu")
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("way", ["environment", "torch", "ours"])
def test_chosen_threads_stay(way, two_threads, monkeypatch) -> None:
    if way == "environment":
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
    elif way == "torch":
        torch.set_num_threads(3)
    else:
        device.choose_threads(2)
    device.limit_threads((2,), "cpu")
    assert torch.get_num_threads() == (3 if way == "torch" else 2)
