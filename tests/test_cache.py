"""The cache: made once, whole or not at all."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffusion_cli.dataset.cache import cache_dir, cached
from diffusion_cli.errors import UserError


def left(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.name.endswith(".lock"))


def write(part):
    part.mkdir()
    (part / "file").write_text("whole")


def test_the_environment_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_CLI_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DIFFUSION_CLI_CACHE")
    assert cache_dir().name == "diffusion_cli" and cache_dir().is_absolute()


def test_made_once(tmp_path):
    path = tmp_path / "cache" / "entry"
    assert (cached(path, write) / "file").read_text() == "whole"
    assert cached(path, lambda part: pytest.fail("made again")) == path
    assert left(tmp_path / "cache") == ["entry", "file"]


def test_while_one_makes_it_others_wait(tmp_path):
    started, made = threading.Barrier(4), []

    def slowly(part):
        made.append(part)
        time.sleep(0.2)
        write(part)

    def want(_):
        started.wait()
        return (cached(tmp_path / "entry", slowly) / "file").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(want, range(4))) == ["whole"] * 4
    assert len(made) == 1


def test_of_two_processes_one_makes_it(tmp_path):
    script = """if True:
        import os, sys, time
        from pathlib import Path
        from diffusion_cli.dataset.cache import cached
        def make(part):
            time.sleep(0.3)
            part.write_text(str(os.getpid()))
        print(cached(Path(sys.argv[1]), make).read_text())
    """
    command = [sys.executable, "-c", script, str(tmp_path / "entry")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = {process.communicate(timeout=60)[0].strip() for process in running}
    assert len(told) == 1 and int(told.pop()) in {process.pid for process in running}


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), UserError("a", 1, "bad")])
def test_after_an_error_nothing_is_left(tmp_path, error):
    def fail(part):
        write(part)
        raise error

    with pytest.raises(type(error)):
        cached(tmp_path / "entry", fail)
    assert left(tmp_path) == []
    cached(tmp_path / "entry", write)


def test_a_full_disk_gets_one_line(tmp_path):
    def full(part):
        write(part)
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError) as caught:
        cached(tmp_path / "entry", full)
    assert str(caught.value) == (
        f"cache {tmp_path / 'entry'}: cannot be written: No space left on device; "
        "DIFFUSION_CLI_CACHE=FOLDER names another place"
    )
    assert left(tmp_path) == []


def test_what_a_killed_process_left_is_replaced(tmp_path):
    write(tmp_path / ".entry.part")
    (tmp_path / ".entry.part" / "older").write_text("half")
    cached(tmp_path / "entry", write)
    assert left(tmp_path) == ["entry", "file"]


def test_a_cache_where_none_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: "):
        cached(tmp_path / "file" / "cache" / "entry", write)
