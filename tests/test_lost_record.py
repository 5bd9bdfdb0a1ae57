"""A run whose config.json is lost is still what it was: each checkpoint has a copy."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from diffusion_cli.errors import UserError
from diffusion_cli.runs import config as run_config
from diffusion_cli.runs.directory import RunDirectory
from trials.child import Child, End

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LINE = ["train", "dataset=circle", "steps=20", "batch_size=8", "model.width=8", "stages.every=0", "plots=false",
        "checkpoint.every=10"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trained") / "home"
    home.mkdir()
    end = Child([*LINE, "hydra.run.dir=run"], home).wait()
    assert end.code == 0, end.err
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


def ends(home: Path, *line: str) -> End:
    end = Child([*line], home).wait()
    assert end.code == 0, end.err
    return end


@pytest.mark.parametrize("left", [None, b"", bytes(100)], ids=["removed", "empty", "nul bytes"])
def test_every_command_takes_the_copy_and_says_so(home: Path, left: bytes | None) -> None:
    file = home / "run" / "config.json"
    before = file.read_bytes()
    file.unlink()
    if left is not None:
        file.write_bytes(left)
    said = "run/config.json is lost; its copy in run/checkpoints/step_00000020.safetensors is taken"
    end = ends(home, "sample", "run=run", "n=4", "hydra.run.dir=samples")
    assert (end.out + end.err).count(said) == 1
    if left is None:
        evaluation = ("evaluation.n=8", "evaluation.draws=1", "evaluation.floor_draws=2")
        for line in (("evaluate", "run=run", *evaluation), ("plot", "run=run", "figure=loss")):
            end = ends(home, *line, f"hydra.run.dir={line[0]}")
            assert (end.out + end.err).count(said) == 1
        assert "circle" in ends(home, "runs", "root=.").out
        refused = Child(["sample", "run=run", "hydra.run.dir=run"], home).wait()
        assert refused.code == 2 and "a trained run is there" in refused.err
    end = ends(home, *LINE, "steps=30", "resume=true", "hydra.run.dir=run")
    assert (end.out + end.err).count("is lost; its copy in") == 1
    run = RunDirectory(home / "run")
    assert run.status == "finished" and run.summary["steps"] == 30
    # and it is there again, as it was
    extended = json.loads(file.read_text())
    assert extended.pop("extensions")[0]["steps"] == 30
    assert extended == {key: value for key, value in json.loads(before).items() if key != "extensions"}


def test_a_lost_run_is_found_by_its_line(home: Path) -> None:
    end = ends(home, *LINE, "steps=40", "max_minutes=1e-9")
    (path,) = (home / "outputs/train/circle").iterdir()
    assert RunDirectory(path).status == "interrupted"
    (path / "config.json").unlink()
    end = ends(home, *LINE, "steps=40", "resume=true")
    assert RunDirectory(path).summary["steps"] == 40, end.out


def test_a_copy_that_is_damaged_does_not_serve(home: Path) -> None:
    run = RunDirectory(home / "run")
    (home / "run" / "config.json").unlink()
    *_, older, newest = run.checkpoints()
    data = newest.read_bytes()
    newest.write_bytes(data.replace(b"circle", b"square"))
    assert newest.read_bytes() != data
    assert run_config.copy_in(run.path)[0] == older  # type: ignore[index]
    older.write_bytes(older.read_bytes()[:100])
    with pytest.raises(UserError, match=r"has no config.json"):
        _ = run.record
    (home / "run" / "config.json").write_text('{"half": ')
    with pytest.raises(UserError, match="cannot be read"):
        _ = run.record
