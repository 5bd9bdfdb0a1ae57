"""What a laptop that sleeps, a cluster that preempts and a disk that is full do to a training: nothing is lost."""

from __future__ import annotations

import errno
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from diffusion_cli.errors import UserError
from diffusion_cli.runs import atomic, checkpoint
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.restore import chosen, newest
from diffusion_cli.runs.rows import read_csv
from trials import damage, kills, signals, surroundings, writes
from trials.child import Child, End

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LINE = [*kills.LINE, "steps=120", "checkpoint.every=20", "stages.every=0"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("straight") / "home"
    home.mkdir()
    end = Child(LINE, home).wait()
    assert end.code == 0, end.err
    return kills.essence(home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def run_of(home: Path) -> RunDirectory:
    return RunDirectory(home / "run")


def goes_on(home: Path, straight: dict[str, str]) -> None:
    """The same line ends as if nothing had happened."""
    end = Child(LINE, home).wait()
    assert end.code == 0, end.err
    assert kills.essence(home) == straight
    assert not list(home.rglob("*.part*"))


def until(condition: Callable[[], Any], child: Child) -> None:
    deadline = time.monotonic() + 60
    while not condition() and not child.over() and time.monotonic() < deadline:
        time.sleep(0.003)
    assert condition() and not child.over(), child.wait().err


def slowly(seconds: float = 0.05) -> None:
    """Called in the child: leaves time to send it something in the middle of its training."""
    from diffusion_cli.commands.course import Training

    log_row = Training.log_row
    Training.log_row = lambda training: time.sleep(seconds) or log_row(training)


def nth(call: int, first: Callable[..., None], then: Callable[..., Any]) -> Callable[..., Any]:
    """`then`, which does `first` beforehand the nth time that it is called."""
    count = iter(range(call))

    def patched(*arguments: Any, **options: Any) -> Any:
        if next(count, None) == call - 1:
            first(*arguments)
        return then(*arguments, **options)

    return patched


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# kill -9


def test_killed_anywhere(tmp_path: Path) -> None:
    """scripts/faults kills, in small."""
    assert kills.run(1, 5, tmp_path, LINE)["broken"] == []


def test_a_signal_anywhere(tmp_path: Path) -> None:
    """scripts/faults signals, in small."""
    assert signals.run(2, 4, tmp_path)["broken"] == []


def test_a_write_that_fails(tmp_path: Path) -> None:
    """scripts/faults writes, in small: killed, and the disk full, in the middle of the second phase."""
    found = writes.run(2, 0, tmp_path, writes.PHASES[1:2])
    assert found["broken"] == [] and found["all"] == 4


def test_surroundings(tmp_path: Path) -> None:
    """scripts/faults surroundings, but for another user and the clock, which are tried below."""
    found = surroundings.run(9, 0, tmp_path)
    assert found["broken"] == [] and found["tried"] == 9


@pytest.mark.parametrize("point", ["in the middle", "while pruning"])
def test_killed_inside_the_writing_of_a_checkpoint(home: Path, straight: dict[str, str], point: str) -> None:
    def before() -> None:
        def half(part: Path, data: bytes) -> None:
            write(part, data[: len(data) // 2])
            die()

        write = Path.write_bytes
        if point == "in the middle":
            Path.write_bytes = nth(3, half, write)
        else:
            RunDirectory.prune = nth(3, die, RunDirectory.prune)

    assert Child(LINE, home, before).wait().code == -signal.SIGKILL
    for file in run_of(home).checkpoints():
        checkpoint.load(file)
    goes_on(home, straight)


def test_flipped_and_cut(tmp_path: Path) -> None:
    """scripts/faults damage, in small."""
    found = damage.run(200, 3, tmp_path)
    assert found["broken"] == [] and found["checkpoint, refused"] > 50 and found["forged, refused"] == 20


# disks


def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(home: Path) -> None:
    """The kernel itself refuses to write more than 20 kB of a file from the third checkpoint on."""

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
        checkpoint.save = nth(3, limit, checkpoint.save)

    end = Child(LINE, home, before).wait()
    assert end.code == 1 and end.err.count("error: ") == 1 and "Traceback" not in end.err
    run = run_of(home)
    assert [file.name for file in run.checkpoints()] == [
        "step_00000020.safetensors",
        "step_00000040.safetensors",
    ]
    assert run.status == "failed" and not list(run.path.rglob("*.part*"))
    assert newest(run)["state"]["step"] == 40


def test_no_space_at_all(home: Path, straight: dict[str, str]) -> None:
    """From some moment on nothing more can be written, not even that it failed."""

    def before() -> None:
        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        count = iter(range(10**6))
        replace = os.replace
        atomic.os.replace = lambda *names: full() if next(count) >= 6 else replace(*names)

    end = Child(LINE, home, before).wait()
    assert end.code == 1 and "No space left on device" in end.err and "Traceback" not in end.err
    goes_on(home, straight)


def all_may_enter(folder: Path) -> bool:
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (folder, *folder.parents))


@pytest.mark.skipif(
    not hasattr(os, "setuid") or os.geteuid() != 0 or not all_may_enter(Path(sys.prefix)),
    reason="only root can become somebody else, who must be able to read this environment",
)
def test_a_directory_that_cannot_be_written(home: Path) -> None:
    home.chmod(0o555)
    for parent in home.parents:
        if parent.owner() == "root" and parent != Path("/") and parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)

    def before() -> None:
        # who reads less: not all of Python, perhaps
        for module in ("cli.entries.train", "commands.train"):
            importlib.import_module(f"diffusion_cli.{module}")
        os.setuid(65534)

    end = Child(["train", "hydra.run.dir=run"], home, before).wait()
    assert (end.code, end.err) == (2, "error: hydra.run.dir=run: Permission denied\n")
    assert list(home.iterdir()) == []


# signals, and two at once


def test_the_clusters_signal_saves_and_says_so_by_its_code(home: Path, straight: dict[str, str]) -> None:
    """As SIGINT and SIGTERM do, in tests/test_resume.py."""
    child = Child(LINE, home, slowly)
    until(run_of(home).checkpoints, child)
    child.kill(signal.SIGUSR1)
    end = child.wait()
    assert (end.code, end.err.split("\n")) == (
        128 + signal.SIGUSR1,
        [
            "",
            "SIGUSR1: stopping once what is in hand is saved; once more to leave at once",
            "interrupted by SIGUSR1",
            "",
        ],
    )
    run = run_of(home)
    step = run.summary["steps"]
    assert f"saved at step {step}; the same line with hydra.run.dir={run.path} resume=true goes on" in end.out
    assert run.status == "interrupted" and newest(run)["state"]["step"] == run.summary["steps"] < 120
    goes_on(home, straight)


@pytest.mark.parametrize("step, checkpoints", [(20, [20]), (0, [])])
def test_a_signal_puts_samples_and_measurements_off_until_the_run_goes_on(
    tmp_path: Path, step: int, checkpoints: list[int]
) -> None:
    """They can take minutes; what is trained is saved at once."""
    line = [*LINE, "steps=60", "stages.every=20", "stages.n=8", "monitor.every=20", "monitor.n=16"]

    def before() -> None:
        from diffusion_cli.commands.course import Training

        put_off = Training.put_off

        def sent(training: Training) -> None:
            if training.state.step == step and training.session.stop.signum is None:
                os.kill(os.getpid(), signal.SIGTERM)
            put_off(training)

        Training.put_off = sent

    homes = [tmp_path / "straight", tmp_path / "stopped"]
    for home in homes:
        home.mkdir()
    assert Child(line, homes[0]).wait().code == 0
    assert Child(line, homes[1], before).wait().code == 128 + signal.SIGTERM
    run = run_of(homes[1])
    assert [checkpoint.load(file)["state"]["step"] for file in run.checkpoints()] == checkpoints
    assert [*run.stages()] == ([0] if step else []) and not run.evaluations_file.exists()
    assert Child(line, homes[1]).wait().code == 0
    rows = [run_of(home).evaluations_file.read_text() for home in homes]
    assert (
        kills.essence(homes[1]) == kills.essence(homes[0])
        and rows[0] == rows[1]
        and len(rows[0].splitlines()) == 4
    )


def test_a_second_signal_leaves_at_once_and_breaks_nothing(home: Path, straight: dict[str, str]) -> None:
    def before() -> None:
        slowly()
        save = checkpoint.save
        checkpoint.save = lambda file, content: (
            save(file, content),
            time.sleep(30 * (content["state"]["step"] % 20 > 0)),
        )

    child = Child(LINE, home, before)
    until(run_of(home).checkpoints, child)
    child.kill(signal.SIGTERM)
    time.sleep(0.4)
    child.kill(signal.SIGTERM)
    end = child.wait(20)
    assert end.code == 128 + signal.SIGTERM and end.seconds < 20 and "Traceback" not in end.err
    assert run_of(home).status == "interrupted"
    goes_on(home, straight)


def test_a_launchers_hook_has_its_signal_after_the_saving(home: Path) -> None:
    """submitit requeues its job on SIGUSR2 and passes over SIGTERM, which the cluster sends as well."""

    def before() -> None:
        slowly(0.3)
        signal.signal(signal.SIGUSR2, lambda *_: sys.exit(9))

    child = Child(LINE, home, before)
    until(run_of(home).checkpoints, child)
    child.kill(signal.SIGTERM)
    seen: set[str] = set()
    until(lambda: seen.add(run_of(home).checkpoints()[-1].name) or len(seen) > 1, child)  # it goes on
    child.kill(signal.SIGTERM)
    child.kill(signal.SIGUSR2)
    assert child.wait().code == 9
    run = run_of(home)
    assert run.status == "interrupted" and newest(run)["state"]["step"] == run.summary["steps"] < 120


def test_one_trainer_at_a_time(home: Path) -> None:
    first = Child(LINE, home, lambda: slowly(2.0))
    until(run_of(home).checkpoints, first)
    before = files(home)
    for line in (LINE, [*LINE, "seed=1"], [word for word in LINE if word != "resume=true"]):
        second = Child(line, home).wait()
        assert second.code == 2 and second.err.startswith("error: ") and second.err.count("\n") == 1
    for name, found in files(home).items():
        if name.suffix in (".json", ".yaml", ".log") or name.name == ".owner":
            assert found == before[name], name
    said = f"error: hydra.run.dir=run: is being trained by process {first.pid} on {os.uname().nodename}"
    assert Child(LINE, home).wait().err.splitlines() == [said]
    assert (home / "run" / ".lock").exists() and not first.over()
    first.kill()
    first.wait()
    run_of(home).lock().release()  # at once: it died with its owner


def files(home: Path) -> dict[Path, tuple[bytes, int]]:
    """Bytes and date of each file of the run."""
    found = [path for path in (home / "run").rglob("*") if path.is_file()]
    return {path.relative_to(home): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize("more", [[], ["resume=true"]], ids=["new", "resume"])
def test_of_two_that_start_at_once_one_works_and_all_that_is_written_is_its_own(
    home: Path, more: list[str]
) -> None:
    """Not the configuration of the one and the network of the other."""
    line = [word for word in LINE if not word.startswith(("resume", "steps"))]
    for trial in range(3):
        words = [*line[:-1], "steps=20", f"hydra.run.dir=run{trial}", *more]
        two = [Child([*words, f"seed={seed}"], home) for seed in (0, 1)]
        ends = [child.wait() for child in two]
        assert sorted(end.code for end in ends) == [0, 2], [end.err for end in ends]
        winner = [end.code for end in ends].index(0)
        assert ends[1 - winner].err.startswith("error: ") and ends[1 - winner].err.count("\n") == 1
        run = RunDirectory(home / f"run{trial}")
        assert (run.status, run.summary["seed"], run.record.config["seed"]) == ("finished", winner, winner)
        assert f"\nseed: {winner}\n" in (run.path / ".hydra" / "config.yaml").read_text()
        assert newest(run)["config"]["seed"] == winner and run.record.overrides[-1] == f"seed={winner}"


# numbers


def test_a_gradient_that_is_not_finite_stops_a_run_whose_loss_is(home: Path) -> None:
    def before() -> None:
        import torch

        from diffusion_cli.objective import Objective

        class Poisoned(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, x: Any) -> Any:
                return x.clone()

            @staticmethod
            def backward(context: Any, gradient: Any) -> Any:
                return gradient * float("nan")

        calls, call = iter(range(10**6)), Objective.__call__
        Objective.__call__ = lambda *given: (Poisoned.apply if next(calls) > 60 else torch.clone)(
            call(*given)
        )

    # a weighted loss goes by autograd, in which the poison is
    end = Child([*LINE, "objective.weighting=min_snr"], home, before).wait()
    assert end.code == 1 and "diverged by step" in end.err and "gradient norm nan" in end.err
    run = run_of(home)
    last = run.checkpoints()[-1]
    assert f"the last good checkpoint is {last.relative_to(home)}" in end.err.replace(f"{home}/", "")
    assert all(value.isfinite().all() for value in newest(run)["state"]["net"].values())
    assert run.status == "failed" and "nan" not in run.metrics_file.read_text()


def test_half_a_last_line_is_left_out_of_the_curve(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss\n10,0.5\nten,0.4\n20,abc\n30,0.4\n40,0.")
    assert read_csv(file) == {"step": [10, 30], "loss": [0.5, 0.4]}
    assert "3 damaged rows" in caplog.text
    file.write_bytes(b"\0\xff" * 50)
    assert read_csv(file) == {}


# files that are gone, times that are wrong


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("finished") / "home"
    home.mkdir()
    end = Child([*LINE, "n=8", "checkpoint.keep=1", "optimizer.lr=0.05"], home).wait()
    assert end.code == 0, end.err
    return home


def answer(home: Path, *line: str) -> End:
    return Child([*line, "run=run", "hydra.run.dir=out"], home).wait()


def test_the_best_checkpoint_is_kept_and_meant_by_its_name(finished: Path) -> None:
    run = RunDirectory(finished / "run")
    best = newest(run)["best"]
    assert run.checkpoint_file(best["step"]) in run.checkpoints() and len(run.checkpoints()) <= 2
    assert chosen(run, "best")["state"]["step"] == best["step"]
    assert chosen(run, "last")["state"]["step"] == chosen(run, 120)["state"]["step"] == 120
    with pytest.raises(UserError, match=r"^weights=7: .* no such file; choose from .*, best, last$"):
        chosen(run, 7)
    run.checkpoint_file(best["step"]).rename(run.path / "away")
    try:
        assert chosen(run, "best")["state"]["step"] == newest(run)["state"]["step"]
    finally:
        (run.path / "away").rename(run.checkpoint_file(best["step"]))


def test_weights_are_exported(finished: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    end = Child(["sample", "run=run", "n=4", "export=true", "hydra.run.dir=exported"], finished).wait()
    assert end.code == 0, end.err
    file = finished / "exported" / "weights.safetensors"
    weights, truth = load_file(file), newest(RunDirectory(finished / "run"))["state"]["ema"]
    assert weights.keys() == truth.keys() and all((weights[key] == truth[key]).all() for key in truth)
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    assert about["step"] == "120" and about["digest"] == checkpoint.digest(dict(truth))


@pytest.mark.parametrize(("gone", "figure"), [("metrics.csv", "loss")])
def test_a_figure_of_files_that_are_gone_is_refused_in_one_line(
    finished: Path, gone: str, figure: str
) -> None:
    path = finished / "run" / gone
    if path.exists():
        path.rename(path.with_name("elsewhere"))
    try:
        end = answer(finished, "plot", f"figure={figure}")
    finally:
        if path.with_name("elsewhere").exists():
            path.with_name("elsewhere").rename(path)
    assert end.code == 2 and end.err.startswith("error: ") and end.err.count("\n") == 1


def test_a_clock_that_goes_backwards(home: Path) -> None:
    """The newest checkpoint is that of the highest step, whatever its date; no duration is negative."""

    def before() -> None:
        now = iter(range(2_000_000_000, 0, -1000))
        time.time = lambda: float(next(now))
        slowly()

    child = Child(LINE, home, before)
    until(lambda: len(run_of(home).checkpoints()) == 2, child)
    child.kill(signal.SIGTERM)
    assert child.wait().code == 128 + signal.SIGTERM
    for age, file in enumerate(run_of(home).checkpoints()):
        os.utime(file, (2_000_000_000 - age, 2_000_000_000 - age))
    assert newest(run_of(home))["state"]["step"] == run_of(home).summary["steps"]
    assert run_of(home).summary["seconds"] >= 0
