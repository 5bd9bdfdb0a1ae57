"""Checkpoints: whole, verified, safe, and equal to what was saved."""

import errno
import random

import pytest
import torch

from diffusion_cli.runs import checkpoint


def content():
    g = torch.Generator().manual_seed(0)
    big = torch.randn(50, 40, generator=g)
    return {
        "step": 12,
        "net": {"w": big[:3].t(), "half": torch.randn(5, generator=g).bfloat16(), "empty": torch.zeros(0, 2)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0)}},
            "param_groups": [{"lr": 0.1, "betas": [0.9, 0.99]}],
        },
        "config": {"dataset": {"n": None, "path": "a/b"}, "flag": True},
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "step_00000012.safetensors"
    checkpoint.save(path, content())
    return path


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_round_trip(file):
    assert equal(checkpoint.load(file), content())


def test_is_an_ordinary_torch_file_that_needs_no_trust(file):
    assert torch.load(file, weights_only=True)["content"]["step"] == 12


def test_a_view_is_saved_without_the_rest_of_its_storage(tmp_path):
    checkpoint.save(tmp_path / "a.pt", {"w": torch.zeros(1_000_000)[:10]})
    assert (tmp_path / "a.pt").stat().st_size < 10_000


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch, of a damaged byte
def test_no_flipped_byte_or_cut_is_loaded_as_something_else(file, tmp_path):
    whole, truth, broken = file.read_bytes(), content(), tmp_path / "broken.pt"
    rng, refused = random.Random(0), 0
    for trial in range(300):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: rng.randrange(len(data))]
        else:
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        broken.write_bytes(data)
        try:
            loaded = checkpoint.load(broken)
        except checkpoint.Damaged as damage:
            assert "\n" not in str(damage) and "weights_only" not in str(damage)
            refused += 1
        else:
            assert equal(loaded, truth), f"trial {trial} loaded silently wrong"
    assert refused > 150


@pytest.mark.parametrize(
    "make",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_text("hello"),
        lambda p: torch.save({"state_dict": {}}, p),
        lambda p: torch.save([1, 2], p),
        lambda p: torch.save({"format": 99, "digest": "", "content": {}}, p),
        lambda p: torch.save({"format": 1, "digest": "", "content": {"a": torch.zeros(1)}}, p),
        lambda p: None,
    ],
    ids=["empty", "text", "foreign", "list", "format", "digest", "missing"],
)
def test_foreign_files_are_refused_in_one_line(tmp_path, make):
    make(tmp_path / "x.pt")
    with pytest.raises(checkpoint.Damaged) as damage:
        checkpoint.load(tmp_path / "x.pt")
    assert str(tmp_path / "x.pt") in str(damage.value) and "\n" not in str(damage.value)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"format": 1, "digest": "", "content": Evil()}, tmp_path / "x.pt")
    with pytest.raises(checkpoint.Damaged):
        checkpoint.load(tmp_path / "x.pt")
    assert not (tmp_path / "written").exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(file, monkeypatch):
    before = file.read_bytes()

    def full(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 - as torch does it

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(file, {"step": 13})
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_what_would_not_come_back_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="plain values, not PosixPath"):
        checkpoint.save(tmp_path / "x.pt", {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []
