"""The only place where a `_target_` becomes code, and the gate on what may be built."""

from __future__ import annotations

import inspect
import pkgutil
from typing import Any

from diffusion_cli.errors import UserError
from diffusion_cli.options.schema import ROOMS, check_target, trusted_modules

FUNCTIONS = ("schedule", "figure")  # the groups whose options are functions; elsewhere a class is built


def build(config: dict[str, Any], group: str, **given: Any) -> Any:
    """The object described by config[group]: its `_target_` called with the node's other keys and with `given`.

    Only classes and functions defined in the rooms of that group (schema.ROOMS), or in modules that the user trusts
    by DIFFUSION_CLI_TRUST, are called; what counts is where the resolved object was defined, not how it was spelt.
    Nothing else is even imported, and of ours no function but those of FUNCTIONS: what reads, writes or downloads
    within a room is none of its components. Raises UserError.
    """
    node = dict(config[group])
    target = node.pop("_target_", None)
    check_target(f"{group}._target_", group, target)
    try:
        made = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{group}._target_", target, f"cannot be imported ({error})") from None
    home = getattr(made, "__module__", None)
    homes = (*(f"diffusion_cli.{room}" for room in ROOMS[group]), *trusted_modules())
    if (
        not callable(made)
        or not isinstance(home, str)
        or not f"{home}.".startswith(tuple(f"{h}." for h in homes))
        or not (inspect.isclass(made) or group in FUNCTIONS or not home.startswith("diffusion_cli."))
    ):
        raise UserError(f"{group}._target_", target, f"is not a component of {group}; a module of your own is enabled "
                        "by DIFFUSION_CLI_TRUST=MODULE")  # fmt: skip
    unknown = [key for key in node if key not in inspect.signature(made).parameters]
    if unknown and not _takes_any(made):
        choices = [key for key in inspect.signature(made).parameters if key not in given]
        raise UserError(
            f"{group}.{unknown[0]}", node[unknown[0]], f"is no option of {target.split('.')[-1]}", choices
        )
    try:
        inspect.signature(made).bind(**node, **given)
    except TypeError as error:
        raise UserError(f"{group}._target_", target, str(error)) from None
    return made(**node, **given)


def _takes_any(made: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(made).parameters.values())
