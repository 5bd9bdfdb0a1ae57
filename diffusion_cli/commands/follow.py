"""What any process but the first does of a command: its part of the work, in silence."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_cli.commands import distill, train
from diffusion_cli.commands.lesson import Lesson
from diffusion_cli.commands.output import prepare_process
from diffusion_cli.ranges import Config

if TYPE_CHECKING:
    from diffusion_cli.runs.group import Processes


def main() -> int:
    """From the start of such a process to its end; returns the exit code, which process 0 gives."""
    from diffusion_cli.runs.meeting import take_part

    # what goes wrong is said by process 0
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    return take_part(work)


def work(group: Processes, config: Config, trains: bool) -> None:
    from diffusion_cli.components import of

    prepare_process(config["threads"])
    lesson = distill.lesson_of(config) if "calls" in config else Lesson()
    components = replace(lesson.components(config) if trains else of(config), group=group)
    group.ready(config, components.device, components.dataset.fingerprint)
    if trains:
        train.follow(components, group, lesson)
    else:
        group.serve(components)
