"""What may be said of Hydra itself: its `hydra` node names no class or function but Hydra's own, its plugins' and Python's plain
log handlers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diffusion_cli.errors import UserError
from diffusion_cli.options.groups import TRUST, trusted_modules
from diffusion_cli.ranges import Config

OURS = {"checked": {"_target_": "diffusion_cli.cli.callback.Checked"}}  # as configs/hydra/ours.yaml has it
PLAIN_LOGGING = {"logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter",
                 "logging.handlers.RotatingFileHandler", "colorlog.ColoredFormatter"}  # fmt: skip
STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
SEARCHES = ("optuna.samplers.", "optuna.pruners.")  # what a sweeper's own options may name
RUNS_CONFIG = ".hydra"
FIRST_START = "${first_start:}"  # as configs/hydra/ours.yaml has it


def check_node(node: Config) -> None:
    """Refuse a `hydra` node (unresolved) by which Hydra would call or import what is neither its own nor ours."""
    if (node.get("callbacks") or {}) not in (OURS, {}):
        key, value = next(
            ((k, v) for k, v in leaves_of(node["callbacks"], "hydra.callbacks") if "checked" not in k),
            ("hydra.callbacks", node["callbacks"]),
        )
        raise UserError(key, value, "no callbacks but our own are called")
    for name in ("job_logging", "hydra_logging"):
        for key, value in leaves_of(node.get(name), f"hydra.{name}"):
            _check_logging(key, value)
    for name in ("launcher", "sweeper"):
        for key, value in leaves_of(node.get(name), f"hydra.{name}"):
            if key.rpartition(".")[2] in ("_target_", "custom_search_space") and value is not None:
                _check_target(key, value, direct=key == f"hydra.{name}._target_")
    job = node.get("job") or {}
    for key, value in leaves_of(job.get("env_set"), "hydra.job.env_set"):
        if key.startswith("hydra.job.env_set.DIFFUSION_CLI"):
            raise UserError(key, value, f"is set in the environment alone; export {TRUST}=MODULE")
    subdir = node.get("output_subdir", RUNS_CONFIG)
    if subdir not in (RUNS_CONFIG, FIRST_START):
        raise UserError("hydra.output_subdir", subdir, f"must be {RUNS_CONFIG}")
    for key, value, what in (
        ("hydra.job.name", job.get("name"), r"[\w.-]+"),
        ("hydra.sweep.subdir", (node.get("sweep") or {}).get("subdir"), r"(?!/)[^\0]+"),
    ):
        if value is not None and (
            not re.fullmatch(what, str(value)) or ".." in re.split(r"[/\\]", str(value))
        ):
            raise UserError(key, value, "must be a plain name, which stays in the run's directory")


def _check_logging(key: str, value: object) -> None:
    name, text = key.rpartition(".")[2], str(value)
    if name in ("()", "class") and text not in PLAIN_LOGGING:
        raise UserError(key, value, "not a plain log handler", sorted(PLAIN_LOGGING))
    if "://" in text and text not in STREAMS and name != "filename":
        raise UserError(key, value, "not a stream", sorted(STREAMS))
    if "${" in text and name != "filename":
        raise UserError(key, value, "takes its value as it stands, not from elsewhere")


def _check_target(key: str, value: object, direct: bool) -> None:
    """direct: Hydra itself builds it, and nothing but its plugins. Below that a plugin builds whatever it is given."""
    if not isinstance(value, str) or "${" in value:
        raise UserError(key, value, "must be the name of a class")
    if direct or value.startswith(tuple(f"{module}." for module in trusted_modules())):
        return
    if not value.startswith(SEARCHES) or not re.fullmatch(r"\w+\.\w+\.[A-Z]\w*", value):
        reason = f"not a part of the sweeper ({SEARCHES[0]}*); {TRUST}=MODULE enables your own"
        raise UserError(key, value, reason)


def leaves_of(node: object, key: str) -> Iterator[tuple[str, object]]:
    """Dotted key and value of all that is neither a dict nor a list."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves_of(value, f"{key}.{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves_of(value, f"{key}.{index}")
    else:
        yield key, node
