"""Images that several processes of a machine share: decoded once, mapped by all, the same as those of one process."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from diffusion_cli.dataset import cache, cifar, image_arrays, mapped, mnist
from diffusion_cli.dataset.cache import CACHE, cached
from diffusion_cli.dataset.cifar import Cifar10
from diffusion_cli.dataset.image_arrays import ImageArrays
from diffusion_cli.dataset.mnist import Mnist
from diffusion_cli.errors import UserError
from diffusion_cli.runs.processes import Others, several
from diffusion_cli.runs.session import in_hand


@pytest.fixture
def made(tmp_path, monkeypatch):
    """made(kind): a dataset of that kind from files of a few images."""
    g = np.random.default_rng(0)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))

    def idx(name: str, array: np.ndarray) -> bytes:
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        return content

    def made(kind: str):
        return {"mnist": lambda: Mnist(str(tmp_path)), "cifar": lambda: Cifar10(str(tmp_path)),
                "arrays": lambda: ImageArrays(str(tmp_path / "a.npz"), test=0.25)}[kind]()  # fmt: skip

    sums = {}
    for part, n in (("train", 30), ("t10k", 10)):
        for name, shape, most in (("images-idx3-ubyte", (n, 28, 28), 256), ("labels-idx1-ubyte", (n,), 10)):
            content = idx(f"{part}-{name}", g.integers(0, most, shape, dtype=np.uint8))
            sums[f"{part}-{name}"] = mnist.hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(Mnist, "checksums", sums)
    for name in (*cifar.TRAIN, *cifar.TEST):
        g.integers(0, 10, (4, cifar.RECORD), dtype=np.uint8).tofile(tmp_path / name)
    images = g.integers(0, 256, (20, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=g.integers(0, 3, (20, 1)))
    return made


def is_mapped(tensor: torch.Tensor, folder: Path) -> bool:
    """Whether it lies where a file of the folder is mapped to in this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        ends, *_, name = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in ends.split("-"))
        if first <= tensor.data_ptr() < last:
            return name.startswith(str(folder))
    return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
@pytest.mark.parametrize("kind", ["mnist", "cifar", "arrays"])
def test_of_several_processes_one_decodes_and_all_map(made, kind, tmp_path, monkeypatch):
    alone = made(kind)
    assert not is_mapped(alone.train.images, tmp_path) and not (tmp_path / "cache").exists()
    monkeypatch.setattr(Others, "running", 1)
    first = made(kind)
    # what a second process does: nothing is decoded or digested again
    for module in (mnist, cifar, image_arrays):
        for name in ("read_idx", "read_batches", "read_arrays"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *_: pytest.fail("decoded again"))
    second = made(kind)
    for dataset in (first, second):
        assert dataset.fingerprint == alone.fingerprint and dataset.class_names == alone.class_names
        for part in ("train", "test"):
            ours, theirs = getattr(dataset, part), getattr(alone, part)
            assert is_mapped(ours.images, tmp_path / "cache")
            assert torch.equal(ours.images, theirs.images) and torch.equal(ours.label, theirs.label)
    assert getattr(second, "about", None) == getattr(alone, "about", None)


def test_other_files_are_decoded_and_damaged_ones_are_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(Others, "running", 1)
    before = made("arrays").fingerprint
    images = np.zeros((20, 6, 6), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=np.zeros((20, 1)))
    assert made("arrays").fingerprint != before
    (folder,) = (
        f.parent
        for f in tmp_path.glob("cache/images/*/found.json")
        if not np.load(f.parent / "train_images.npy").any()
    )
    content = json.loads((folder / mapped.FOUND).read_text())
    (folder / content["files"][0][0]).write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"damaged \(.*\); delete it"):
        made("arrays")


def test_others_are_there_from_their_start_to_their_end():
    assert not several()
    others = Others(1, 0)
    assert several()
    others.end()
    assert not several()


def test_who_waits_says_so_and_may_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LOOK", 0.01)
    said = []

    def look():
        said.append([name for name, _ in in_hand])
        if len(said) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(cache, "tick", look)
    with FileLock(tmp_path / ".entry.lock"), pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "entry", lambda part: part.write_text(""))
    assert said == 3 * [[f"waiting for another process, which makes {tmp_path / 'entry'}"]] and not in_hand
