"""CIFAR-10's binary batches, unpacked and in their archive, and what is refused."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
import torch

from diffusion_cli.dataset import cifar
from diffusion_cli.dataset.cifar import CLASSES, TEST, TRAIN, Cifar10
from diffusion_cli.dataset.places import Source
from diffusion_cli.errors import ArgumentError

N = 6  # images in each batch


@pytest.fixture(scope="module")
def images():
    """(36, 32, 32, 3) as a viewer would show them, and labels: five training batches, then the held-out one."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (6 * N, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, 6 * N)


@pytest.fixture(autouse=True)
def usual(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar, "USUAL", N)
    monkeypatch.setattr(
        cifar, "SOURCE", Source(cifar.SOURCE.title, cifar.SOURCE.folders, ("http://127.0.0.1:1/",))
    )
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))


def batches(images):
    """Name -> bytes: for each image its label, then the red plane, the green and the blue one, each row by row."""
    pictures, label = images
    records = [
        bytes([y]) + b"".join(x[:, :, c].tobytes() for c in range(3))
        for x, y in zip(pictures, label, strict=True)
    ]
    return {name: b"".join(records[k * N : (k + 1) * N]) for k, name in enumerate((*TRAIN, *TEST))}


def write(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in batches(images).items():
        (folder / name).write_bytes(content)


def archive(folder, images, monkeypatch):
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as tar:
        for name, content in batches(images).items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    digest = hashlib.sha256((folder / cifar.ARCHIVE).read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "ARCHIVE_SHA256", digest)


def check(data, images):
    pictures, label = images
    assert data.shape == (3, 32, 32) and data.num_classes == 10 and data.class_names == CLASSES
    shown = torch.cat((data.train.images, data.test.images)).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(shown.numpy(), pictures)
    np.testing.assert_array_equal(torch.cat((data.train.label, data.test.label)).numpy(), label)
    assert len(data.train.images) == 5 * N


def refused(root, *parts):
    with pytest.raises(ArgumentError) as caught:
        Cifar10(str(root))
    assert all(str(part) in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", [".", "cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_reads_pixels_and_labels(tmp_path, images, folder):
    write(tmp_path / folder, images)
    check(Cifar10(str(tmp_path)), images)


def test_fingerprint_follows_the_content(tmp_path, images):
    write(tmp_path, images)
    first = Cifar10(str(tmp_path)).fingerprint
    assert Cifar10(str(tmp_path)).fingerprint == first
    changed = bytearray((tmp_path / TRAIN[2]).read_bytes())
    changed[1000] ^= 1
    (tmp_path / TRAIN[2]).write_bytes(changed)
    assert Cifar10(str(tmp_path)).fingerprint != first


def test_the_archive_is_unpacked_into_the_cache(tmp_path, images, monkeypatch):
    archive(tmp_path / "data", images, monkeypatch)
    check(Cifar10(str(tmp_path / "data")), images)
    assert {path.name for path in (tmp_path / "cache/cifar10/cifar-10-batches-bin").iterdir()} == {
        *TRAIN,
        *TEST,
    }
    check(Cifar10(), images)  # found there now


def test_the_archive_is_downloaded_unpacked_and_dropped(tmp_path, images, monkeypatch):
    archive(tmp_path / "server", images, monkeypatch)
    monkeypatch.setattr(
        "diffusion_cli.dataset.download._retrieve",
        lambda url, file: file.write_bytes((tmp_path / "server" / cifar.ARCHIVE).read_bytes()),
    )
    check(Cifar10(), images)
    visible = [path.name for path in (tmp_path / "cache/cifar10").iterdir() if not path.name.startswith(".")]
    assert visible == ["cifar-10-batches-bin"]


def test_another_archive_is_refused(tmp_path, images, monkeypatch):
    archive(tmp_path, images, monkeypatch)
    (tmp_path / cifar.ARCHIVE).write_bytes(b"something")
    refused(tmp_path, tmp_path / cifar.ARCHIVE, "wrong checksum")
    assert not (tmp_path / "cache" / "cifar10").exists()


@pytest.mark.parametrize(
    "name", ["data_batch_1", "cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"]
)
def test_pickles_are_refused_with_a_hint(tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path, tmp_path / name, "pickles", "get the binary version", "cifar-10-binary.tar.gz")


@pytest.mark.parametrize("change", [-1, -1000, 1, None])
def test_wrong_lengths_are_refused(tmp_path, images, change):
    write(tmp_path, images)
    content = (tmp_path / TRAIN[3]).read_bytes()
    wrong = b"" if change is None else content[:change] if change < 0 else content + bytes(change)
    (tmp_path / TRAIN[3]).write_bytes(wrong)
    refused(tmp_path, tmp_path / TRAIN[3], f"{len(wrong)} bytes are not whole records of 3073")


def test_an_unusual_number_of_images_gets_a_warning(tmp_path, images, caplog):
    write(tmp_path, images)
    (tmp_path / TRAIN[0]).write_bytes((tmp_path / TRAIN[0]).read_bytes()[: 2 * 3073])
    assert len(Cifar10(str(tmp_path)).train.images) == 5 * N - 4
    assert f"{tmp_path / TRAIN[0]}: 2 images, not the usual {N}" in caplog.text


def test_a_label_out_of_range_is_refused(tmp_path, images):
    write(tmp_path, images)
    content = bytearray((tmp_path / TEST[0]).read_bytes())
    content[2 * 3073] = 10
    (tmp_path / TEST[0]).write_bytes(content)
    refused(tmp_path, tmp_path / TEST[0], "image 2 has the label 10, not 0..9")


def test_without_network_one_line_tells_what_to_put_where(tmp_path):
    refused_line = (
        "put cifar-10-binary.tar.gz into a folder cifar10, and name the folder above it by DIFFUSION_CLI_DATA"
    )
    with pytest.raises(ArgumentError, match=refused_line):
        Cifar10()
