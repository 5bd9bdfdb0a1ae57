"""Batches of images, the digits that come with the package, and a run on them from the command line."""

import numpy as np
import pytest
import torch

from diffusion_cli.__main__ import main
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.mnist import Mnist
from diffusion_cli.errors import ArgumentError
from diffusion_cli.options.signature import read


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(n=20, labelled=True):
    """n images of 1 x 2 x 3 pixels; every pixel of image i is 10 i, but for its right column of 10 i + 5."""
    images = (10 * torch.arange(n).view(n, 1, 1, 1) + torch.tensor([0, 0, 5])).expand(n, 1, 2, 3).byte()
    return Split(images, torch.arange(n) % 4 if labelled else None)


def test_bytes_become_floats_in_minus_one_to_one_and_back():
    images = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    x0, label, _ = Split(images).batch([0, 1, 2, 3])
    assert x0.dtype == torch.float32 and label is None and x0.min() == -1 and x0.max() == 1
    expected = np.arange(256) * (2 / 255) - 1
    np.testing.assert_allclose(x0.flatten().double().numpy(), expected, atol=1e-7)
    assert torch.equal(((x0 + 1) * 127.5).round().byte(), images)


def test_a_batch_holds_the_images_of_its_labels_and_follows_from_the_generator():
    data = ImageDataset(numbered(), numbered(4), ["a", "b", "c", "d"])
    assert data.shape == (1, 2, 3) and data.num_classes == 4 and data.density is None
    x0, label, _ = data.draw(500, seeded())
    row = ((x0[:, 0, 0, 0] + 1) * 127.5 / 10).round().long()
    assert torch.equal(label, row % 4) and set(row.tolist()) == set(range(20))
    assert torch.equal(x0, data.draw(500, seeded()).x0)
    assert not torch.equal(x0, data.draw(500, seeded(1)).x0)


def test_flips_mirror_half_of_the_images_left_to_right():
    plain, flipped = (ImageDataset(numbered(), numbered(4), "abcd", flip=flip) for flip in (False, True))
    x0 = flipped.draw(2000, seeded()).x0
    mirrored = x0[:, 0, 0, 0] > x0[:, 0, 0, 2]
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.05)
    expected = plain.draw(2000, seeded()).x0
    assert torch.equal(torch.where(mirrored[:, None, None, None], x0.flip(-1), x0), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("limit", [0, 2**30])
def test_batches_on_a_gpu(monkeypatch, limit):
    monkeypatch.setattr("diffusion_cli.dataset.images.MOST_ON_GPU", limit)
    data = ImageDataset(numbered(), numbered(4), "abcd", flip=True)
    x0, label, _ = data.draw(500, torch.Generator("cuda").manual_seed(0))
    row = ((x0[:, 0, 0].amin(1) + 1) * 127.5 / 10).round().long()
    assert x0.is_cuda and label.is_cuda and torch.equal(label, row % 4)
    assert not data.train.images.is_cuda


def test_without_labels():
    data = ImageDataset(numbered(), numbered(4), "abcd", labels=False)
    assert data.num_classes == 0 and data.class_names == () and data.test.label is None
    assert data.draw(3, seeded()).label is None


def test_fingerprint_tells_datasets_apart():
    def fingerprint(n=20, digest="x", **options):
        return ImageDataset(numbered(n), numbered(4), "abcd", digest, **options).fingerprint

    others = [fingerprint(21), fingerprint(digest="y"), fingerprint(flip=True), fingerprint(labels=False)]
    assert fingerprint() == fingerprint() and len({fingerprint(), *others}) == 5


@pytest.mark.parametrize("option", ["flip", "labels"])
def test_options_that_are_no_flags_are_refused(option):
    with pytest.raises(
        ArgumentError, match=f"{option}=3: must be one of the choices; choose from true, false"
    ):
        ImageDataset(numbered(), numbered(), "abcd", **{option: 3})


def test_bundled_digits_are_balanced_and_look_like_digits():
    data = Mnist(source="bundled")
    assert data.train.images.shape == (2000, 1, 28, 28) and data.test.images.shape == (500, 1, 28, 28)
    assert (
        data.train.label.bincount().tolist() == [200] * 10
        and data.test.label.bincount().tolist() == [50] * 10
    )
    # The nearest mean image reads 82 % of MNIST's test digits; by chance it would be 10 %.
    train, test = (part.images.flatten(1).double() for part in (data.train, data.test))
    means = torch.stack([train[data.train.label == k].mean(0) for k in range(10)])
    read = torch.cdist(test, means).argmin(1)
    assert (read == data.test.label).double().mean() == pytest.approx(0.82, abs=0.04)
    assert len(torch.cat((train, test)).unique(dim=0)) == 2500


def test_unknown_source_is_refused():
    with pytest.raises(
        ArgumentError, match=r"source=some: must be one of the choices; choose from full, bundled"
    ):
        Mnist(source="some")


@pytest.mark.parametrize(
    ("target", "option", "good", "bad"),
    [
        ("mnist.Mnist", "source", ["full", "bundled"], ["half", None, 1]),
        ("mnist.FashionMnist", "flip", [True, False], [0, None, "yes"]),
        ("cifar.Cifar10", "labels", [True, False], [1, None]),
        ("cifar.Cifar10", "root", [None, "folder"], ["", 3, ["folder"]]),
        ("image_folder.ImageFolder", "root", ["folder"], [None, " "]),
        ("image_folder.ImageFolder", "image_size", [1, 32, 4096], [0, 4097, 32.0, True, None]),
        ("image_folder.ImageFolder", "channels", [1, 3], [0, 2, 4, True, 3.0, "3"]),
        ("image_folder.ImageFolder", "test", [1, 0.1, 0], [1.0, -1, "all", None]),
    ],
)
def test_ranges_of_options(target, option, good, bad):
    allowed = read(f"diffusion_cli.dataset.{target}").arguments[option].range
    assert [allowed.accepts(value) for value in (*good, *bad)] == [True] * len(good) + [False] * len(bad)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["dataset=mnist", "dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (["dataset=mnist", "dataset.root=."], "dataset.root=.: MNIST is not there; put train-images-idx3-ubyte[.gz], "),
        (["dataset=fashion_mnist", "dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (["dataset=cifar10", "dataset.root=."], "dataset.root=.: CIFAR-10 is not there; put cifar-10-binary.tar.gz "),
        (["dataset=image_folder", "dataset.root=."], "dataset.root: .: a folder without an image (.png, .jpg, .jpeg, .webp, "),
        (["dataset=image_folder"], "dataset.root=???: a value is needed"),
        (["dataset=mnist", "dataset.source=some"], "dataset.source=some: must be one of the choices; choose from full, bundled"),
    ],
)  # fmt: skip
def test_missing_data_gets_one_line_and_leaves_nothing(line, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *line]) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
