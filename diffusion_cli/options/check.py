"""What a configuration may say: each key in its range, and no class that is not ours or the user's own.

Works on a plain nested dict and reads sources, so that bad input is refused before anything heavy is imported, and a
stranger's saved configuration can be judged before anything of it is resolved or built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from diffusion_cli.errors import UserError, in_group, suggestion
from diffusion_cli.options.groups import FIGURES, GROUPS, TRUST, group_of, homes
from diffusion_cli.options.keys import OF_RUNS, keys_of
from diffusion_cli.options.signature import MISSING, Argument, read
from diffusion_cli.ranges import Config, check_value

BIGGEST_CONFIG = 100_000  # nodes; a YAML "alias bomb" unfolds to billions
DEEPEST_CONFIG = 32
PLAIN_NAME = re.compile(r"[\w-]{1,100}")
DIRECTIVES = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}  # what Hydra's instantiate obeys
TARGET = "_target_"
OF_ALL = ("distill", "plot", "sample")  # commands whose keys together are all there are


def check_config(config: Config) -> None:
    """Refuse the first bad key of a whole configuration, in its own order: UserError.

    config: plain and resolved. Bad is a value out of its range, a key that its component does not have, and everything
    that would make Hydra's `instantiate` call something that is not ours (the object that a name leads to is judged
    again where it is built). Keys of a component whose source is not found are left to it.
    """
    _check_tree(config)
    keys = {name: entry for command in OF_ALL for name, entry in keys_of(command).items()}
    for name, value in config.items():
        if name in GROUPS:
            _check_component(name, name, value)
        elif name == FIGURES:
            if not isinstance(value, Mapping):
                reason = "holds figures by their names: figures.loss=null leaves one out, plots=false all"
                raise UserError(name, value, reason)
            for figure, node in value.items():
                _check_component(f"{name}.{figure}", "figure", node)
        elif name in keys:
            _check_entry(name, keys[name], value)


def check_complete(config: Config, command: str) -> None:
    """Refuse a configuration from which something that its command needs has been deleted: UserError."""
    groups = [group for group in GROUPS if group != "figure" or command == "plot"]
    for name in [*groups, *keys_of(command)]:
        entry = keys_of(command).get(name)
        if name not in config or (name in GROUPS and not isinstance(config[name], Mapping)):
            raise UserError(name, ..., "missing; it can be set, but not deleted")
        for key in entry if isinstance(entry, dict) else ():
            if key not in config[name]:
                raise UserError(f"{name}.{key}", ..., "missing; it can be set, but not deleted")


def arguments_of(group: str, target: str) -> dict[str, Argument] | None:
    """The arguments of a component that keys set; None where its source is not found."""
    signature = read(target)
    if signature is None:
        return None
    given = GROUPS[group].given
    found = {name: argument for name, argument in signature.arguments.items() if name not in given}
    for name, keys in OF_RUNS.items():
        if name in given and name in signature.arguments and (of_run := read(keys)) is not None:
            found |= of_run.arguments
    return found


def check_target(key: str, group: str, value: object) -> str:
    """What `_target_` of a group names, judged by its name alone, before anything is imported: UserError where it may not."""
    if not isinstance(value, str):
        raise UserError(key, value, "must be the name of a class")
    # No part may begin with "_": what a module keeps to itself, and `__globals__`, `__builtins__` and their like.
    plain = all(part.isidentifier() and not part.startswith("_") for part in value.split("."))
    if not (plain and value.startswith(tuple(f"{module}." for module in homes(group)))):
        reason = f"not one of ours ({homes(group)[0]}.*); {TRUST}=MODULE enables a module of your own"
        raise UserError(key, value, reason)
    return value


def not_a_component(key: str, group: str, target: str) -> UserError:
    """What only lies in a group's rooms, such as a function that writes or downloads, is none of its components."""
    reason = f"is not a component of {group}; a module of your own is enabled by {TRUST}=MODULE"
    return UserError(key, target, reason)


def _check_component(key: str, group: str, node: object) -> None:
    if node is None and key.startswith(f"{FIGURES}."):
        return  # this figure is left out
    if not isinstance(node, Mapping):
        raise UserError(key, node, f"holds further keys, not a value; choose an option: {group}=NAME")
    if node.get(TARGET) is None:
        raise UserError(f"{key}.{TARGET}", ..., "missing; choose an option of the group")
    target = check_target(f"{key}.{TARGET}", group, node[TARGET])
    arguments, signature = arguments_of(group, target), read(target)
    if arguments is None or signature is None:
        return
    if target.startswith("diffusion_cli.") and not (signature.is_class or GROUPS[group].functions):
        raise not_a_component(f"{key}.{TARGET}", group, target)
    for name, value in node.items():
        if name in arguments:
            _check_entry(f"{key}.{name}", arguments[name], value)
        elif name != TARGET and not signature.open:
            reason = f"is no option of {target.rpartition('.')[2]}{suggestion(name, arguments)}"
            raise UserError(f"{key}.{name}", value, reason)


def _check_entry(key: str, entry: Argument | dict[str, Argument], value: object) -> None:
    """One key, or a section of keys."""
    if isinstance(entry, Argument):
        if value == MISSING:
            raise UserError(key, MISSING, "a value is needed")
        with in_group(""):
            check_value(key, value, entry.range)
    elif not isinstance(value, Mapping):
        raise UserError(key, value, "holds further keys, not a value", [f"{key}.{name}" for name in entry])
    else:
        for name, item in value.items():
            if name not in entry:
                raise UserError(f"{key}.{name}", item, f"no such key{suggestion(name, entry, f'{key}.')}")
            _check_entry(f"{key}.{name}", entry[name], item)


def _check_tree(config: Config) -> None:
    """Refuse what is too large or too deep, what is no name of a key, and orders to call something."""
    for count, (path, value) in enumerate(_walk(config)):
        key = ".".join(path)
        if count > BIGGEST_CONFIG:
            raise UserError(path[0], ..., "too large for a configuration")
        names_a_file = len(path) == 1 or (len(path) == 2 and path[0] == FIGURES)
        if names_a_file and not PLAIN_NAME.fullmatch(path[-1]):
            raise UserError(key, ..., "no name of a key: letters, digits, _ and - only")
        if path[-1] in DIRECTIVES - {TARGET}:
            raise UserError(key, value, "not allowed in a configuration")
        if path[-1] == TARGET and group_of(path[:-1]) is None:
            raise UserError(key, value, "a class is not named here, but by its group", GROUPS)


def _walk(
    node: Mapping[str, object] | Sequence[object], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    """(path, value) of every node below `node`, parents first, in order; list items under their index."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        path = (*above, str(key))
        yield path, value
        if isinstance(value, (Mapping, list, tuple)):
            if len(path) > DEEPEST_CONFIG:
                raise UserError(path[0], ..., "too deep for a configuration")
            yield from _walk(value, path)
