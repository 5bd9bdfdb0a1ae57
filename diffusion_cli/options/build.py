"""The only place where a `_target_` becomes code, and the gate on what may be built."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from diffusion_cli.errors import UserError, in_group
from diffusion_cli.options.check import TARGET, check_target, not_a_component
from diffusion_cli.options.groups import GROUPS, homes
from diffusion_cli.ranges import Config


def build_component(config: Config, group: str, **given: object) -> Any:
    """The object described by config[group]: its `_target_` called with the node's other keys and with `given`.

    Raises UserError, naming the key to which an argument is set.
    """
    if group not in config:
        raise UserError(group, ..., "missing; choose an option of the group")
    node = dict(config[group])
    made = component_of(group, node.pop(TARGET, None))
    try:
        inspect.signature(made).bind(**node, **given)
    except TypeError as error:
        raise UserError(f"{group}.{TARGET}", config[group][TARGET], str(error)) from None
    with in_group(group):
        return made(**node, **given)


def component_of(group: str, named: object) -> Callable[..., Any]:
    """The class or function of that dotted name, if it is a component of the group.

    Only classes and functions defined in the homes of that group (groups.homes) are called; what counts is where the
    resolved object was defined, not how it was spelt. Nothing else is even imported, and of ours no function but of
    groups of functions: what reads, writes or downloads within a room is none of its components.
    """
    key = f"{group}.{TARGET}"
    target = check_target(key, group, named)
    try:
        made = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(key, target, f"cannot be imported ({error})") from None
    home = inspect.getmodule(made)
    name = f"{home.__name__}." if home else ""
    of_ours = name.startswith("diffusion_cli.")
    if (
        not callable(made)
        or not name.startswith(tuple(f"{module}." for module in homes(group)))
        or (of_ours and not (inspect.isclass(made) or GROUPS[group].functions))
    ):
        raise not_a_component(key, group, target)
    return made
