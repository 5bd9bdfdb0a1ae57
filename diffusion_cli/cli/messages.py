"""What Hydra and OmegaConf say in many lines, as the one `UserError` that it means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from diffusion_cli.cli.plain import tree
from diffusion_cli.errors import UserError, suggestion
from diffusion_cli.options.files import names_of, signature_of
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.ranges import Config

NOT_AN_OVERRIDE = "must be written KEY=VALUE"
SWEEP = "several values need -m (--multirun)"

# How messages of Hydra begin -> what they mean; the groups are: the override (or key) to blame, and what else matters.
MEANINGS: tuple[tuple[str, str], ...] = (
    (r"Ambiguous value for argument '(.*?)'", SWEEP + "; a list is written KEY=[VALUE,VALUE]"),
    (r"Sweep parameters '(.*?)' requires --multirun", SWEEP),
    (r"Sweeping over Hydra's configuration is not supported : '(.*?)'", "a key of hydra takes one value"),
    (r"Could not append to config\. An item is already at '.*?'\.\s*Either remove \+ prefix: '(.*?)'",
     "is there already; write it so, without +"),
    (r"Could not delete from config\. '(.*?)' does not exist", "nothing there that ~ could delete"),
    (r"Could not delete from config\. The value of '(.*?)' is (.*) and not", "not deleted, since its value is {1}"),
    (r"Could not delete '(.*?)'\. No match in the defaults list", "no such choice that ~ could delete"),
    (r"(?:In '.*?': )?Could not override '(.*?)'\. No match in the defaults list", "no group of this command"),
    (r"(?:In '.*?': )?Could not override '(.*?)'\.\s*Did you mean to override (?:one of )?(.*?)\?",
     "no group of this command; did you mean {1}?"),
    (r"force-add of config groups is not supported: '(.*?)'", "++ is for keys, not for groups"),
    (r"Override (.*?) looks like a config group override, but config group '(.*?)' does not exist", "no such group"),
    (r"Multiple values for (.*?)\. ", "chosen twice"),
    (r"(\S+) appears more than once in the final defaults list", "chosen twice; write it without +"),
    (r"You must specify '(.*?)'", "a choice is needed"),
    (r"Additional config directory '(.*?)' not found", "no such directory"),
    (r"Invalid plugin '(.*?)'", "no plugin of Hydra"),
    (r"Unknown plugin class : '(.*?)'", "no plugin of Hydra"),
)  # fmt: skip


def is_config_error(error: BaseException) -> bool:
    """Whether an exception that escaped from a running job speaks of its configuration."""
    return isinstance(error, (HydraException, OmegaConfBaseException))


def explain(error: Exception, overrides: Sequence[str] = ()) -> UserError:
    """The `UserError` that an exception of Hydra, OmegaConf, YAML or the file system amounts to.

    `overrides` are the words of the command line, in which to find the one to blame. Whatever is not recognised
    becomes its own first line.
    """
    for cause in _causes(error):
        if isinstance(cause, UserError):
            return cause
    if isinstance(error, OverrideParseException):
        return _unparsable(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    for cause in _causes(error):
        if isinstance(cause, OmegaConfBaseException):
            return _of_omegaconf(cause, str(error), overrides)
        if isinstance(cause, yaml.MarkedYAMLError):
            mark = cause.problem_mark
            place = f"{mark.name}, line {mark.line + 1}" if mark else "a file of options"
            return UserError(place, ..., f"not YAML: {cause.problem or cause.context}")
        if isinstance(cause, OSError) and cause.errno is not None:
            # without a name it is what Hydra writes into a new directory
            place = str(cause.filename or "hydra.run.dir")
            return UserError(place, ..., cause.strerror or type(cause).__name__)
    if "Config group override" in str(error):
        for word in overrides:
            if word.startswith("="):
                return UserError(word, ..., f"{NOT_AN_OVERRIDE}, without spaces")
            if _is_nameless(word):
                return UserError(word, ..., "the name of an option is needed")
    return _by_text(error, overrides)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _unparsable(error: OverrideParseException) -> UserError:
    word = error.override
    if "=" not in word and not word.startswith("~"):
        return UserError(word, ..., NOT_AN_OVERRIDE + _meant(word))
    if word.endswith((",", "=")):
        return UserError(word, ..., "a space ends a word; write it without, as in seed=0,1")
    reason = " ".join(line.strip() for line in error.message.splitlines() if not line.startswith("See https"))
    reason = reason.removeprefix(f"Error parsing override '{word}'").replace(word, "").strip(" ^")
    if not reason or reason.startswith("LexerNoViableAlt"):
        reason = "not a valid value"
    return UserError(word, ..., f"{reason}; put quotes around special characters: KEY='\"VALUE\"'")


def _meant(word: str) -> str:
    """What a word alone may have been meant for: an option, by its name; or a key, with spaces around its `=`."""
    groups = [group for group in GROUPS if word in names_of(group)]
    if groups:
        return f"; did you mean {groups[0]}={word}?"
    return ", without spaces" if word in GROUPS else ""


def _missing_option(error: MissingConfigException) -> UserError:
    path = error.missing_cfg_file or ""
    group, _, option = path.rpartition("/")
    if group and error.options is not None:
        return UserError(group, option, "no such option", [o for o in error.options if not o.startswith("_")])
    if not path:
        return UserError("--config-path", ..., _first_line(error))
    if "primary config" in str(error):
        return UserError("--config-name", path, "no such configuration")
    return UserError(path, ..., "no such file of options")


def _of_omegaconf(error: OmegaConfBaseException, context: str, overrides: Sequence[str]) -> UserError:
    key, parent = str(error.full_key or error.key or ""), error.parent_node
    if isinstance(error, MissingMandatoryValue):
        return UserError(key, "???", "a value is needed")
    if isinstance(error, InterpolationResolutionError):
        value = tree(parent).get(str(error.key), ...) if isinstance(parent, DictConfig) else ...
        return UserError(key, value, _first_line(error))
    if isinstance(error, (ConfigAttributeError, ConfigKeyError)) and isinstance(parent, DictConfig):
        refused = re.match(r"Could not override '(.*?)'", context)
        if refused or "not in struct" in str(error):
            return _unknown_key(refused[1] if refused else key, parent, overrides)
    merging = re.match(r"Error merging override (.*)", context, re.DOTALL)
    if merging:
        return UserError(merging[1], ..., _first_line(error))
    return UserError(key, _value_of(key, overrides), _first_line(error))


def _unknown_key(key: str, parent: DictConfig, overrides: Sequence[str]) -> UserError:
    """`key` is not in the configuration: what is there at its place, and where a key of that name is."""
    above = str(parent._get_full_key(None))
    here = [name for name in map(str, parent) if name != "hydra" and name[0] != "_"]
    name = key.rpartition(".")[2]
    others = [
        option
        for option in (names_of(above) if above in GROUPS else ())
        if (signature := signature_of(above, option)) and name in signature.arguments
    ]
    elsewhere = [path for path in _paths(tree(parent._get_root())) if path.rpartition(".")[2] == name]
    if others:
        hint = f"; it is a key of {' and '.join(f'{above}={option}' for option in others)}"
    elif elsewhere:
        hint = f"; did you mean {elsewhere[0]}?"
    else:
        hint = suggestion(name, here, f"{above}." if above else "")
    return UserError(key, _value_of(key, overrides), "no such key" + hint)


def _paths(node: Config, prefix: str = "") -> Iterator[str]:
    """The keys of a configuration but for those of Hydra itself, parents first."""
    for name, value in node.items():
        path = f"{prefix}{name}"
        if path != "hydra":
            yield path
            if isinstance(value, dict):
                yield from _paths(value, f"{path}.")


def _value_of(key: str, overrides: Sequence[str]) -> object:
    """What the command line gives `key`, as it stands there; `...` where it gives nothing."""
    for word in reversed(overrides):
        name, equals, value = word.partition("=")
        if equals and name.lstrip("+~") == key:
            return value
    return ...


def _is_nameless(word: str) -> bool:
    """Whether an override has a value that is not a word, such as `dataset=3` or `dataset=null`."""
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    nameless = not isinstance(override.value(), (str, list, dict))
    return nameless and override.key_or_group in (*GROUPS, "experiment")


def _by_text(error: Exception, overrides: Sequence[str]) -> UserError:
    text = str(error).strip()
    for expression, meaning in MEANINGS:
        match = re.match(expression, text, re.DOTALL)
        if match:
            subject = match[1]
            if "Additional config directory" in text:
                return UserError("--config-dir", subject, meaning)
            options = re.findall(r"^\t(.+)$", text, re.MULTILINE) if "You must specify" in text else ()
            return UserError(subject, ..., meaning.format(*match.groups()), options)
    # our own keys have been judged by their ranges
    hydras = [word for word in overrides if word.lstrip("+~").startswith("hydra")]
    reason = _first_line(error) + (f" ({_first_line(error.__cause__)})" if error.__cause__ else "")
    return UserError(hydras[0] if len(hydras) == 1 else "", ..., reason)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
