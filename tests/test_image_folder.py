"""Folders of images as data: what counts, classes, what is held out, the cache, and what is refused."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.dataset import image_folder
from diffusion_cli.dataset.image_folder import ImageFolder
from diffusion_cli.errors import ArgumentError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def add(folder, *values, name="{}.png", size=(6, 4)):
    """One image of each grey value."""
    folder.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.new("L", size, value).save(folder / name.format(value))


def read(root, **options):
    return ImageFolder(str(root), **{"image_size": 2, "channels": 1, "test": 1} | options)


def values(split):
    """The grey value of each image."""
    assert (split.images == split.images[:, :1, :1, :1]).all()
    return split.images[:, 0, 0, 0].tolist()


def refused(root, *parts, error=ArgumentError, **options):
    with pytest.raises(error) as caught:
        read(root, **options)
    assert all(str(part) in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


def entries(cache):
    found = [path for path in cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return sorted(path.name for path in found)


# what is read


def test_folders_are_classes_in_the_order_of_their_names(root):
    add(root / "dog", 10, 11, 12)
    add(root / "cat" / "deep" / "er", 1, 2, 3, name="{}.jpeg")
    add(root / "ant", 20, name="{}.WEBP")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    add(root / "dog", 99, name="._{}.png")
    data = read(root)
    assert data.class_names == ("ant", "cat", "dog") and data.num_classes == 3 and data.shape == (1, 2, 2)
    everything = sorted(zip(values(data.train) + values(data.test),
                            data.train.label.tolist() + data.test.label.tolist(), strict=True))  # fmt: skip
    assert everything == [(1, 1), (2, 1), (3, 1), (10, 2), (11, 2), (12, 2), (20, 0)]


def test_without_labels_the_tree_is_one_heap(root):
    add(root / "a", 1, 2)
    add(root / "b", 3)
    add(root, 4)
    data = read(root, labels=False)
    assert data.num_classes == 0 and data.train.label is None
    assert sorted(values(data.train) + values(data.test)) == [1, 2, 3, 4]
    refused(root, root / "4.png", "lies beside the folders of the classes; dataset.labels=false")


def test_a_flat_folder_and_a_single_class_have_no_labels(root):
    add(root, 1, 2, 3)
    assert read(root).num_classes == 0
    shutil.rmtree(root)
    add(root / "cat", 1, 2, 3)
    assert read(root).num_classes == 0 and len(read(root).train.images) == 2


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_folders_of_training_and_held_out_images(root, held_out):
    for name, k in (("cat", 0), ("dog", 100)):
        add(root / "train" / name, k + 1, k + 2)
    add(root / held_out / "dog", 110)
    data = read(root, test=0.5)
    assert values(data.train) == [1, 2, 101, 102] and data.train.label.tolist() == [0, 0, 1, 1]
    assert values(data.test) == [110] and data.test.label.tolist() == [1]
    cats = read(root / "train" / "cat")
    assert sorted(values(cats.train) + values(cats.test)) == [1, 2] and cats.num_classes == 0
    add(root / held_out / "bird", 5)
    refused(root, root / held_out / "bird", f"no class of that name in {root / 'train'}")


def test_a_folder_of_training_images_alone_holds_out_some_of_them(root):
    add(root / "train" / "cat", *range(10))
    add(root / "train" / "dog", *range(10, 20))
    data = read(root, test=0.2)
    assert len(data.train.images) == 16 and len(data.test.images) == 4 and data.class_names == ("cat", "dog")


def test_what_is_held_out_follows_from_the_names_alone(root, tmp_path):
    add(root, *range(20))
    data = read(root, test=5)
    assert len(data.train.images) == 15 and len(data.test.images) == 5
    assert sorted(values(data.train) + values(data.test)) == list(range(20))
    (tmp_path / "elsewhere").mkdir()
    for k in reversed(range(20)):
        add(tmp_path / "elsewhere", k)
    other = read(tmp_path / "elsewhere", test=0.25)
    assert values(other.test) == values(data.test) and other.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("n", "test", "reason"),
    [
        (4, 4, "of 4 images"),
        (1, 0.5, "of 1 images"),
        (4, -1, "must be"),
        (4, 1.0, "must be"),
    ],
)
def test_something_must_be_held_out_and_something_left(root, n, test, reason):
    add(root, *range(n))
    refused(root, f"test={test}: {reason}", test=test)


def test_large_images_of_any_shape_become_small_squares(root):
    random = np.random.default_rng(0)
    for k, (height, width) in enumerate([(512, 512), (512, 768), (300, 512), (40, 32)]):
        coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR).save(root / f"{k}.jpg")
    data = ImageFolder(str(root), test=1)
    assert data.shape == (3, 32, 32) and len(data.train.images) == 3
    x0 = data.draw(16, torch.Generator().manual_seed(0)).x0
    assert x0.shape == (16, 3, 32, 32) and -1 <= x0.min() < -0.3 and 0.3 < x0.max() <= 1


# the cache


def test_decoded_once_and_again_when_anything_changes(root, cache, monkeypatch):
    add(root, *range(5))
    decoded = []
    decode_all = image_folder.decode_all
    monkeypatch.setattr(image_folder, "decode_all", lambda *given: decoded.append(1) or decode_all(*given))
    first = read(root).fingerprint
    assert read(root).fingerprint == first and len(decoded) == 1
    assert entries(cache) == ["found.json", "images.npy", "sha256"]

    before = (root / "3.png").stat()
    add(root, 200, name="3.png")
    os.utime(root / "3.png", ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    assert (root / "3.png").stat().st_size == before.st_size
    assert read(root).fingerprint != first and 200 in values(read(root).train) + values(read(root).test)
    assert len(decoded) == 2
    add(root, 77)
    read(root), read(root, channels=3), read(root, image_size=3)
    assert len(decoded) == 5
    read(root, flip=True), read(root, labels=False)
    assert len(decoded) == 5


def test_the_cache_is_mapped_and_never_written_to(root, cache):
    add(root, *range(9))
    data = read(root)
    assert not data.train.images.is_pinned() and data.train.images.numpy().base is not None
    data.train.images[:] = 0
    assert sorted(values(read(root).train) + values(read(root).test)) == list(range(9))


def test_a_full_disk_gets_one_line_and_leaves_nothing(root, cache, monkeypatch):
    add(root, *range(5))

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            if self.file.tell() > 64:  # the header fits
                raise OSError(28, "No space left on device")
            return self.file.write(data)

    original = type(root).open

    def open_(path, mode="r", *given, **options):
        made = original(path, mode, *given, **options)
        return Full(made) if mode == "wb" and path.name == "images.npy" else made

    monkeypatch.setattr(type(root), "open", open_)
    refused(
        root,
        f"cache {cache / 'image_folder'}",
        "No space left on device",
        "DIFFUSION_CLI_CACHE",
        error=UserError,
    )
    assert entries(cache) == []
    monkeypatch.undo()


@pytest.mark.parametrize("damage", ["truncate", "empty", "missing", "shape"])
def test_a_damaged_cache_is_named(root, cache, damage):
    add(root, *range(5))
    read(root)
    (file,) = cache.rglob("images.npy")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "shape":
        np.save(file, np.zeros((3, 1, 2, 2), np.uint8))
    else:
        file.write_bytes(content[:-1] if damage == "truncate" else b"")
    refused(root, f"cache {file.parent}: damaged", "delete it", error=UserError)


# what is refused


def test_no_such_folder(tmp_path):
    refused(tmp_path / "none", f"root={tmp_path / 'none'}: no such folder")
    with pytest.raises(ArgumentError, match=r"root=null: must be a name or a path"):
        ImageFolder(None)


def test_an_empty_folder(root):
    refused(
        root, f"root: {root}: a folder without an image (.png, .jpg, .jpeg, .webp, .bmp, .gif, .tif, .tiff)"
    )
    add(root / "test", 1)
    (root / "train").mkdir()
    refused(root, f"{root / 'train'}: a folder without an image")


def test_an_empty_folder_of_held_out_images(root):
    add(root / "train" / "cat", 1)
    add(root / "train" / "dog", 2)
    (root / "test" / "cat").mkdir(parents=True)
    refused(root, f"{root / 'test'}: a folder without an image")


def test_a_class_without_images(root):
    add(root / "cat", 1, 2)
    (root / "dog" / "deeper").mkdir(parents=True)
    refused(root, f"root: {root / 'dog'}: a class without an image")


@pytest.mark.parametrize("content", [b"no image", None])
def test_a_bad_file_is_named_and_nothing_is_left(root, cache, content):
    add(root, *range(5))
    file = root / "3.png"
    file.write_bytes(file.read_bytes()[:-30] if content is None else content)
    refused(root, f"root: {file}: ")
    assert entries(cache) == []


def test_links(root, tmp_path):
    add(tmp_path / "far", 1, 2)
    (root / "near").symlink_to(tmp_path / "far")
    assert len(read(root).train.images) == 1
    (tmp_path / "far" / "up").symlink_to(root)
    refused(root, root / "near" / "up", "a link that leads to a folder above it")
    (tmp_path / "far" / "up").unlink()
    (root / "near" / "itself").symlink_to(root / "near" / "itself")
    refused(root, root / "near" / "itself")
    (root / "near" / "itself").unlink()
    (root / "near" / "gone.png").symlink_to(root / "nowhere.png")
    refused(root, root / "near" / "gone.png", "a link that leads nowhere")


def test_channels(root):
    add(root, 1, 2)
    refused(root, "channels=2: must be one of the choices; choose from 3, 1", channels=2)
