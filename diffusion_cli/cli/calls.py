"""A command called from Python: composed, checked and recorded as one of a shell is, but its errors are exceptions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig

from diffusion_cli.cli import claim, gate
from diffusion_cli.cli.app import run_task
from diffusion_cli.cli.callback import refuse
from diffusion_cli.cli.messages import explain, is_config_error
from diffusion_cli.cli.plain import current, tree
from diffusion_cli.errors import ArgumentError, Passage, TakenError, UserError
from diffusion_cli.options.files import CONFIGS
from diffusion_cli.ranges import Config
from diffusion_cli.runs.session import Session


def compose(command: str, words: Sequence[str]) -> Config:
    """The configuration of a line, plain and checked; nothing is written. ArgumentError for what the line refuses."""
    with refusing(words), _hydra_of(command) as hydra:
        config = hydra.compose_config(command, [*words], RunMode.RUN)
        with current(config):
            return refuse(config)


Entering = Callable[[int | None, Path, str], contextlib.AbstractContextManager[Session]]


def perform(command: str, words: Sequence[str], entering: Entering) -> Path:
    """Does what a line says, in a directory of its own, which is returned. ArgumentError for what the line refuses.

    entering: called with the threads, the file of the log and its format; what the command is called in.
    """
    directory = Path()

    def task(config: DictConfig) -> None:
        nonlocal directory
        node = HydraConfig.get()
        directory = Path(node.runtime.output_dir)
        form = tree(node.job_logging)["formatters"]["simple"]["format"]
        with entering(config.threads, directory / f"{command}.log", form) as session:
            run_task(command, config, session._replace(lock=claim.held()))

    with refusing(words), _hydra_of(command) as hydra:
        hydra.run(command, task, [*words], with_log_configuration=False)
    return directory


@contextlib.contextmanager
def refusing(words: Sequence[str]) -> Iterator[None]:
    """Within, what a line is refused for leaves as ArgumentError, and then nothing of the line is left behind."""
    try:
        yield
    except (Passage, Exception) as caught:
        error = caught.error if isinstance(caught, Passage) else caught
        if is_config_error(error):
            error = explain(error, [*words])
        if isinstance(error, UserError | ArgumentError) and not isinstance(error, TakenError):
            claim.give_back()
        if isinstance(error, UserError):
            raise ArgumentError(error.key, error.value, error.reason, error.choices) from None
        raise error from error.__cause__
    finally:
        claim.keep()


@contextlib.contextmanager
def _hydra_of(command: str) -> Iterator[gate.hydra_module.Hydra]:
    """Hydra for one call, behind the gate, whatever use the program makes of Hydra itself."""
    job, base = JobRuntime.instance(), version.VersionBase.instance()
    hydra, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    before = base.version_base, job.get("name")
    GlobalHydra.instance().clear()
    try:
        with gate.closed(), initialize_config_dir(str(CONFIGS), command, version_base="1.3"):
            made = GlobalHydra.instance().hydra
            assert made is not None
            yield made
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydra, config
        base.version_base = before[0]
        job.set("name", before[1])
