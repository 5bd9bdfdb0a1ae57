"""Images in NumPy files, by the names of MedMNIST and Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
    ("array", "words"),
    [
        (IMAGES / 255, "float64"),
        (IMAGES[:, :5], "5 x 8"),
        (IMAGES.transpose(0, 3, 1, 2), "C = 1 or 3"),
        (IMAGES[0, 0], "not (N, H, W)"),
        (np.array([[1], [2, 3]], object), "objects"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ArgumentError) as caught:
        ImageArrays(str(tmp_path / "a.npy"))
    assert caught.value.argument == "path" and words in str(caught.value)
