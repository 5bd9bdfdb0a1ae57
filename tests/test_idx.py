"""IDX files, and the datasets that are made of them: what is read, and what is refused."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from diffusion_cli.dataset.idx import read_idx
from diffusion_cli.dataset.mnist import FashionMnist, Mnist
from diffusion_cli.errors import ArgumentError

SIZES = {"train": 30, "t10k": 12}


def idx(array):
    """The bytes of an IDX file, as MNIST's page describes it."""
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        f"{part}-{kind}-ubyte": random.integers(0, high, (n, *shape), dtype=np.uint8)
        for part, n in SIZES.items()
        for kind, high, shape in (("images-idx3", 256, (28, 28)), ("labels-idx1", 10, ()))
    }


@pytest.fixture
def small(arrays, monkeypatch):
    """MNIST, had it been made of these arrays."""
    sums = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(Mnist, "checksums", sums)
    return Mnist


def write(folder, arrays, compressed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        packed = gzip.compress(idx(array)) if compressed else idx(array)
        (folder / f"{name}{'.gz' if compressed else ''}").write_bytes(packed)


def refused(make, *parts, error=ArgumentError):
    with pytest.raises(error) as caught:
        make()
    assert all(str(part) in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_reads_what_was_written(tmp_path, shape):
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    for content in (idx(array), gzip.compress(idx(array))):
        (tmp_path / "file").write_bytes(content)  # the name does not matter
        read = read_idx(tmp_path / "file", len(shape))
        np.testing.assert_array_equal(read.array, array)
        assert read.sha256 == hashlib.sha256(idx(array)).hexdigest()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("folder", [".", "mnist", "MNIST/raw"])
def test_finds_the_files_in_the_root_or_in_its_folder(small, arrays, tmp_path, folder, compressed):
    write(tmp_path / folder, arrays, compressed)
    data = small(str(tmp_path))
    np.testing.assert_array_equal(data.train.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test.label.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert data.shape == (1, 28, 28) and data.train.label.dtype == torch.int64
    assert data.num_classes == 10 and data.class_names[3] == "3"


def test_without_a_root_the_environment_tells_where(small, arrays, tmp_path, monkeypatch):
    write(tmp_path / "data" / "mnist", arrays)
    monkeypatch.setenv("DIFFUSION_CLI_DATA", str(tmp_path / "data"))
    assert len(small().train.images) == SIZES["train"]
    monkeypatch.setenv("DIFFUSION_CLI_DATA", str(tmp_path))
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "data"))
    assert len(small().train.images) == SIZES["train"]


def damaged_files():
    whole = gzip.compress(idx(np.arange(30, dtype=np.uint8) % 10))
    plain = gzip.decompress(whole)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 8
    return {
        "truncated": (whole[:-9], "cannot be read"),
        "damaged": (bytes(flipped), "cannot be read"),
        "another": (gzip.compress(idx(np.zeros(30))), "wrong checksum"),
        "short": (plain[:-1], "holds 29 bytes, not the 30 that it announces"),
        "long": (plain + b"0", "holds 31 bytes, not the 30 that it announces"),
        "empty": (b"", "is no IDX file of bytes in 1 dimensions"),
        "images": (idx(np.zeros((1, 2, 3))), "is no IDX file of bytes in 1 dimensions"),
        "huge": (struct.pack(">HBBI", 0, 8, 1, 2**32 - 1), "not the 4294967295"),
        "page": (b"<html>404</html>", "is no IDX file"),
    }


@pytest.mark.parametrize("kind", damaged_files())
def test_damaged_files_are_refused_by_name(small, arrays, tmp_path, kind):
    arrays["train-labels-idx1-ubyte"][:] = np.arange(30) % 10
    write(tmp_path, arrays)
    content, reason = damaged_files()[kind]
    file = tmp_path / "train-labels-idx1-ubyte.gz"
    file.write_bytes(content)
    refused(lambda: small(str(tmp_path)), f"root: {file}: ", reason)


def test_a_file_that_unpacks_to_too_much_is_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusion_cli.dataset.idx.MOST_BYTES", 10**6)
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(2 * 10**6)))
    refused(lambda: read_idx(tmp_path / "bomb", 1), tmp_path / "bomb", "is larger than")


def test_mnist_is_not_taken_for_fashion(small, arrays, tmp_path):
    write(tmp_path, arrays)
    refused(
        lambda: FashionMnist(str(tmp_path)),
        "wrong checksum: it is not Fashion-MNIST's train-images-idx3-ubyte",
    )


def test_missing_files_are_listed(small, arrays, tmp_path):
    write(tmp_path, arrays)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    refused(lambda: small(str(tmp_path)), f"root={tmp_path}: MNIST is not there", *arrays)
