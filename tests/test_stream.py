"""Samples that go to the disk lot by lot: the same file, whatever a lot holds, and no more memory for more of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffusion_cli.__main__ import main
from diffusion_cli.components import drawing, of
from diffusion_cli.runs.directory import RunDirectory

Compose = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("dataset", ["circle", "gmm2px"])
def test_no_bit_depends_on_the_lots(
    dataset: str, composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(
        "sample", "run=exact", f"dataset={dataset}", "n=1100", "sample_batch=128", "sampler.steps=3"
    )
    components = of(config)
    whole = list(components.stream())
    monkeypatch.setattr(drawing, "LOT", 1)
    lots = list(components.stream())
    assert len(whole) == 1 and [len(x0) for x0, _ in lots] == [256] * 4 + [76]
    run = RunDirectory(tmp_path)
    first = run.write_samples(1100, iter(lots), class_names=np.array(["a"]))
    assert first[0] is lots[0][0]
    arrays = {"x0": whole[0][0]} | ({} if whole[0][1] is None else {"label": whole[0][1]})
    with (tmp_path / "truth.npz").open("wb") as file:
        np.savez(file, **arrays, class_names=np.array(["a"]))
    assert run.samples_file.read_bytes() == (tmp_path / "truth.npz").read_bytes()
    # a figure shows what was drawn, and draws it where it is not there
    assert np.array_equal(components.samples[0], whole[0][0])
    assert replace(components, drawn=whole[0]).samples is whole[0]


def test_memory_does_not_grow_with_their_number(tmp_path: Path) -> None:
    def lots(n: int) -> Iterator[tuple[np.ndarray, None]]:
        for k in range(n):
            yield np.full((1000, 256), k, np.float32), None

    def peak(n: int) -> int:
        tracemalloc.start()
        try:
            RunDirectory(tmp_path).write_samples(1000 * n, lots(n))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(5)
    assert peak(20) < 1.1 * few + 10**6
    with np.load(tmp_path / "samples.npz") as arrays:
        assert arrays["x0"].shape == (20_000, 256) and arrays["x0"][-1, 0] == 19


def test_a_lot_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_samples(2, [(np.zeros((2, 2), np.float32), None)])
    before = run.samples_file.read_bytes()

    def lots() -> Iterator[tuple[np.ndarray, None]]:
        yield np.ones((2, 2), np.float32), None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.write_samples(4, lots())
    assert run.samples_file.read_bytes() == before and [*tmp_path.iterdir()] == [run.samples_file]


def test_more_than_memory_holds_is_refused_by_the_number_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "free_memory", lambda: 2 * 8 * 1000)
    line = ["sample", "run=exact", "dataset=circle", "plots=false", "sampler.steps=1", "hydra.run.dir=out"]
    assert main([*line, "n=1001"]) == 2 and not Path("out").exists()
    assert "n=1001: needs 1.6e-05 GB of memory; at most 1000 fit now" in capsys.readouterr().err
    monkeypatch.setattr(drawing, "LOT", 1)
    assert main([*line, "n=600", "sample_batch=256"]) == 0
    assert "600 samples in" in "".join(capsys.readouterr())
    with np.load("out/samples.npz") as arrays:
        assert arrays["x0"].shape == (600, 2)
