"""Masks: the named ones, and files, of which many are bad."""

import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.dataset.mask import make_mask, spread
from diffusion_cli.errors import UserError


def test_named_masks():
    left = make_mask("left_half", (1, 28, 28))
    assert left.shape == (28, 28) and left[:, :14].all() and not left[:, 14:].any()
    assert torch.equal(make_mask("right_half", (1, 28, 28)), ~left)
    box = make_mask("box", (3, 28, 20))
    assert not box[7:21, 5:15].any() and box.sum() == 28 * 20 - 14 * 10
    assert make_mask("left_half", (2,)).tolist() == [True, False]
    assert make_mask("right_half", (2,)).tolist() == [False, True]
    assert make_mask("left_half", (5,)).sum() == make_mask("right_half", (5,)).sum() == 2
    assert make_mask("box", (8,)).tolist() == [True] * 2 + [False] * 4 + [True] * 2


def test_a_random_mask_shows_a_quarter_and_is_the_seeds():
    masks = [make_mask("random", (1, 28, 28), seed) for seed in (0, 0, 1)]
    assert [mask.sum() for mask in masks] == [196] * 3
    assert torch.equal(*masks[:2]) and not torch.equal(*masks[1:])
    assert make_mask("random", (2,)).sum() == 1


def test_a_mask_meets_points_of_every_shape():
    for shape, known in (((2,), 1), ((3, 4, 6), 36), ((5, 2), 4), ((6,), 3)):
        mask = spread(make_mask("left_half", shape), shape)
        assert mask.expand(7, *shape)[0].sum() == known


@pytest.mark.parametrize("values", [bool, np.uint8, np.int64, np.float32])
def test_files_of_numbers(tmp_path, values):
    truth = np.arange(12).reshape(3, 4) % 3 == 0
    np.save(tmp_path / "m.npy", truth.astype(values) * values(1 if values is bool else 255))
    assert np.array_equal(make_mask(str(tmp_path / "m.npy"), (1, 3, 4)), truth)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_pictures(tmp_path, mode):
    truth = np.arange(12).reshape(3, 4) % 3 == 0
    Image.fromarray(np.uint8(255) * truth).convert(mode).save(tmp_path / "m.PNG")
    assert np.array_equal(make_mask(str(tmp_path / "m.PNG"), (3, 3, 4)), truth)


def npy(array):
    return lambda path: np.save(path, array)


def picture(mode, size):
    return lambda path: Image.new(mode, size).save(path)


def bomb(path):
    """The first bytes of a picture of 20,000 x 20,000 pixels, after which nothing follows."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 20_000, 20_000))


def fifo(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("m.npy", npy(np.ones((28, 27), bool)), "is a mask of 28x27 pixels, but the images have 28x28"),
        ("m.npy", npy(np.ones((1, 28, 28), bool)), "is a mask of 1x28x28 pixels"),
        ("m.npy", npy(np.bool_(1)), "is a mask of no dimensions pixels"),
        ("m.npy", npy(np.full((28, 28), "x")), "must hold true and false, not <U1"),
        ("m.npy", npy(np.full((28, 28), 1j)), "must hold true and false, not complex128"),
        ("m.npy", npy(np.full((28, 28), np.nan)), "must hold two values"),
        ("m.npy", npy(np.arange(784).reshape(28, 28)), "must hold two values"),
        ("m.npy", npy(np.full((28, 28), None)), "cannot be read as a npy file"),
        ("m.npy", npy(np.ones((28, 28), bool)), "leaves no pixel to fill in of images of 28x28"),
        ("m.npy", npy(np.zeros((28, 28))), "leaves no pixel known"),
        ("m.npy", lambda p: p.write_bytes(b""), "cannot be read as a npy file"),
        ("m.npy", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '|b1'"), "cannot be read as a npy file"),
        ("m.npy", lambda p: np.savez(p.open("wb"), np.ones((28, 28))), "cannot be read as a npy file"),
        ("m.npy", lambda p: p.mkdir(), "is no file"),
        ("m.npy", fifo, "is no file"),
        ("m.png", fifo, "is no file"),
        ("m.png", picture("L", (28, 27)), "is a mask of 27x28 pixels, but the images have 28x28"),
        ("m.png", bomb, "is a mask of 20000x20000 pixels, but the images have 28x28"),
        ("m.png", picture("I;16", (28, 28)), "must be a black and white PNG, not of mode I;16"),
        ("m.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n"), "cannot be read as a png file"),
        ("m.png", lambda p: Image.new("L", (28, 28)).save(p, format="JPEG"), "cannot be read as a png file"),
        ("m.png", None, "No such file or directory"),
        ("m.jpg", picture("L", (28, 28)), "no such mask; choose from left_half"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_in_one_line(tmp_path, name, write, reason):
    path = tmp_path / name
    if write:
        write(path)
    with pytest.raises(UserError) as caught:
        make_mask(str(path), (1, 28, 28))
    line = str(caught.value)
    assert str(path) in line and reason in line and "\n" not in line


def test_a_picture_cut_short_is_refused(tmp_path):
    path = tmp_path / "m.png"
    Image.effect_noise((28, 28), 90).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read as a png file"):
        make_mask(str(path), (1, 28, 28))
