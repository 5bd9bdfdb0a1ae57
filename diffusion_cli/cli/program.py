"""The command line: which command, what goes wrong in one line, and the exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from types import NoneType

from diffusion_cli import __version__
from diffusion_cli.cli import flags as line
from diffusion_cli.cli.before_torch import set_before_torch
from diffusion_cli.cli.streams import tolerant
from diffusion_cli.errors import ArgumentError, Interrupted, Passage, RunFailed, TakenError, UserError
from diffusion_cli.options.browsing import POSITIONAL
from diffusion_cli.options.groups import trusted_modules
from diffusion_cli.runs import garbage
from diffusion_cli.runs.processes import member

USAGE = """\
usage: diffusion COMMAND [group=option] [key=value] [flags]        (or: python -m diffusion_cli COMMAND ...)

commands
  train      fit a network to a dataset; leaves a run directory with checkpoints, samples, figures and metrics
  distill    teach a student to sample in one call, or a few, what a run samples in many
  sample     draw new samples from a run
  evaluate   measure the samples of a run
  plot       draw one figure
  doctor     say why the samples of a run look wrong, and what to change
  runs       list, show and compare runs, find the best, put them on a page, clean up
  list       what there is to choose from: datasets, models, samplers, figures, experiments, ...

examples
  diffusion train dataset=circle                              everything has a default
  diffusion train dataset=dinohead steps=2000 optimizer.lr=1e-3
  diffusion train dataset=circle hydra.run.dir=runs/mine resume=true
  diffusion train -m dataset=circle,square seed=0,1,2         a sweep: six runs
  diffusion sample run=latest n=5000 sampler=ddim sampler.steps=10
  diffusion evaluate run=runs/mine
  diffusion distill run=runs/mine calls=1
  diffusion plot figure=loss
  diffusion doctor run=latest
  diffusion runs sort=metrics.sliced_w2 dataset=circle

flags
  COMMAND --help          its groups and keys; with dataset=mnist or the like, the keys of that option
  COMMAND ... --cfg job   the configuration that would be used
  -m, --multirun          sweep over comma-separated values
  --config-dir DIR        your own options beside ours
  --version               the version; -h, --help: this page
  eval "$(diffusion -sc install=bash)"     tab completion
"""
PIPE_CLOSED = 141  # what a shell reports for a program that SIGPIPE ended


def run_line(argv: list[str] | None = None) -> int:
    """Runs one command line, with streams that may fail; see `main` in diffusion_cli/__main__.py."""
    set_before_torch(os.environ)
    if argv is None:
        garbage.put_off()
    _find_modules_here()
    if member().rank > 0:
        from diffusion_cli.commands import follow

        return follow.main()
    with tolerant() as (stdout, _):
        code = _run(argv)
        sys.stdout.flush()
        if isinstance(stdout.error, BrokenPipeError):
            # whoever read our output (`| head`) has gone
            return PIPE_CLOSED
        if stdout.error is not None:
            lost = getattr(stdout.error, "strerror", None) or stdout.error
            said = f"stdout cannot be written ({lost}); what the command leaves in files is whole"
            print(said, file=sys.stderr)
        return code


def _run(argv: list[str] | None) -> int:
    asked = os.environ.get("HYDRA_FULL_ERROR")
    program = sys.argv
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and leaves message and exit code to us
    words: list[str] = []
    try:
        flags, words = line.sort(list(program[1:] if argv is None else argv))
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" and words[:1] == ["train"]:
            # torchrun has started all anew after a failure
            words += [] if any(word.startswith("resume=") for word in words) else ["resume=true"]
        _dispatch(flags, words)
        return _settle(0)
    except SystemExit as ended:
        return _settle(_code(ended))
    # KeyboardInterrupt, Interrupted and what the callback raises are no Exceptions
    except BaseException as error:
        return _settle(_report(error, words[1:], show=asked == "1"))
    finally:
        sys.argv = program
        if asked is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = asked


def _find_modules_here() -> None:
    """The console script finds the user's own modules in the working directory, as `python -m` does; only where the user
    has named some to be trusted."""
    here = os.getcwd()
    if trusted_modules() and not {"", here} & {*sys.path}:
        sys.path.insert(0, here)


def _dispatch(flags: list[str], words: list[str]) -> None:
    if "--version" in flags:
        print(f"diffusion {__version__}")
        return
    if "--help" in flags and words:
        _print_help(flags, words)
        return
    if "--shell-completion" in flags:
        command = _completed_command(words)
        if command is None:
            return
        words = [word for word in words if word not in line.COMMANDS]
    elif not words and "--hydra-help" in flags:
        command = line.COMMANDS[0]
    elif not words and not [flag for flag in flags if flag != "--help"]:
        print(USAGE, end="")
        return
    elif not words:
        raise UserError(flags[0], ..., "a command is needed; choose from " + ", ".join(line.COMMANDS))
    else:
        command, words = line.split_command(words)
    if command in POSITIONAL:
        from diffusion_cli.cli.words import run

        run(command, flags, words)
        return
    sys.argv = ["diffusion", *flags, *words]
    importlib.import_module(f"diffusion_cli.cli.entries.{command}").main()


def _print_help(flags: list[str], words: list[str]) -> None:
    """The help of a command, or of the options that its words choose."""
    from diffusion_cli.options.help import CHOSEN, help_of

    command, words = line.split_command(words)
    pairs = (word.partition("=") for word in words)
    chosen = {group: option for group, _, option in pairs if group in CHOSEN[command] and option}
    folders = [Path(flag.partition("=")[2]) for flag in flags if flag.startswith("--config-dir=")]
    print(help_of(command, chosen, folders))


def _completed_command(words: list[str]) -> str | None:
    if any(word.startswith("query=") for word in words):
        from diffusion_cli.cli.completion import first_word

        return first_word()
    return line.COMMANDS[0]  # installing is the same for all


def _code(ended: SystemExit) -> int:
    """Hydra's own exit codes: 0 after help, 1 for a --package that is not there (its only use of it)."""
    if ended.code == 1:
        return 2
    return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def _report(error: BaseException, overrides: list[str], show: bool) -> int:
    """Say in one line on stderr what went wrong; returns the exit code."""
    if isinstance(error, Passage):
        error = error.error
    if show:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted(signal.SIGINT)
    if isinstance(error, Interrupted):
        print(error, file=sys.stderr)
        return 128 + error.signum
    if isinstance(error, TakenError):
        _claims("keep")
    if isinstance(error, ArgumentError):
        error = error.of("")
    code = 2
    if isinstance(error, RunFailed) or not isinstance(error, Exception):
        code = 1
    elif not isinstance(error, UserError):
        code, error = _explained(error, overrides)
    unexpected = code == 1 and not show and not isinstance(error.__cause__, (NoneType, UserError, RunFailed))
    hint = " (HYDRA_FULL_ERROR=1 shows the traceback)" if unexpected else ""
    print(f"error: {error}{hint}", file=sys.stderr)
    return code


def _explained(error: Exception, overrides: list[str]) -> tuple[int, Exception]:
    """Before a job runs, whatever Hydra raises comes from what the user typed or from a file of options; where Hydra
    was not even reached (a package is missing or broken), it is a failure of ours."""
    if "hydra" not in sys.modules or isinstance(error, (ImportError, SyntaxError)):
        return 1, RunFailed(f"{type(error).__name__}: {error}")
    from diffusion_cli.cli.messages import explain

    return 2, explain(error, overrides)


def _settle(code: int) -> int:
    """A command line that was refused leaves no directory behind."""
    _claims("give_back" if code == 2 else "keep")
    if member().size > 1:
        from diffusion_cli.runs.meeting import dismiss

        dismiss(code)
    return code


def _claims(what: str) -> None:
    """Calls a function of the module of claims, where anything was claimed."""
    claims = sys.modules.get("diffusion_cli.cli.claim")
    if claims is not None:
        getattr(claims, what)()
