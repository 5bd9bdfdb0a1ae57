"""Checkpoints: whole, verified, safe, and equal to what was saved."""

import errno
import io
import json
import os
import pickle
import random
import signal
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from diffusion_cli.runs import checkpoint


def content():
    g = torch.Generator().manual_seed(0)
    big = torch.randn(8, 6, generator=g)
    return {
        "step": 12,
        "net": {"w": big[:3].t(), "half": torch.randn(5, generator=g).bfloat16(), "empty": torch.zeros(0, 2)},
        "optimizer": {
            "state": {"0": {"step": torch.tensor(3.0), "count": torch.tensor(7)}},
            "param_groups": [{"lr": 0.1, "betas": [0.9, 0.99]}],
        },
        "config": {"dataset": {"n": None, "path": "a/bé"}, "flag": True, "none": {}, "tiny": 5e-324},
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "step_00000012.safetensors"
    checkpoint.save(path, content())
    return path


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_round_trip(file):
    loaded = checkpoint.load(file)
    assert equal(loaded, content())
    assert checkpoint.digest(loaded) == checkpoint.digest(content())


def test_the_digest_tells_all_contents_apart():
    """Values, names, types, shapes, and which tensor has which name."""
    digests = {checkpoint.digest(content())}
    for change in (
        lambda c: c.update(step=13),
        lambda c: c["config"].update(flag=False),
        lambda c: c["net"]["half"].neg_(),
        lambda c: c["net"].update(w=c["net"]["w"].t()),
        lambda c: c["net"].update(half=c["net"]["half"].view(torch.int16)),
        lambda c: c["net"].update(empty=torch.zeros(2, 0)),
        lambda c: c["net"].update(other=c["net"].pop("w")),
        lambda c: c.update(net={}),
    ):
        changed = content()
        change(changed)
        digests.add(checkpoint.digest(changed))
    assert len(digests) == 9
    x, y = torch.zeros(2), torch.ones(2)
    assert checkpoint.digest({"x": x, "y": y}) != checkpoint.digest({"x": y, "y": x})


def test_is_an_ordinary_safetensors_file(file):
    tensors = load_file(file)
    assert (
        torch.equal(tensors["net/w"], content()["net"]["w"]) and tensors["net/half"].dtype == torch.bfloat16
    )
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    assert about["format"] == checkpoint.FORMAT and json.loads(about["content"])["step"] == 12


def test_a_view_is_saved_without_the_rest_of_its_storage(tmp_path):
    checkpoint.save(tmp_path / "a.safetensors", {"w": torch.zeros(1_000_000)[:10]})
    assert (tmp_path / "a.safetensors").stat().st_size < 10_000


def outcome(path, truth):
    """Whether a damaged file is refused, in one line; else it must hold what was saved."""
    try:
        loaded = checkpoint.load(path)
    except checkpoint.Damaged as damage:
        assert str(damage).startswith(str(path)) and "\n" not in str(damage)
        return True
    assert equal(loaded, truth), "loaded silently wrong"
    return False


def test_no_changed_byte_is_loaded_as_something_else(file, tmp_path):
    """Each byte of the file, header and tensors alike."""
    whole, truth, broken = file.read_bytes(), content(), tmp_path / "broken.safetensors"
    rng, refused = random.Random(0), 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= rng.randrange(1, 256)
        broken.write_bytes(data)
        refused += outcome(broken, truth)
    # what may change without harm: the version that wrote the file, and blanks after the header
    assert refused > 0.95 * len(whole)


def test_no_cut_file_is_loaded_and_none_with_more_at_its_end(file, tmp_path):
    whole, broken = file.read_bytes(), tmp_path / "broken.safetensors"
    for length in range(len(whole)):
        broken.write_bytes(whole[:length])
        assert outcome(broken, None)
    for more in (b"\0", b"{}", whole):
        broken.write_bytes(whole + more)
        assert outcome(broken, None)


def reheaded(whole, change):
    """The same bytes under a header that says something else of them."""
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + whole[8 + size :]


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update({"optimizer/state/0/x": h.pop("optimizer/state/0/step")}),
        lambda h: h["net/w"].update(shape=[3, 6]),
        lambda h: h["net/w"].update(dtype="I32"),
        lambda h: h["net/w"].update(shape=[10**6, 10**6]),
        lambda h: h["net/w"].update(data_offsets=[2**40, 2**40 + 72]),
        lambda h: h.update({"net/copy": h["net/w"]}),
        lambda h: h["__metadata__"].update(format="1"),
        lambda h: h["__metadata__"].update(digest="0" * 64),
        lambda h: h["__metadata__"].update(content="{}"),
        lambda h: h["__metadata__"].pop("content"),
        lambda h: h.pop("__metadata__"),
    ],
    ids=[
        "name",
        "shape",
        "dtype",
        "terabytes",
        "outside",
        "twice",
        "format",
        "digest",
        "content",
        "no content",
        "no metadata",
    ],
)
def test_a_header_that_says_something_else_is_refused(file, change):
    file.write_bytes(reheaded(file.read_bytes(), change))
    assert outcome(file, None)


def sealed(path, text, tensors=None):
    """A file whose digest is right, whatever it holds: as a stranger can make it."""
    about = {"format": checkpoint.FORMAT, "content": text, "digest": checkpoint._digest(tensors or {}, text)}
    path.write_bytes(save(tensors or {}, about))


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))


def tarred(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../x"), io.BytesIO())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: None,
        lambda p: p.mkdir(),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_text("hello"),
        lambda p: p.write_bytes(b"\xff" * 8 + b"{"),
        lambda p: p.write_bytes(pickle.dumps({"a": 1})),
        zipped,
        tarred,
        lambda p: torch.save({"state_dict": {}}, p),
        lambda p: save_file({"w": torch.zeros(2)}, p),
        lambda p: save_file({"w": torch.zeros(2)}, p, {"format": "pt"}),
        lambda p: sealed(p, "[1"),
        lambda p: sealed(p, "[" * 10**5),
        lambda p: sealed(p, '"' + "a" * (checkpoint.LARGEST_TEXT + 1) + '"'),
        # tensors in a place that is none
        lambda p: sealed(p, "[]", {"a": torch.zeros(1)}),
        lambda p: sealed(p, '{"a": 1}', {"a/b": torch.zeros(1)}),
        lambda p: sealed(p, "{}", {"a/b": torch.zeros(1)}),
    ],
    ids=["missing", "folder", "empty", "text", "length", "pickle", "zip", "tar", "torch", "foreign", "foreign metadata",
         "no JSON", "bottomless", "endless", "no keys", "value", "no such place"],
)  # fmt: skip
def test_foreign_files_are_refused_in_one_line(tmp_path, make):
    path = tmp_path / "x.safetensors"
    make(path)
    with pytest.raises(checkpoint.Damaged) as damage:
        checkpoint.load(path)
    assert str(damage.value).startswith(str(path)) and "\n" not in str(damage.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    signal.alarm(20)
    try:
        with pytest.raises(checkpoint.Damaged, match="no such file"):
            checkpoint.load(tmp_path / "x.safetensors")
    finally:
        signal.alarm(0)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"content": Evil()}, tmp_path / "x.safetensors")
    with pytest.raises(checkpoint.Damaged):
        checkpoint.load(tmp_path / "x.safetensors")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("where", ["write_bytes", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(file, monkeypatch, where):
    before = file.read_bytes()

    def half(path, data):
        with open(path, "wb") as out:
            out.write(data[: len(data) // 2])
        full()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "write_bytes":
        monkeypatch.setattr(Path, "write_bytes", half)
    else:
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(file, {"step": 13})
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"path": Path("a")}, "not JSON serializable"),
        ({"a": {0: 1}}, "a checkpoint's keys are names, not 0"),
        ({"a/b": torch.zeros(1)}, "a checkpoint's keys are names, not 'a/b'"),
        ({"list": [torch.zeros(1)]}, "not JSON serializable"),
    ],
)
def test_what_would_not_come_back_is_not_saved(tmp_path, value, reason):
    with pytest.raises(TypeError, match=reason):
        checkpoint.save(tmp_path / "x.safetensors", value)
    assert list(tmp_path.iterdir()) == []


def test_exported_weights_are_what_others_read(tmp_path):
    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3).t(), "layer.bias": torch.ones(2)}
    checkpoint.export(tmp_path / "w.safetensors", weights, {"run": "a", "step": "3"})
    assert equal(
        load_file(tmp_path / "w.safetensors"), {key: value.contiguous() for key, value in weights.items()}
    )
    with safe_open(tmp_path / "w.safetensors", "pt") as opened:
        about = opened.metadata()
    assert about["format"] == "pt" and about["run"] == "a" and about["digest"] == checkpoint.digest(weights)
    with pytest.raises(checkpoint.Damaged, match="not a checkpoint of diffusion_cli"):
        checkpoint.load(tmp_path / "w.safetensors")
