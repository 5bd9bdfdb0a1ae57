"""Images in NumPy files, by the names of MedMNIST and Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_cli.dataset.description import description_of
from diffusion_cli.dataset.image_arrays import ImageArrays
from diffusion_cli.errors import ArgumentError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(10) % 3


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_known_names_are_read(tmp_path: Path, names: tuple[str, ...], grey: bool) -> None:
    images = IMAGES[..., 0] if grey else IMAGES
    arrays = (images[:7], LABELS[:7, None], images[7:], LABELS[7:, None])
    np.savez(tmp_path / "a.npz", **dict(zip(names, arrays, strict=True)))
    data = ImageArrays(str(tmp_path / "a.npz"))
    expected = images[:7, None] if grey else images[:7].transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.images, expected) and len(data.test.images) == 3
    assert data.train.label is not None and data.train.label.tolist() == LABELS[:7].tolist()
    assert data.num_classes == 3 and ImageArrays(str(tmp_path / "a.npz"), labels=False).num_classes == 0


def test_one_array_is_split(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    data = ImageArrays(str(tmp_path / "a.npy"), test=3)
    assert (len(data.train.images), len(data.test.images), data.shape) == (7, 3, (3, 8, 8))
    every = {one.numpy().tobytes() for part in (data.train, data.test) for one in part.images}
    assert every == {one.tobytes() for one in np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))}
    assert len(ImageArrays(str(tmp_path / "a.npy"), test=0).test.images) == 0


@pytest.mark.parametrize(
    ("array", "argument", "words"),
    [
        (IMAGES / 255, "range", "dataset.range=[0,1]"),
        (IMAGES / 127.5 - 1, "range", "dataset.range=[-1,1]"),
        (IMAGES.astype(float), "range", "dataset.range=[0,255]"),
        (IMAGES.astype(np.int64), "range", "dataset.range=[0,255]"),
        (IMAGES * 1e6, "range", "dataset.range=[0,2.55e+08]"),
        (IMAGES / np.where(IMAGES, 1.0, np.nan), "path", "not finite"),
        (IMAGES.astype(complex), "path", "complex128"),
        (IMAGES.astype(bool), "path", "bool"),
        (IMAGES[:0], "path", "(0, 8, 8, 3)"),
        (IMAGES.repeat(2, 3), "path", "C = 1 or 3"),
        (IMAGES[:, :3], "path", "one alone"),
        (IMAGES[0, 0], "path", "not images (N, H, W)"),
        (np.array([[1], [2, 3]], object), "path", "objects"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, argument: str, words: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ArgumentError) as caught:
        ImageArrays(str(tmp_path / "a.npy"))
    assert caught.value.argument == argument and words in str(caught.value)


@pytest.mark.parametrize(
    ("array", "range", "black", "white"),
    [
        (IMAGES, None, 0, 255),
        (IMAGES.astype(">u2") * 257, None, 0, 65535),
        (IMAGES.astype(np.uint16) * 16, [0, 4080], 0, 4080),
        (IMAGES / 255, [0, 1], 0, 1),
        (IMAGES / 127.5 - 1, [-1, 1], -1, 1),
        (IMAGES.astype(np.int32) - 128, [-128, 127], -128, 127),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_numbers_of_any_kind_and_order_become_the_same(
    tmp_path: Path, array: np.ndarray, range: list[float] | None, black: float, white: float, first: bool
) -> None:
    np.save(tmp_path / "a.npy", array.transpose(0, 3, 1, 2) if first else array)
    data = ImageArrays(str(tmp_path / "a.npy"), test=0, range=range)
    assert (data.train.low, data.train.high) == (black, white)
    expected = IMAGES.transpose(0, 3, 1, 2) / 127.5 - 1
    assert np.abs(data.train.batch(slice(None)).x0.numpy() - expected).max() < 1e-6


def test_what_lies_beyond_the_range_is_black_or_white_and_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(1000, dtype=np.uint16).reshape(10, 10, 10))
    data = ImageArrays(str(tmp_path / "a.npy"), test=0, range=[100, 500])
    x0 = data.train.batch(slice(None)).x0
    assert x0.min() == -1 and x0.max() == 1 and x0.flatten()[300] == 0
    assert description_of(data)["beyond black or white"] == "59.90% of the values"
    for bad in ([500, 100], [2000, 3000]):
        with pytest.raises(ArgumentError, match="black below white"):
            ImageArrays(str(tmp_path / "a.npy"), range=bad)


def test_images_need_not_be_square(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES[:, :5])
    data = ImageArrays(str(tmp_path / "a.npy"))
    assert data.shape == (3, 5, 8)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.eye(3)[LABELS], "np.argmax(labels, 1)"),
        (LABELS[:5], "not one number for each of 10"),
        (LABELS + 0.5, "not whole numbers"),
        (LABELS - 1, "not whole numbers"),
        (np.full(10, np.nan), "not whole numbers"),
        (np.full(10, 10**9), "not whole numbers"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: np.ndarray, words: str) -> None:
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=labels)
    with pytest.raises(ArgumentError) as caught:
        ImageArrays(str(tmp_path / "a.npz"))
    assert words in str(caught.value)


def test_labels_may_be_written_as_fractions(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS.astype(np.float32))
    assert ImageArrays(str(tmp_path / "a.npz"), test=0).train.label.tolist() == LABELS.tolist()


# A table of pixels: its header, and whether the labels stand in front.
TABLES = {
    "kaggle": ("label," + ",".join(f"pixel{k}" for k in range(64)), True),
    "kaggle_test": (",".join(f"pixel{k}" for k in range(64)), False),
    "zalando": ("label," + ",".join(f"pixel{k + 1}" for k in range(64)), True),
    "bare": ("", True),
    "bare_without": ("", False),
    "marked": ("\ufefflabel," + ",".join(f"{k // 8}x{k % 8}" for k in range(64)), True),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_pixels_are_read(tmp_path: Path, name: str) -> None:
    header, labelled = TABLES[name]
    grey = IMAGES[..., 0].reshape(10, 64)
    rows = np.column_stack((LABELS, grey)) if labelled else grey
    lines = [header] * bool(header) + [",".join(map(str, row)) for row in rows]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = ImageArrays(str(tmp_path / "train.csv"), test=0)
    assert np.array_equal(data.train.images[:, 0].flatten(1), grey) and data.train.images.dtype == torch.uint8
    assert (data.train.label is None) != labelled and data.num_classes == (3 if labelled else 0)
    assert data.train.label is None or data.train.label.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("label,pixel0\n", "no rows"),
        ("label," + ",".join(f"p{k}" for k in range(12)) + "\n" + "1," * 12 + "1\n", "no square"),
        ("label,pixel0\n1,x\n", "x"),
        ("label,pixel0\n1,2\n1,2,3\n", "columns"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_other_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(ArgumentError) as caught:
        ImageArrays(str(tmp_path / "train.csv"))
    assert words in str(caught.value) and "\n" not in str(caught.value)
