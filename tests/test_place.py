"""A run's directory: held by one process, missed when it goes, and its summary true on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from diffusion_cli.errors import RunFailed, TakenError
from diffusion_cli.noise import ROWS, NoiseStream
from diffusion_cli.runs import directory
from diffusion_cli.runs.directory import RunDirectory

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs flock")


def test_a_directory_that_was_moved_or_removed_is_missed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    with run.lock():
        run.check_place()
        run.path.rename(tmp_path / "elsewhere")
        with pytest.raises(RunFailed, match="elsewhere"):
            run.check_place()
        run.write_summary(status="failed")
    assert not run.path.exists() and RunDirectory(tmp_path / "elsewhere").status == "failed"


def test_a_full_disk_does_not_keep_the_summary_from_being_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path)
    run.write_summary(status="running", steps=3)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(directory, "write_json", full)
    run.write_summary(status="failed", error="no space", metrics={"long": "x" * 5000})
    assert run.summary == {"status": "failed", "error": "no space"}


def test_a_killed_run_is_not_running(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.lock():
        run.write_summary(status="running")
        assert RunDirectory(tmp_path).status == "running"
        with pytest.raises(TakenError):
            RunDirectory(tmp_path).lock()
    assert run.status == "interrupted"


def test_rows_of_noise_do_not_depend_on_the_lot() -> None:
    whole, part = NoiseStream(0, 3 * ROWS, (2,)), NoiseStream(0, ROWS + 5, (2,), first=ROWS)
    for _ in range(2):
        assert torch.equal(whole()[ROWS : 2 * ROWS + 5], part())
