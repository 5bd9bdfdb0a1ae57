"""The keys of the commands that need no configuration: runs and list. Read as those in keys.py are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from diffusion_cli.ranges import Config, Count


class Line(NamedTuple):
    """What a line of one of these commands says.

    keys: every key of the command, with its value or default.
    others: NAME=VALUE of no key of the command.
    folders: of options, from --config-dir.
    """

    keys: Config
    others: dict[str, str]
    folders: list[Path]


@dataclass(kw_only=True)
class Runs:
    """List, show and compare runs, find the best of them, put them on a page, and clean up.

    action: what to do, the first word after `runs`. list: a line for each. show: all of one. compare: what differs.
        best: of each dataset. clean: removes failed and interrupted ones, and asks first. report: a page of all, for a browser.
    runs: the words after that: directories of runs, or latest; null: all below `root`.
    root: the folder that is searched for runs.
    command: the runs of this command; any: of all.
    status: finished, running, failed, interrupted, several with commas, or any; null: any, for clean failed,interrupted.
    age: time since the run last wrote anything, as LOW..HIGH: ..2d is the last two days, 30d.. what is older (s m h d w).
    size: of the files of a run, as LOW..HIGH: 10MB.. is at least that (B kB MB GB).
    sort: age (the newest first), size, a key, or a number such as metrics.sliced_w2 (the best first); -NAME: reversed.
    by: for best: the number that decides; null: the first metric.
    limit: lines of list, or runs on the page of report, at most; null: all.
    file: for report: the HTML file that is written; null: runs.html in `root`.
    yes: true: clean removes without a question.
    """

    action: Literal["list", "show", "compare", "best", "clean", "report"] = "list"
    runs: Sequence[str] | None = None
    root: str = "outputs"
    command: Literal["train", "distill", "sample", "evaluate", "plot", "doctor", "any"] = "train"
    status: str | None = None
    age: str | None = None
    size: str | None = None
    sort: str = "age"
    by: str | None = None
    limit: Count | None = None
    file: str | None = None
    yes: bool = False


@dataclass(kw_only=True)
class List:
    """List the options of a group, a line each.

    group: the first word after `list`; null: every group, in one line.
    """

    group: (
        Literal[
            "datasets",
            "models",
            "schedules",
            "parameterizations",
            "objectives",
            "optimizers",
            "samplers",
            "guidances",
            "evaluations",
            "loggers",
            "figures",
            "experiments",
        ]
        | None
    ) = None


# The keys that words without `=` are for, in order; the last takes all that are left, if it is a list.
POSITIONAL = {"runs": ("action", "runs"), "list": ("group",)}
