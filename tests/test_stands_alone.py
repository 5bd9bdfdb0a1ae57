"""A run without its data: the same samples, and a line for what needs the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from diffusion_cli.__main__ import main
from diffusion_cli.dataset.point_cloud import PointCloud
from diffusion_cli.dataset.remembered import is_memory, memory_of


def table(file: Path, shift: int = 0) -> None:
    rows = [f"{100 + k / 7:.3f},{3e6 + k % 13 + shift:.1f},{'ab'[k % 3 == 0]}" for k in range(90)]
    file.write_text("x,y,class\n" + "\n".join(rows) + "\n")


def test_a_run_samples_without_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "points.csv")
    keys = [
        "dataset.path=points.csv",
        "dataset.columns=[x,y]",
        "dataset.label=class",
        "steps=3",
        "plots=false",
    ]
    tiny = ["model.width=8", "model.depth=1", "stages.every=0", "hydra.run.dir=run"]
    assert main(["train", "dataset=points", *keys, *tiny]) == 0

    def sample(name: str, *more: str) -> dict[str, np.ndarray]:
        assert main(["sample", "run=run", "n=20", "plots=false", f"hydra.run.dir={name}", *more]) == 0
        with np.load(tmp_path / name / "samples.npz") as arrays:
            return dict(arrays)

    before = sample("before")
    shutil.move(tmp_path / "points.csv", tmp_path / "moved.csv")
    after = sample("after")
    assert all(np.array_equal(before[key], after[key]) for key in ("x0", "label", "class_names"))
    assert before["class_names"].tolist() == ["a", "b"] and before["x0"].dtype == np.float64
    assert np.abs(before["x0"] - [106, 3e6]).max() < 1000

    assert set(sample("named", "label=b")["label"].tolist()) == {1}
    assert main(["sample", "run=run", "label=c", "hydra.run.dir=no"]) == 2
    assert "choose from a, b" in capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["data"]
    assert summary["rows"] == 90 and sum(summary["classes"].values()) == summary["train"] == 90
    assert summary["held out"] == 0 and summary["scale"] > 1
    assert "classes" in (tmp_path / "run" / "train.log").read_text()

    again = ["train", "like=run", "seed=1", "model.depth=2", "plots=false", "hydra.run.dir=again"]
    monkeypatch.chdir(tmp_path)
    shutil.copy(tmp_path / "moved.csv", tmp_path / "points.csv")
    assert main(again) == 0
    old, new = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("run", "again"))
    assert new["model"] == old["model"] | {"depth": 2} and new["seed"] == 1 and new["steps"] == 3
    assert new["dataset"]["columns"] == ["x", "y"] and new["choices"]["dataset"] == "points"
    (tmp_path / "points.csv").unlink()

    small = ["evaluation.n=50", "evaluation.draws=1"]
    assert main(["evaluate", "run=run", "hydra.run.dir=one", *small]) == 2
    assert "dataset.path=PLACE" in capsys.readouterr().err
    assert main(["evaluate", "run=run", "dataset.path=moved.csv", "hydra.run.dir=two", *small]) == 0
    table(tmp_path / "other.csv", shift=1)
    assert main(["evaluate", "run=run", "dataset.path=other.csv", "hydra.run.dir=three", *small]) == 2
    assert "holds other data" in capsys.readouterr().err


def test_memories_are_verified(tmp_path: Path) -> None:
    table(tmp_path / "points.csv")
    saved = memory_of(PointCloud(str(tmp_path / "points.csv"), columns=["x", "y"], label="class"))
    assert is_memory(saved)
    for key, value in {"kind": "x", "shape": [0], "label_counts": [1], "scale": -1, "centre": "no"}.items():
        assert not is_memory(saved | {key: value})
