"""Folders of images as people have them: what is read, what is left out, and what is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.__main__ import main
from diffusion_cli.dataset.decode import Form, decode
from diffusion_cli.dataset.image_folder import ImageFolder
from diffusion_cli.dataset.own_images import read_own_images
from diffusion_cli.errors import ArgumentError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))


def add(folder: Path, count: int = 3, suffix: str = ".png", value: int = 0, **options: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        image = Image.new("RGB", (6, 6), (value + k, 7, 9))
        image.save(folder / f"{k}{suffix}", **options)


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("training", "VALIDATION"), ("TRAIN", "valid"), ("train", "testing")]
)
def test_parts_are_no_classes_whatever_their_case(tmp_path: Path, names: tuple[str, str]) -> None:
    for part, count in zip(names, (4, 2), strict=True):
        for name in ("cat", "dog"):
            add(tmp_path / "data" / part / name, count)
    data = ImageFolder(str(tmp_path / "data"))
    assert data.class_names == ("cat", "dog") and (len(data.train.images), len(data.test.images)) == (8, 4)


def test_a_third_part_is_counted_as_left_out(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        add(tmp_path / "data" / part / "cat")
    data = ImageFolder(str(tmp_path / "data"))
    assert data.about["read"] == 6 and data.about["left out"] == {"valid/": 3}


def test_a_part_to_hold_out_needs_one_to_train_on(tmp_path: Path) -> None:
    add(tmp_path / "data" / "test")
    add(tmp_path / "data" / "cat")
    with pytest.raises(ArgumentError, match="none named train"):
        ImageFolder(str(tmp_path / "data"))


def test_leftovers_of_archives_and_editors_are_no_classes(tmp_path: Path) -> None:
    root = tmp_path / "näme (1) = ü, [x]"
    for name in ("a", "b"):
        add(root / name)
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        add(root / name, 2)
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / "画像.png").write_bytes((root / "a" / "0.png").read_bytes())
    data = ImageFolder(str(root))
    assert data.class_names == ("a", "b") and data.about["read"] == 7
    assert data.about["left out"] == {"__MACOSX/": 2, ".ipynb_checkpoints/": 2, ".db": 1}


def test_classes_that_are_numbers_stand_in_their_order(tmp_path: Path) -> None:
    for k in range(12):
        add(tmp_path / "data" / str(k), 2, value=10 * k)
    data = ImageFolder(str(tmp_path / "data"), test=2)
    assert data.class_names == tuple(map(str, range(12)))
    red = data.train.images[:, 0, 0, 0]
    assert data.train.label is not None and (red // 10 == data.train.label).all()


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".tif", ".TIFF", ".webp"])
def test_other_formats_are_read(tmp_path: Path, suffix: str) -> None:
    add(tmp_path / "data", 4, suffix)
    assert ImageFolder(str(tmp_path / "data")).about["read"] == 4


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    first, second = (Image.new("L", (6, 6), value) for value in (10, 200))
    (tmp_path / "data").mkdir()
    first.save(tmp_path / "data" / "a.gif", save_all=True, append_images=[second])
    data = ImageFolder(str(tmp_path / "data"), test=0, channels=1)
    assert np.allclose(data.train.images, 10, atol=1) and len(data.test.images) == 0


def test_all_damaged_files_are_named_or_left_out(tmp_path: Path) -> None:
    add(tmp_path / "data", 8)
    for k in (1, 4, 6):
        (tmp_path / "data" / f"{k}.png").write_bytes(b"no")
    with pytest.raises(ArgumentError) as caught:
        ImageFolder(str(tmp_path / "data"))
    assert all(f"{k}.png" in str(caught.value) for k in (1, 4, 6)) and "3 files" in str(caught.value)
    data = ImageFolder(str(tmp_path / "data"), skip_damaged=True, test=0)
    assert sorted(data.train.images[:, 0, 0, 0].tolist()) == [0, 2, 3, 5, 7]
    assert data.about["left out"] == {"damaged": 3}


def test_a_folder_without_images_names_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.heic").write_bytes(b"x")
    with pytest.raises(ArgumentError, match=r"it has \.heic"):
        ImageFolder(str(tmp_path / "data"))


def test_sixteen_bits_among_bytes_and_a_range(tmp_path: Path) -> None:
    add(tmp_path / "data", 2)
    (tmp_path / "other").mkdir()
    for k, value in enumerate((0, 500, 4000)):
        for folder in ("data", "other"):
            Image.fromarray(np.full((6, 6), value, np.uint16)).save(tmp_path / folder / f"deep{k}.png")
    data = ImageFolder(str(tmp_path / "data"), test=0, image_size=6)
    assert data.train.images.dtype == torch.uint16 and data.train.high == 65535
    assert set(data.train.images[:, 0, 0, 0].tolist()) == {0, 257, 500, 4000}
    assert data.about["modes"] == {"L, 16 bit": 3, "RGB": 2} and "16 bit" in data.about["made"]
    deep = ImageFolder(str(tmp_path / "other"), test=0, image_size=6, channels=1, range=[0, 4000])
    assert (
        deep.fingerprint != ImageFolder(str(tmp_path / "other"), test=0, image_size=6, channels=1).fingerprint
    )
    assert deep.train.batch(slice(None)).x0[:, 0, 0, 0].tolist() == [-1.0, -0.75, 1.0]
    assert deep.draw(9, torch.Generator().manual_seed(0)).x0.shape == (9, 1, 6, 6)


def test_sizes_and_enlargement_are_said(tmp_path: Path) -> None:
    add(tmp_path / "data", 2)
    Image.new("RGB", (30, 20)).save(tmp_path / "data" / "large.png")
    data = ImageFolder(str(tmp_path / "data"), test=0, image_size=[8, 10], resize="pad")
    assert (
        data.shape == (3, 8, 10) and data.about["sizes"] == "6 x 6 to 20 x 30" and data.about["enlarged"] == 2
    )
    assert data.about["made"] == "3 x 8 x 10, 8 bit, the whole image, with black bars"


def test_of_one_image_a_run_goes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    add(tmp_path / "one", 1)
    tiny = "steps=2 model.width=8 model.features=16 batch_size=2 stages.every=0 n=3 threads=1 sampler.steps=2"
    line = ["train", "dataset=image_folder", "dataset.root=one", "dataset.image_size=[4,8]", *tiny.split()]
    assert main(line) == 2
    assert "dataset.test=0 trains on all" in capsys.readouterr().err
    assert main([*line, "dataset.test=0", "hydra.run.dir=run"]) == 0
    with np.load(tmp_path / "run" / "samples.npz") as arrays:
        assert arrays["x0"].shape == (3, 3, 4, 8)
    names = {file.stem for file in (tmp_path / "run" / "figures").iterdir()}
    assert {"samples", "data", "loss", "trajectories"} <= names

    # Its samples complete a picture of one's own, made what the data were, with and without the data.
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).save("own.png")
    line = ["sample", "run=run", "inpaint=left_half", "image=own.png", "completions=2", "repaint.passes=1"]
    shutil.move("one", "elsewhere")
    assert main([*line, "hydra.run.dir=own"]) == 0
    with np.load(tmp_path / "own" / "samples.npz") as arrays:
        assert arrays["x0"].shape == (2, 3, 4, 8)
        known = decode(Path("own.png"), Form(4, 8, 3))[..., :4] / 127.5 - 1
        assert np.abs(arrays["x0"][..., :4] - known).max() < 1e-6
    assert (tmp_path / "own" / "figures" / "inpainting.png").stat().st_size > 3000
    for words, message in {
        "image=no.png": "image=no.png: no such file",
        "image=run/train.log": "image=run/train.log: is no PNG",
        "inpaint=null": "image=own.png: is completed where a mask hides it; say inpaint=box",
    }.items():
        assert main([*line, words, "hydra.run.dir=bad"]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "bad").exists()


def test_a_picture_of_another_size_is_refused_where_nothing_is_resized(tmp_path: Path) -> None:
    Image.fromarray(np.full((28, 28), 128, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((28, 28), 1000, np.uint16)).save(tmp_path / "deep.png")
    files = [str(tmp_path / "a.png"), str(tmp_path / "deep.png")]
    x0 = read_own_images(files, (1, 28, 28), {})
    assert x0.shape == (2, 1, 28, 28)
    assert x0[:, 0, 0, 0].tolist() == pytest.approx([128 / 127.5 - 1, 1000 / 32767.5 - 1], abs=1e-6)
    deep = read_own_images(files, (1, 28, 28), {"range": [0, 2000]})
    assert deep[:, 0, 0, 0].tolist() == [1.0, 0.0]
    with pytest.raises(ArgumentError, match="is 28 x 28, and the images of the run are 32 x 28"):
        read_own_images(files, (1, 32, 28), {})
