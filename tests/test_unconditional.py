"""`sample label=none`, and samples as files of pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_cli.__main__ import main

QUICK = ["steps=2", "stages.every=0", "plots=false", "threads=1", "checkpoint.every=1"]
SMALL = [
    "dataset=image_folder",
    "dataset.image_size=8",
    "model.width=8",
    "model.levels=[1]",
    "optimizer.warmup=1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(20):
        Image.effect_noise((8, 8), 64).save(pictures / f"{i}.png")
    for name, words in {
        "free": ["dataset=gmm2px"],
        "bound": ["dataset=gmm2px", "guidance.label_dropout=0"],
        "pictures_run": [*SMALL, f"dataset.root={pictures}", "dataset.labels=false"],
    }.items():
        assert main(["train", *words, *QUICK, f"hydra.run.dir={folder / name}"]) == 0
    return folder


def sampled(folder: Path, name: str, *words: str) -> Path:
    out = folder / f"samples_of_{name}"
    assert main(["sample", f"run={folder / name}", "n=9", *words, f"hydra.run.dir={out}"]) == 0
    return out


def test_no_label_draws_unconditional_samples(folder: Path) -> None:
    """The same as guidance=cfg with w = -1, which is eps(none) by its formula."""
    out = sampled(folder, "free", "label=none", "plots=false")
    with np.load(out / "samples.npz") as content:
        free = content["x0"]
        assert "label" not in content
    other = folder / "w"
    line = ["sample", f"run={folder / 'free'}", "n=9", "guidance=cfg", "guidance.w=-1", "plots=false"]
    assert main([*line, f"hydra.run.dir={other}"]) == 0
    with np.load(other / "samples.npz") as content:
        np.testing.assert_allclose(free, content["x0"], atol=1e-4)


def test_a_metric_without_a_basis_is_left_out(folder: Path) -> None:
    """No label was requested, so no sample is in a wrong mode."""
    found = {}
    for label in ("none", "1"):
        out = folder / f"evaluation_{label}"
        line = ["evaluate", f"run={folder / 'free'}", f"label={label}", f"hydra.run.dir={out}"]
        assert main([*line, "evaluation.n=64", "evaluation.draws=1", "evaluation.floor_draws=2"]) == 0
        found[label] = json.loads((out / "evaluation.json").read_text())["metrics"].keys()
    assert found["1"] - found["none"] == {"wrong_mode", "left_out"} and "outliers" in found["none"]


def test_samples_of_requested_classes_are_not_compared_with_all_of_the_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, basis in (("1", {"wrong_mode", "weight_error", "outliers"}), ("[0,none]", {"outliers"})):
        out = folder / f"classes_{len(basis)}"
        line = [
            "evaluate",
            f"run={folder / 'free'}",
            f"label={label}",
            "evaluation.n=20",
            "evaluation.draws=1",
        ]
        assert main([*line, "evaluation.floor_draws=2", f"hydra.run.dir={out}"]) == 0
        metrics = json.loads((out / "evaluation.json").read_text())
        metrics = metrics.get("metrics", metrics)
        assert metrics["left_out"] == ["sliced_w2", "energy", "coverage"] and basis <= metrics.keys()
        assert not {"sliced_w2", "energy", "coverage"} & metrics.keys()
        said = capsys.readouterr().out
        assert "compare classes that were requested with all of the data: sliced W2, energy" in said
        assert "few samples: 20 in a set" in said and "one draw: the values have no spread" in said
    # of some samples no label was requested
    assert "wrong_mode" not in metrics


def test_without_label_dropout_there_are_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["sample", f"run={folder / 'bound'}", "n=4", "label=none", f"hydra.run.dir={folder / 'x'}"]
    assert main(line) == 2
    assert "label=none: this model was trained without label dropout" in capsys.readouterr().err


def test_images_become_files_and_a_grid(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sampled(folder, "pictures_run", "images=png", "sampler.steps=2", "plots=false")
    with np.load(out / "samples.npz") as content:
        x0 = content["x0"]
    files = sorted((out / "images").iterdir())
    assert [file.name for file in files] == [f"{i:05d}.png" for i in range(9)]
    bytes_of = [np.asarray(Image.open(file), dtype=float) for file in files]
    pixels = np.stack(bytes_of).reshape(9, 8, 8, -1).transpose(0, 3, 1, 2)
    assert np.abs(pixels / 127.5 - 1 - x0.clip(-1, 1)).max() < 0.5 / 127.5 + 1e-6
    grid = np.asarray(Image.open(out / "images.png"))
    assert grid.shape[:2] == (24, 24) and (grid[8:16, 16:24] == bytes_of[5]).all()
    line = ["sample", f"run={folder / 'free'}", "images=png", f"hydra.run.dir={folder / 'y'}"]
    assert main(line) == 2
    assert "images=png: these samples are no images" in capsys.readouterr().err
