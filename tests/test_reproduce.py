"""scripts/reproduce: its list names what exists and composes; it does each item once, in order, and tells what is missing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffusion_cli.options.check import arguments_of, check_complete, check_config
from diffusion_cli.options.files import CONFIGS, node_of
from diffusion_cli.options.keys import keys_of

SCRIPTS = Path(__file__).parents[1] / "scripts" / "report"
sys.path.insert(0, str(SCRIPTS))

import index  # noqa: E402
import main as engine  # noqa: E402
import provenance  # noqa: E402
import worker  # noqa: E402
from listing import Figure, Listing, Run, find  # noqa: E402

LISTING, COURSES = (Listing.read(SCRIPTS / f"{name}.yaml") for name in ("list", "courses"))
SMALL = "steps=20 model.width=16 stages.every=10 stages.n=20 n=50 evaluation.n=50 evaluation.draws=1 evaluation.floor_draws=2"


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    monkeypatch.delenv("DIFFUSION_CLI_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("listed", [LISTING, COURSES], ids=["report", "courses"])
def test_every_run_composes_and_is_allowed(composed, listed):
    """The first job of a sweep stands for all. What a full run says a quick one says too, and more."""
    for item in listed.items(None, "quick", Path("home")):
        if not isinstance(item, Run):
            continue
        words = provenance.first_job([w for w in item.words[1:] if not w.startswith("hydra.")])
        config = composed(item.words[0], *words)
        check_config(config)
        check_complete(config, "train")
        assert (
            item.words[0] in ("train", "distill")
            and "resume=true" in item.words
            and "threads=1" in item.words
        )
        assert sum(word.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for word in item.words) == 1


@pytest.mark.parametrize(("listed", "least"), [(LISTING, 50), (COURSES, 35)], ids=["report", "courses"])
def test_every_figure_names_what_there_is(listed, least):
    figures = [item for item in listed.items(None, "quick", Path("home")) if isinstance(item, Figure)]
    assert len(figures) > least
    for figure in figures:
        said = dict(word.split("=", 1) for word in figure.words[1:])
        options = arguments_of("figure", node_of("figure", said["figure"])["_target_"])
        for key, value in said.items():
            group, _, rest = key.partition(".")
            if group == "figure":
                assert not rest or rest in options, (figure.name, key)
            elif not rest and (CONFIGS / key).is_dir():
                assert (CONFIGS / key / f"{value}.yaml").is_file(), (figure.name, key)
            elif rest and group in said:
                chosen = node_of(group, said[group])["_target_"]
                assert rest in arguments_of(group, chosen), (figure.name, key)
            elif rest and group != "hydra" and (CONFIGS / group).is_dir():
                # the run's own option of that group, whichever it is
                chosen = [
                    node_of(group, file.stem).get("_target_") for file in (CONFIGS / group).glob("*.yaml")
                ]
                assert any(rest in (arguments_of(group, one) or {}) for one in chosen if one), (
                    figure.name,
                    key,
                )
            elif key not in ("hydra.run.dir", "experiment"):
                entry = keys_of("plot")[group]
                assert not rest or rest in entry, (figure.name, key)
        assert figure.needs or {"dataset", "experiment"} & said.keys() or said["figure"] == "schedules"


def test_names_are_unique_and_a_quick_budget_is_smaller():
    items = LISTING.items(None, "quick", Path("home"))
    runs, figures = ([item.name for item in items if isinstance(item, kind)] for kind in (Run, Figure))
    assert len(set(runs)) == len(runs) and len(set(figures)) == len(figures)
    directories = [item.directory for item in items]
    assert len(set(directories)) == len(directories)
    assert not {i.directory for i in LISTING.items(None, "full", Path("home")) if isinstance(i, Run)} & set(
        directories
    )


def test_a_group_alone_brings_the_runs_it_borrows():
    items = LISTING.items(["objective"], "quick", Path("home"))
    assert [item.name for item in items] == ["objective_fixed", "objective_learned", "objective_table"]
    assert items[-1].needs == ("objective_fixed", "objective_learned")
    assert "sweep=home/quick/objective" in items[-1].words


def listing(**runs: str) -> Listing:
    """Runs of a circle that are trained with these words beside SMALL, and two figures of each, one of them wrong."""
    figures = {
        "good": {"says": "Schedules", "plot": "figure=schedules"},  # named like a run, which it does not need
        **{
            f"{name}_loss": {"says": f"Loss of {name}", "plot": f"figure=loss run={{{name}}}"}
            for name in runs
        },
    }
    made = {name: {"train": f"dataset=circle plots=false {SMALL} {words}"} for name, words in runs.items()}
    return Listing({"toys": {"title": "Toys", "runs": made, "figures": figures}}, {})


def test_items_are_done_once_and_failures_are_told(tmp_path, capsys):
    """In this process, by a pool that has no processes."""
    known = listing(good="seed=3", bad="optimizer.lr=-1")
    items = known.items(None, "quick", Path("home"))
    report = Path("report")
    ends = [worker.do(item, "report") for item in items]
    assert [outcome for outcome, *_ in ends] == ["trained", "failed", "drawn", "drawn", "failed"]
    assert ends[1][2].startswith("error: optimizer.lr=-1") and ends[4][2].startswith(
        "error: run=home/quick/toys/bad"
    )
    assert worker.do(items[0], "report")[0] == "is there"
    index.write(known, items, report, Path("home"))
    text = (report / "README.md").read_text()
    assert "![Loss of good](good_loss.png)" in text and "run good: seed 3, 20 steps" in text
    assert "bad" not in text and "diffusion plot figure=schedules threads=1" in text
    record = json.loads((report / "report.json").read_text())
    assert record["runs"]["good"]["seed"] == 3 and list(record["figures"]) == ["good", "good_loss"]
    with Image.open(report / "good_loss.png") as image:
        assert image.text["run"] == "home/quick/toys/good" and image.text["seed"] == "3"
        assert len(image.text["config"]) == 16 and image.text["Software"].startswith("diffusion_cli ")
    # A later call for other items keeps what is known of these.
    index.write(known, items[2:3], report, Path("elsewhere"))
    assert (report / "README.md").read_text() == text


def test_the_reports_index_is_that_of_its_record(monkeypatch):
    """So that a part drawn anew in a fresh clone leaves the rest of the index as it is."""
    monkeypatch.chdir(SCRIPTS.parents[1])
    report = Path("outputs/report")
    record = json.loads((report / index.RECORD).read_text())
    assert (report / "README.md").read_text() == index.index(LISTING, record, report)
    listed = {name for content in LISTING.groups.values() for name in content.get("figures", {})}
    assert record["figures"].keys() == listed
    for name, figure in record["figures"].items():
        assert all((report / f"{name}{s}").is_file() for s in figure["drawn"] if s != index.PAGE)


class Instantly:
    """Stands in for the pool: does what it is given at once, and keeps the order."""

    order: ClassVar[list[str]] = []

    def __init__(self, *_):
        pass

    def submit(self, _, item, report):
        from concurrent.futures import Future

        future = Future()
        self.order.append(item.name)
        future.set_result(("failed", 0.0, "no luck") if item.name == "bad" else ("done", 0.1, None))
        return future

    def shutdown(self, **_):
        pass


def test_what_needs_a_failed_run_is_skipped_by_name(monkeypatch, capsys):
    monkeypatch.setattr(engine, "ProcessPoolExecutor", Instantly)
    Instantly.order.clear()
    items = listing(good="", bad="").items(None, "quick", Path("home"))
    progress = engine.Progress(len(items))
    engine.work(items, progress, 2)
    assert [(item.name, error) for item, error in progress.failed] == [
        ("bad", "no luck"),
        ("bad_loss", "needs bad"),
    ]
    assert progress.done == len(items) and "bad_loss" not in Instantly.order
    assert Instantly.order.count("good") == 2
    assert Instantly.order.index("good") < Instantly.order.index("good_loss")
    assert len(capsys.readouterr().out.splitlines()) == len(items)


ENTRY = {"folders": ["images"], "holds": "train/cat", "archive": "images.tar"}


def test_data_are_found_unpacked_or_missed(tmp_path, monkeypatch):
    home, data = tmp_path / "home", tmp_path / "data"
    data.mkdir()
    assert find("cifar10", ENTRY, home) == (
        None,
        "no images/train/cat or images.tar anywhere: give the folder of the data by --data DIR or DIFFUSION_CLI_DATA",
    )
    monkeypatch.setenv("DIFFUSION_CLI_DATA", str(data))
    assert find("cifar10", ENTRY, home)[1] == f"no images/train/cat or images.tar in {data}"
    with tarfile.open(data / "images.tar", "w") as file:
        entry = tarfile.TarInfo("train/cat/0.jpg")
        entry.size = 3
        file.addfile(entry, io.BytesIO(b"abc"))
    assert find("cifar10", ENTRY, home) == (str(home / "data" / "cifar10"), "")
    (data / "images.tar").unlink()
    assert find("cifar10", ENTRY, home)[0] is not None  # it is unpacked once
    (data / "images" / "train" / "cat").mkdir(parents=True)
    assert find("cifar10", ENTRY, home)[0] == str(data / "images")


def test_items_without_data_are_skipped_and_named():
    missing = [item for item in LISTING.items(None, "quick", Path("home")) if item.problem]
    assert missing and all("no cifar10/train/cat" in item.problem for item in missing)


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_CLI_DATA", str(tmp_path))
    with tarfile.open(tmp_path / "images.tar", "w") as file:
        file.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(tarfile.OutsideDestinationError):
        find("cifar10", ENTRY, tmp_path / "home")
    assert not (tmp_path / "outside").exists() and not list((tmp_path / "home").rglob("*cifar10*"))


def test_a_course_has_the_page_of_its_name():
    pages = {file.stem for file in (SCRIPTS.parents[1] / "docs" / "courses").glob("*.md")}
    assert set(COURSES.groups) == pages


def test_a_figure_made_by_something_else_is_found(monkeypatch):
    known = listing(good="seed=3")
    Path("report").mkdir()
    drawn = io.BytesIO()
    Image.new("RGB", (9, 5), (1, 2, 3)).save(drawn, "PNG")
    for name, mark in provenance.provenances(known, "quick").items():
        Path("report", f"{name}.png").write_bytes(provenance.stamped(drawn.getvalue(), mark))
    with Image.open("report/good.png") as image:
        assert image.getpixel((8, 4)) == (1, 2, 3) and len(image.text["provenance"]) == 16
    assert provenance.check(known, Path("report")) == {}
    assert list(provenance.check(listing(good="seed=4"), Path("report"))) == ["good_loss"]
    other = listing(good="seed=3")
    other.groups["toys"]["figures"]["good"]["plot"] += " figure.names=[linear]"
    assert list(provenance.check(other, Path("report"))) == ["good"]
    raised = Listing(known.groups, known.data, known.recipe + 1)
    assert list(provenance.check(raised, Path("report"))) == ["good", "good_loss"]
    # a default of the configuration, which stands in no entry
    compose = provenance.composing

    @contextlib.contextmanager
    def other_default():
        with compose() as composed:
            yield lambda *line: composed(*line) | {"ema": {"decay": 0.5}}

    monkeypatch.setattr(provenance, "composing", other_default)
    assert list(provenance.check(known, Path("report"))) == ["good_loss"]
    monkeypatch.setattr(provenance, "composing", compose)
    Path("report/good.png").write_bytes(drawn.getvalue())
    assert provenance.check(known, Path("report")) == {"good": "says nothing of what it was made by"}


def test_no_figure_of_the_report_was_made_by_something_else():
    """Those drawn before figures said what they were made by are told by scripts/reproduce --check."""
    wrong = provenance.check(LISTING, SCRIPTS.parents[1] / "outputs" / "report")
    assert {name: reason for name, reason in wrong.items() if "nothing" not in reason} == {}


def test_large_pictures_are_made_small_and_keep_their_texts(tmp_path):
    texts = PngInfo()
    texts.add_text("seed", "7")
    noise = Image.frombytes("RGB", (350, 250), os.urandom(350 * 250 * 3))
    noise.save(tmp_path / "a.png", pnginfo=texts)
    assert (tmp_path / "a.png").stat().st_size > worker.LARGEST
    small = worker.shrunk(tmp_path / "a.png")
    with Image.open(io.BytesIO(small)) as image:
        assert image.text["seed"] == "7"
        assert image.width / image.height == pytest.approx(1.4, abs=0.01)
    assert len(small) <= worker.LARGEST
    Image.new("RGB", (700, 500)).save(tmp_path / "b.png")
    assert worker.shrunk(tmp_path / "b.png") == (tmp_path / "b.png").read_bytes()


def test_a_sweep_is_there_while_the_line_and_all_its_finished_jobs_are(tmp_path):
    sweep = Run("s", "g", ("train", "-m", "seed=0,1"), str(tmp_path / "s"))
    for job in "01":
        (tmp_path / "s" / job).mkdir(parents=True)
        (tmp_path / "s" / job / "summary.json").write_text('{"status": "finished"}')
    assert not worker.finished(sweep)
    (tmp_path / "s" / worker.MADE).write_text(worker.state(sweep))
    assert worker.finished(sweep)
    assert not worker.finished(Run("s", "g", ("train", "-m", "seed=0,2"), sweep.directory))
    (tmp_path / "s" / "1" / "summary.json").write_text('{"status": "failed"}')
    assert not worker.finished(sweep)
