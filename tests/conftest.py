"""What holds for every test: few threads, no display, none of the developer's own settings."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Set before anything imports torch, and inherited by the commands that tests start. One thread: tests compare
# bits; and on tensors this small more threads are slower, and disturb whatever else runs on the machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for name in ("DIFFUSION_CLI_TRUST", "DIFFUSION_CLI_DATA", "HYDRA_FULL_ERROR"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or fills the developer's cache."""
    os.environ["DIFFUSION_CLI_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def composed() -> Iterator[Callable[..., dict[str, Any]]]:
    """composed("train", "dataset=square"): the configuration of that line, plain, as a command is given it."""
    from hydra._internal.utils import create_config_search_path
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime
    from hydra.types import RunMode

    from diffusion_cli.cli.gate import Guarded
    from diffusion_cli.cli.plain import job_part
    from diffusion_cli.options.files import CONFIGS

    before = Singleton.get_state()
    loader = Guarded(create_config_search_path(str(CONFIGS)))

    @functools.cache
    def once(*line: str) -> dict[str, Any]:
        JobRuntime.instance().set("name", line[0])
        return job_part(loader.load_configuration(line[0], [*line[1:]], RunMode.RUN))

    yield lambda *line: copy.deepcopy(once(*line))
    Singleton.set_state(before)
