"""The command line: what is said, the exit code, and what is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from diffusion_cli import __version__
from diffusion_cli.__main__ import main
from diffusion_cli.cli import claim, flags
from diffusion_cli.errors import Interrupted, RunFailed, TakenError, UserError, closest
from diffusion_cli.options import help
from diffusion_cli.options.keys import COMPOSED, keys_of
from diffusion_cli.runs.directory import RunDirectory

ROOT = Path(__file__).parents[1]
EXACT = {
    "distill": ["run=exact"],
    "sample": ["run=exact"],
    "evaluate": ["run=exact"],
    "doctor": ["run=exact"],
    "plot": ["run=exact", "figure=schedules"],
}
STAMP = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]
Task = Callable[[dict[str, Any]], Any]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> Outcome:
        capfd.readouterr()
        code = main(list(argv))
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts another task in the place of training; what Hydra and we do around it stays."""

    def put(task: Task, check: Callable[[dict[str, Any], str | None], None] = lambda *_: None) -> None:
        module = types.ModuleType("diffusion_cli.commands.train")
        module.main = lambda config, run, session: task(config)  # type: ignore[attr-defined]
        module.check = check  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    put(lambda config: None)
    return put


def raising(error: BaseException) -> Task:
    def task(config: dict[str, Any]) -> None:
        raise error

    return task


def left() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def written(folder: str | Path) -> dict[Path, tuple[bytes, int]]:
    """What a start writes of its configuration: bytes and date of each file."""
    files = [
        path for path in Path(folder).rglob("*") if path.name == "config.json" or path.parent.name == ".hydra"
    ]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# What is said without a command.


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_usage(cli: Cli, argv: tuple[str, ...]) -> None:
    code, out, err = cli(*argv)
    assert (code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in flags.COMMANDS) and "examples" in out


@pytest.mark.parametrize("argv", [("--version",), ("train", "--version")])
def test_version(cli: Cli, argv: tuple[str, ...]) -> None:
    assert cli(*argv) == (0, f"diffusion {__version__}\n", "")


@pytest.mark.parametrize("name", flags.COMMANDS)
def test_the_help_of_a_command_has_its_groups_and_its_keys_and_no_others(cli: Cli, name: str) -> None:
    code, out, err = cli(name, "--help")
    assert (code, err) == (0, "") and out.startswith(f"diffusion {name}: ")
    rows = re.findall(r"^  (\w[\w.]*)(?: |$)", out, re.MULTILINE)
    keys = [key for key, _ in help.flat_keys(name)]
    assert [row for row in rows if row != "diffusion"] == [*help.CHOSEN[name], *keys]
    assert max(map(len, out.splitlines())) <= 120
    assert left() == []


@pytest.mark.parametrize(
    "argv", ["--help train", "train -h", "train seed=abc --help", "-m train --help seed=1,2"]
)
def test_help_answers_wherever_it_stands_and_whatever_else_is_said(cli: Cli, argv: str) -> None:
    assert cli(*argv.split()) == cli("train", "--help")


def test_the_help_of_options_has_their_keys_with_the_values_that_the_file_sets(cli: Cli) -> None:
    code, out, err = cli("train", "schedule=loglinear_wide", "--help", "sampler=dpmpp")
    assert (code, err) == (0, "")
    schedule, sampler = out.split("\n\nsampler=dpmpp: ")
    assert schedule.startswith("schedule=loglinear_wide: loglinear for images")
    assert re.search(r"^  schedule\.sigma_max +.*\n? *.*default 80\.0\]$", schedule, re.MULTILINE)
    assert re.findall(r"^  (\S+)", sampler, re.MULTILINE) == [
        key for key, _ in help.keys_of_option("sampler", "dpmpp")
    ]
    assert cli("train", "--help", "dataset=circel").err.startswith(
        "error: dataset=circel: no such option; did you mean circle? choose from 25gaussians, 8gaussians, "
    )
    assert cli("plot", "--help", "figure=loss").out.startswith("figure=loss: ")
    # of another command's group, or of a key, there is no help of its own
    assert cli("sample", "--help", "dataset=circle", "n=3") == cli("sample", "--help")


def test_help_knows_the_options_of_other_folders(cli: Cli) -> None:
    option = Path("mine/sampler/slow.yaml")
    option.parent.mkdir(parents=True)
    option.write_text("# ddim in many steps\n_target_: diffusion_cli.sampler.DDIM\nsteps: 500\n")
    for flag in (("--config-dir", "mine"), ("--config-dir=mine",)):
        out = cli("train", *flag, "--help", "sampler=slow").out
        assert out.startswith("sampler=slow: ddim in many steps\n") and "default 500" in out
        assert re.search(r"^  sampler .*(\n {8}.*)*slow", cli("train", *flag, "--help").out, re.MULTILINE)


@pytest.mark.parametrize("name", COMPOSED)
def test_a_configuration_is_shown_whole_and_leaves_nothing(cli: Cli, name: str) -> None:
    line = [name, "--cfg", "job", "seed=7", *EXACT.get(name, ())]
    code, out, err = cli(*line)
    assert (code, err, left()) == (0, "", [])
    shown = yaml.safe_load(out)
    decay = 0.995 if name == "distill" else 0.99
    assert shown["seed"] == 7 and shown["schedule"]["T"] == 50 and shown["ema"] == {"decay": decay}
    assert set(keys_of(name)) <= set(shown)


def test_a_part_of_a_configuration_is_shown(cli: Cli) -> None:
    code, out, _ = cli("train", "--cfg", "job", "--resolve", "--package", "optimizer")
    assert code == 0 and yaml.safe_load(out)["_target_"] == "diffusion_cli.optimizer.Optimizer"
    assert cli("train", "--cfg", "job", "--package", "nope").code == 2
    assert left() == []


# Sorting of flags.


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["train", "a=1", "-m", "b=1,2"], (["--multirun"], ["train", "a=1", "b=1,2"])),
        (["-m", "train"], (["--multirun"], ["train"])),
        (["train", "-c", "job", "a=1"], (["--cfg=job"], ["train", "a=1"])),
        (["train", "a=1", "--cfg=all", "b=-1"], (["--cfg=all"], ["train", "a=1", "b=-1"])),
        (["train", "-i", "a=1"], (["--info=all"], ["train", "a=1"])),
        (["train", "-i", "searchpath", "a=1"], (["--info=searchpath"], ["train", "a=1"])),
        (
            ["train", "a=1", "-cd", "my dir", "-cn", "x"],
            (["--config-dir=my dir", "--config-name=x"], ["train", "a=1"]),
        ),
    ],
)
def test_flags_may_stand_anywhere(argv: list[str], expected: tuple[list[str], list[str]]) -> None:
    assert flags.sort(argv) == expected


# Bad input.

BAD = [
    (
        "trian",
        "trian: no such command; did you mean train? choose from train, distill, sample, evaluate, plot, doctor, runs, list",
    ),
    (
        "dataset=circle",
        "dataset=circle: a command comes first; choose from train, distill, sample, evaluate, plot, doctor, runs, list",
    ),
    ("train --steps=20", "--steps: no such flag; a key has no dashes: steps=20"),
    ("train --dataset circle", "--dataset: no such flag; a key has no dashes: dataset=circle"),
    ("train --steps", "--steps: no such flag; a key has no dashes: steps=VALUE"),
    (
        "-m",
        "--multirun: a command is needed; choose from train, distill, sample, evaluate, plot, doctor, runs, list",
    ),
    ("train --multirn", "--multirn: no such flag; did you mean --multirun?"),
    ("train --cfg jobs", "--cfg=jobs: no such choice; did you mean job? choose from job, hydra, all"),
    ("train --cfg", "--cfg: a value is needed; choose from job, hydra, all"),
    ("train --config-dir -m", "--config-dir: a value is needed"),
    ("train -m --cfg job", "--multirun --cfg: only one of these at a time"),
    ("train --resolve", "--resolve: goes with --cfg job or --help only"),
    (
        "train --experimental-rerun x.pkl",
        "--experimental-rerun: not offered: it runs whatever the given pickle holds",
    ),
    ("train --config-dir /nowhere", "--config-dir=/nowhere: no such directory"),
    ("train --config-name nope", "--config-name=nope: no such configuration"),
    ("train --config-path /nowhere", "--config-path: Primary config directory not found."),
    ("train dataset=circel", "dataset=circel: no such option; did you mean circle? choose from *"),
    ("train dataset=3", "dataset=3: the name of an option is needed"),
    ("train dataset=null", "dataset=null: the name of an option is needed"),
    ("train dataset=", "dataset=: no such option; choose from *"),
    ("train dataset=[circle,square]", "dataset=[circle,square]: takes one option, not a list"),
    ("train hydra/launcher=joblip", "hydra/launcher=joblip: no such option; *"),
    ("train stepz=3", "stepz=3: no such key; did you mean steps? choose from *"),
    ("train optimizer.lrr=1", "optimizer.lrr=1: no such key; did you mean optimizer.lr? choose from *"),
    ("train lr=1", "lr=1: no such key; did you mean optimizer.lr?"),
    ("train datasett=circle", "datasett=circle: no such key; did you mean dataset? choose from *"),
    ("train seed.x=1", "seed.x=1: no such key"),
    ("train seed", "seed: must be written KEY=VALUE"),
    ("train =3", "=3: must be written KEY=VALUE, without spaces"),
    ("train circle", "circle: must be written KEY=VALUE; did you mean dataset=circle?"),
    ("train dataset = circle", "dataset: must be written KEY=VALUE, without spaces"),
    ("train seed=0, 1", "seed=0,: a space ends a word; write it without, as in seed=0,1"),
    ("train sampler=DDIM", "sampler=DDIM: no such option; did you mean ddim? choose from *"),
    ("train guidance.w=2", "guidance.w=2: no such key; it is a key of guidance=auto and guidance=cfg"),
    ("train --dataset circle", "--dataset: no such flag; a key has no dashes: dataset=circle"),
    (
        "train figures=null",
        "figures=null: holds figures by their names: figures.loss=null leaves one out, plots=false all",
    ),
    ("train seed=[1", "seed=[1: *"),
    ("train seed=a=b", "seed=a=b: *"),
    ("train é=3", "é=3: *"),
    ("train seed=", "seed=: must be a whole number >= 0"),
    ("train seed=abc", "seed=abc: must be a whole number >= 0"),
    ("train seed=-1", "seed=-1: must be a whole number >= 0"),
    ("train seed=true", "seed=true: must be a whole number >= 0"),
    ("train steps=0", "steps=0: must be a whole number >= 1, or null"),
    ("train steps=1e3", "steps=1000.0: must be a whole number >= 1, or null"),
    ("train optimizer.lr=-1", "optimizer.lr=-1: must be a number > 0"),
    ("train optimizer.lr=nan", "optimizer.lr=nan: must be a number > 0"),
    ("train schedule.T=0", "schedule.T=0: must be a whole number in 1..1000000"),
    (
        "train device=gpu",
        "device=gpu: must be one of the choices; did you mean cpu? choose from auto, cpu, cuda, cuda:N, mps",
    ),
    ("train n=???", "n=???: a value is needed"),
    ("train ema=3", "ema=3: holds further keys, not a value; choose from ema.decay"),
    ("train seed=1,2", "seed=1,2: several values need -m (--multirun); a list is written KEY=[VALUE,VALUE]"),
    ("train dataset=circle,square", "dataset=circle,square: several values need -m (--multirun); *"),
    ("train seed=range(1,3)", "seed=range(1,3): several values need -m (--multirun)"),
    ("train +seed=1", "seed=1: is there already; write it so, without +"),
    ("train +dataset=circle", "dataset: chosen twice; write it without +"),
    ("train ++dataset=circle", "++dataset=circle: ++ is for keys, not for groups"),
    ("train dataset@x=circle", "dataset@x: no group of this command; did you mean dataset?"),
    ("train datasets@x=circle", "datasets@x=circle: no such group"),
    ("train +figure@figures.loss=samples", "figure@figures.loss: chosen twice"),
    ("train ~model=set", "model=set: no such choice that ~ could delete"),
    ("train -m hydra.verbose=true,false", "hydra.verbose=true,false: a key of hydra takes one value"),
    ("train ~nothing", "nothing: nothing there that ~ could delete"),
    ("train ~seed", "seed: missing; it can be set, but not deleted"),
    ("train ~seed=4", "seed: not deleted, since its value is 0"),
    ("train ~dataset", "dataset: missing; it can be set, but not deleted"),
    ("train seed=${nothing}", "seed=${nothing}: Interpolation key 'nothing' not found"),
    ("train seed=${oc.env:NO_SUCH_VARIABLE}", "seed=${oc.env:NO_SUCH_VARIABLE}: *"),
    ("train model._target_=os.system", "model._target_=os.system: not one of ours *"),
    ("train model._target_=torch.load", "model._target_=torch.load: not one of ours *"),
    (
        "train model._target_=diffusion_cli.runs.checkpoint.torch.load",
        "model._target_=diffusion_cli.runs.checkpoint.torch.load: not *",
    ),
    ("train +model._args_=[1]", "model._args_=[1]: not allowed in a configuration"),
    (
        "train +a.b._target_=os.system",
        "a.b._target_=os.system: a class is not named here, but by its group; *",
    ),
    ("train hydra.run.dir=/proc/a/b", "hydra.run.dir=/proc/a/b: No such file or directory"),
    ("train hydra.run.dir=/dev/null", "hydra.run.dir=/dev/null: not a directory"),
    ("train hydra.run.dir=", "hydra.run.dir=: must be a directory"),
    ("train hydra.run.dir=${nothing}", "hydra.run.dir=${nothing}: Interpolation key 'nothing' not found"),
    ("train hydra.verbose=3", "hydra.verbose=3: *"),
    (
        "train hydra.job_logging.root.level=FOO",
        "hydra.job_logging.root.level=FOO: Unable to configure root logger *",
    ),
    ("train hydra.mode=FOO", "hydra.mode=FOO: *"),
    ("train -m hydra.sweep.dir=/proc/a seed=1,2", "hydra.sweep.dir=/proc/a: No such file or directory"),
    ("train -m steps=0 seed=1,2", "steps=0: must be a whole number >= 1, or null"),
    ("train -m dataset=circle,circel", "dataset=circel: no such option; did you mean circle? choose from *"),
    ("train -m stepz=1,2", "stepz=1,2: no such key; did you mean steps? choose from *"),
    ("train -m hydra.launcher._target_=os.system seed=1,2", "os.system: no plugin of Hydra"),
    (
        "train -m hydra.launcher._target_=hydra._internal.core_plugins.x.Y seed=1,2",
        "hydra._internal.core_plugins.x.Y: no plugin of Hydra",
    ),
    ("plot run=exact", "figure: a choice is needed; choose from *"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(cli: Cli, train: Any, line: str, message: str) -> None:
    code, _, err = cli(*line.split(" "))
    assert code == 2
    expected = f"error: {message}\n"
    if message.endswith("*"):
        assert err.startswith(expected[:-2]) and err.count("\n") == 1 and len(err) > len(expected) - 1
    else:
        assert err == expected
    assert left() == []


def test_bad_yaml_of_the_user_is_named_with_its_line(cli: Cli, train: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "dataset"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("a: 1\nb: [1\nc: 2\n")
    code, _, err = cli("train", "--config-dir", "mine", "dataset=broken")
    assert code == 2 and err.count("\n") == 1 and "broken.yaml, line 3: not YAML" in err


def test_a_group_of_the_users_own_is_none_of_the_command_s(cli: Cli, train: Any) -> None:
    Path("mine/colour").mkdir(parents=True)
    Path("mine/colour/red.yaml").write_text("x: 1\n")
    for word in ("colour=red", "~colour"):
        code, _, err = cli("train", "--config-dir", "mine", word)
        assert code == 2 and err.startswith("error: colour: no ") and err.count("\n") == 1


def test_a_traceback_on_request_only(cli: Cli, train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in cli("train", "seed=abc").err
    assert "HYDRA_FULL_ERROR" not in os.environ
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    code, _, err = cli("train", "seed=abc")
    assert code == 2 and "Traceback" in err and err.endswith("error: seed=abc: must be a whole number >= 0\n")


# Directories.


def test_a_run_gets_a_directory_of_its_own(cli: Cli, train: Any) -> None:
    for _ in range(3):
        assert cli("train").code == 0
    runs = list(Path("outputs/train/circle").iterdir())
    assert len(runs) == 3 and all(re.fullmatch(STAMP + r"(-[12])?", run.name) for run in runs)
    for run in runs:
        assert {path.name for path in run.iterdir()} == {".hydra", "config.json", "train.log"}
        saved = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text())["hydra"]
        assert Path(saved["runtime"]["output_dir"]).resolve() == run.resolve()


def test_a_directory_is_claimed_once(tmp_path: Path) -> None:
    wanted = str(tmp_path / "a" / "stamp")
    assert [claim.claim_directory("k", wanted, True) for _ in range(3)] == [
        wanted,
        f"{wanted}-1",
        f"{wanted}-2",
    ]
    assert claim.claim_directory("k", wanted, False) == wanted
    claim.give_back()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_other_things_is_not_given_back(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").touch()
    for name in ("old", "new/a"):
        folder = Path(claim.claim_directory("k", str(tmp_path / name), False))
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "config.yaml").touch()
    (tmp_path / "new" / "a" / "samples.npz").touch()
    claim.give_back()
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["notes.txt"]
    assert {path.name for path in (tmp_path / "new" / "a").iterdir()} == {".hydra", "samples.npz"}


def test_a_second_run_in_one_directory_is_refused(cli: Cli, train: Any) -> None:
    assert cli("train", "hydra.run.dir=here").code == 0
    before = left()
    code, _, err = cli("train", "hydra.run.dir=here", "seed=1")
    assert code == 2 and err.startswith("error: hydra.run.dir=here: a run is already there; resume=true ")
    assert left() == before and yaml.safe_load(Path("here/.hydra/config.yaml").read_text())["seed"] == 0
    assert cli("train", "hydra.run.dir=here", "resume=true").code == 0
    assert cli("train", "hydra.run.dir=new", "resume=true").code == 0


def test_a_refusal_inside_the_job_leaves_nothing(cli: Cli, train: Any) -> None:
    train(raising(UserError("device", "cuda", "there is none here", ["cpu"])))
    Path("existing").mkdir()
    for directory in ((), ("hydra.run.dir=a/b",), ("hydra.run.dir=existing",)):
        assert cli("train", *directory) == (
            2,
            "",
            "error: device=cuda: there is none here; choose from cpu\n",
        )
        assert left() == ["existing"]


@pytest.mark.parametrize("task", [lambda config: None, raising(UserError("model.width", 7, "begun with 128"))],
                         ids=["done", "refused"])  # fmt: skip
def test_a_resume_writes_nothing_of_the_start_again(cli: Cli, train: Any, task: Task) -> None:
    """Neither Hydra's files nor config.json: not their bytes, and not even the same bytes once more."""
    assert cli("train", "hydra.run.dir=here", "seed=1", "steps=3").code == 0
    before = written("here")
    assert {path.name for path in before} == {"config.yaml", "hydra.yaml", "overrides.yaml", "config.json"}
    train(task)
    assert cli("train", "hydra.run.dir=here", "seed=1", "steps=5", "resume=true").code in (0, 2)
    assert written("here") == before


def test_a_resume_in_a_sweep_writes_nothing_of_the_start_again(cli: Cli, train: Any) -> None:
    assert cli("train", "-m", "seed=0,1", "hydra.sweep.dir=here").code == 0
    before = written("here")
    assert cli("train", "-m", "seed=0,1", "hydra.sweep.dir=here", "resume=true").code == 0
    assert len(before) == 8 and written("here") == before


def test_a_directory_that_another_process_works_in_is_left_as_it_is(cli: Cli, train: Any) -> None:
    """What this process would have written or given back there is the owner's."""

    def task(config: dict[str, Any]) -> None:
        RunDirectory("here").lock()

    Path("here").mkdir()
    train(task)
    # the owner has begun and written nothing yet but its lock
    with RunDirectory("here").lock():
        owned = {path.name: path.read_bytes() for path in Path("here").iterdir()}
        code, _, err = cli("train", "hydra.run.dir=here", "resume=true")
        assert code == 2 and err.startswith("error: hydra.run.dir=here: is being trained by process ")
        assert {name: Path("here", name).read_bytes() for name in owned} == owned
    assert str(TakenError("a", "b", "c")) == "a=b: c"


# The ends of a job.


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RunFailed("diverged by step 3"), 1, "error: diverged by step 3\n"),
        (ZeroDivisionError("by zero\nor so"), 1,
         "error: ZeroDivisionError: by zero (HYDRA_FULL_ERROR=1 shows the traceback)\n"),
        (OSError(28, "No space left on device"), 1,
         "error: OSError: [Errno 28] No space left on device (HYDRA_FULL_ERROR=1 shows the traceback)\n"),
        (Interrupted(signal.SIGTERM), 143, "interrupted by SIGTERM\n"),
        (Interrupted(signal.SIGUSR1), 128 + signal.SIGUSR1, "interrupted by SIGUSR1\n"),
        (KeyboardInterrupt(), 130, "interrupted by SIGINT\n"),
    ],
)  # fmt: skip
def test_the_exit_code_of_a_job(cli: Cli, train: Any, error: BaseException, code: int, message: str) -> None:
    train(raising(error))
    assert cli("train", "hydra.run.dir=here") == (code, "", message)
    log = Path("here/train.log").read_text()
    assert ("ZeroDivisionError: by zero" in log and "Traceback" in log) == isinstance(
        error, ZeroDivisionError
    )


def test_the_check_of_a_command_comes_before_its_directory(cli: Cli, train: Any) -> None:
    def check(config: dict[str, Any], directory: str | None) -> None:
        print(directory, config["steps"], left())
        raise UserError("steps", config["steps"], "not today")

    train(lambda config: print("ran"), check)
    assert cli("train", "hydra.run.dir=here", "steps=3") == (2, "here 3 []\n", "error: steps=3: not today\n")
    assert left() == []


def test_a_sweep_goes_on_after_a_failed_job(cli: Cli, train: Any) -> None:
    def task(config: dict[str, Any]) -> None:
        print("job", config["seed"])
        if config["seed"] == 1:
            raise ZeroDivisionError("boom")

    train(task)
    code, out, err = cli("train", "seed=0,1,2", "-m")
    assert code == 1 and re.findall(r"^job (\d)$", out, re.MULTILINE) == ["0", "1", "2"]
    assert err.splitlines()[-1] == "error: 1 of 3 jobs failed: job 1: ZeroDivisionError: boom"
    assert re.search(r"^1 +1 +failed", out, re.MULTILINE) and "job 1 (seed=1): ZeroDivisionError: boom" in out
    (sweep,) = Path("outputs/multirun").iterdir()
    assert re.fullmatch(STAMP, sweep.name)
    assert "Traceback" in (sweep / "1" / "train.log").read_text()
    assert all((sweep / job / ".hydra" / "config.yaml").is_file() for job in "012")


def test_a_bad_value_in_a_sweep_is_refused_before_any_job(cli: Cli, train: Any) -> None:
    train(lambda config: print("job", config["steps"]))
    assert cli("train", "-m", "steps=3,0,5") == (
        2,
        "",
        "error: steps=0: must be a whole number >= 1, or null\n",
    )
    assert left() == []


def test_a_signal_ends_a_sweep(cli: Cli, train: Any) -> None:
    def task(config: dict[str, Any]) -> None:
        print("job", config["seed"])
        raise Interrupted(signal.SIGTERM)

    train(task)
    code, out, _ = cli("train", "-m", "seed=0,1")
    assert code == 143 and re.findall(r"^job (\d)$", out, re.MULTILINE) == ["0"]


def test_two_sweeps_of_one_moment_keep_apart(cli: Cli, train: Any) -> None:
    for _ in range(2):
        assert cli("train", "-m", "seed=0,1", r"hydra.sweep.dir='it\'s ${now:%Y}'").code == 0
    year = next(Path().iterdir()).name[5:9]
    assert {path.name for path in Path().iterdir()} == {f"it's {year}", f"it's {year}-1"}
    assert all((folder / "1" / "train.log").is_file() for folder in Path().iterdir())


# As a process.

WITHOUT_TORCH = """
import sys
for name in ("torch", "numpy", "matplotlib", "scipy", "pandas"):
    sys.modules[name] = None  # to import it is an ImportError
from diffusion_cli.__main__ import main
codes = [main(line.split()) for line in sys.argv[1].splitlines()]
print("codes", *codes)
"""


def process(*argv: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_torch_is_not_imported_before_it_is_needed(tmp_path: Path) -> None:
    lines = [
        "--version",
        "--help",
        "nope",
        *(f"{command} --help" for command in flags.COMMANDS),
    ]
    lines += ["train --cfg job", "train stepz=3", "train seed=abc", "train dataset=circel", "train seed=1,2"]
    lines += ["train dataset=mnist --help", "-h plot figure=loss", "train --help dataset=nope"]
    lines += ["sample run=exact sampler.steps=-1", "plot run=exact figure=sweep sweep=nowhere"]
    lines += ["sample run=nowhere", "train -m steps=0 seed=1,2", "train model._target_=torch.load"]
    done = process(sys.executable, "-c", WITHOUT_TORCH, "\n".join(lines), cwd=tmp_path)
    expected = [2 if ("--" not in line and "-h" not in line) or "=nope" in line else 0 for line in lines]
    assert done.stdout.splitlines()[-1] == " ".join(["codes", *map(str, expected)]), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -m diffusion_cli train --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = process("bash", "-c", script, cwd=tmp_path)
    assert done.stderr == "" and done.stdout.splitlines()[1] in ("0", "141")


@pytest.mark.skipif(os.name != "posix", reason="bash")
def test_completion_in_bash(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "diffusion"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom diffusion_cli.__main__ import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    script = r"""
    eval "$(diffusion -sc install=bash)"
    complete -p diffusion > /dev/null || exit 9
    try() {
        COMP_LINE="$1" COMP_POINT=${#1} COMP_WORDS=($1) COMPREPLY=()
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); [[ "$1" == *" " ]] && COMP_CWORD=${#COMP_WORDS[@]}
        hydra_bash_completion
        echo "${COMPREPLY[@]}"
    }
    try "diffusion "
    try "diffusion ev"
    try "diffusion train optimizer=ada"
    try "diffusion train seed=1,2 -m optimizer.warm"
    try "diffusion sample sampler=dd"
    try "diffusion train --multi"
    try "diffusion nope x"
    try "diffusion sample run=outputs/train/"
    DIFFUSION_CLI_TRUST=spiral diffusion train --config-dir mine --help dataset=spiral | grep turns
    """
    run, mine = tmp_path / "outputs" / "train" / "circle" / "a", tmp_path / "mine" / "dataset"
    for folder in (run, mine):
        folder.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    # a module beside the user, as `python -m` would find it
    (mine / "spiral.yaml").write_text("_target_: spiral.Spiral\n")
    (tmp_path / "spiral.py").write_text(
        'class Spiral:\n    """Spiral.\n\n    turns: of it.\n    """\n\n    def __init__(self, turns: float = 2.0): ...\n'
    )
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = process("bash", "-c", script, cwd=tmp_path, PATH=path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "train distill sample evaluate plot doctor runs list",
        "evaluate",
        "optimizer=adam optimizer=adamw",
        "optimizer.warmup=",
        "sampler=ddim sampler=ddpm sampler=ddpm_analytic sampler=ddpm_posterior",
        "--multirun",
        "",
        "run=outputs/train/circle/a",
        "  dataset.turns  of it. [a number; default 2.0]",
    ]


def test_errors_survive_a_process_boundary() -> None:
    """A launcher sends what a job raises from one process to another."""
    import pickle

    for error in (UserError("a", None, "why", ["b"]), RunFailed("x"), Interrupted(15)):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and str(copy) == str(error)


def test_a_message_is_one_printable_line() -> None:
    error = UserError("k", "a\nb\x1b[31m" + "c" * 999, "because\nof this")
    assert str(error).isprintable() and len(str(error)) < 300
    assert str(UserError("", ..., "only this")) == "only this"
    assert closest("stepz", ["seed", "steps"]) == "steps" and closest("zzz", ["seed"]) is None


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("module", ["diffusion_cli.cli.program", "diffusion_cli.errors", "yaml"])
def test_an_interrupt_amid_the_first_imports_is_quiet(tmp_path: Path, module: str) -> None:
    """As soon as anything is imported for the command line: the process ends by the signal, which a shell calls 130."""
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Now:\n def find_spec(self, name, *rest):\n"
        f"  if name == {module!r}:\n   os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Now())\nfrom diffusion_cli.__main__ import main\nsys.exit(main())\n"
    )
    done = process(sys.executable, "-c", code, "list", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
