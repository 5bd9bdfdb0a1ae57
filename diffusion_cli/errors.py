"""What can go wrong in a way that a user should read in one line. Imports nothing heavy."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

LONGEST_VALUE = 200  # characters of a value that are shown in a message


class UserError(Exception):
    """A value that the user gave is bad: one line `KEY=VALUE: reason; choose from a, b`, exit code 2.

    `key` is the dotted key as the user would type it ("" where none is to blame), `value` the bad value, or `...`
    (Ellipsis) where there is none to show, and `choices` what would have been right: the one closest to the value
    becomes a "did you mean".

    >>> print(UserError("dataset", "circel", "no such option", ["circle", "square"]))
    dataset=circel: no such option; did you mean circle? choose from circle, square
    """

    def __init__(self, key: str, value: object, reason: str, choices: Iterable[object] = ()) -> None:
        self.key, self.value, self.reason, self.choices = key, value, reason, tuple(choices)
        super().__init__(key, value, reason, self.choices)  # the arguments: what pickling keeps

    def __str__(self) -> str:
        subject = self.key if self.value is ... else f"{self.key}={shown(self.value)}"
        return one_line((subject and f"{subject}: ") + self.reason + suggestion(self.value, self.choices))


class ArgumentError(ValueError):
    """An argument of the library is bad: one line `ARGUMENT=VALUE: reason; choose from a, b`.

    The command line shows it as a UserError of the key that the argument is set by.
    """

    def __init__(self, argument: str, value: object, reason: str, choices: Iterable[object] = ()) -> None:
        self.argument, self.value, self.reason, self.choices = argument, value, reason, tuple(choices)
        super().__init__(argument, value, reason, self.choices)  # the arguments: what pickling keeps

    def __str__(self) -> str:
        return str(self.of(""))

    def of(self, group: str) -> UserError:
        """The same as an error of the key GROUP.ARGUMENT."""
        key = ".".join(part for part in (group, self.argument) if part)
        return UserError(key, self.value, self.reason, self.choices)


@contextmanager
def in_group(group: str) -> Iterator[None]:
    """Within, an ArgumentError leaves as the UserError of the key GROUP.ARGUMENT."""
    try:
        yield
    except ArgumentError as error:
        raise error.of(group) from error


class Passage(BaseException):
    """Carries `error` through Hydra, which swallows an `Exception` of a callback, with a warning, and goes on."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class TakenError(UserError):
    """Another process works in the directory: nothing in it is touched."""


class RunFailed(Exception):
    """A run that started and could not finish, for a reason that is not the user's command line: exit code 1."""


class TimeIsUp(Exception):
    """The time that a run was given is over; it has been saved."""


class Interrupted(BaseException):
    """A signal ended the run, after it was saved: exit code 128 + signum (130 for SIGINT, 143 for SIGTERM).

    Not an `Exception`, so that neither a launcher nor a callback takes it for one failed job and starts the next.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = int(signum)

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signum).name}"


def shown(value: object) -> str:
    """A config value as one would type it: null, true, [1,2]; long ones are cut."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, (list, tuple)):
        text = "[" + ",".join(map(shown, value)) + "]"
    elif isinstance(value, dict):
        text = "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    else:
        text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def suggestion(value: object, choices: Iterable[object], prefix: str = "") -> str:
    """`; did you mean circle? choose from circle, square`, or nothing where there are no choices.

    prefix: of all of them, which makes none more like another.
    """
    names = [shown(choice) for choice in choices]
    if not names:
        return ""
    near = closest(shown(value), names)
    hint = f"did you mean {prefix}{near}? " if near else ""
    return f"; {hint}choose from " + ", ".join(prefix + name for name in names)


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` was probably meant to be, in whatever case, or None.

    >>> closest("Stepz", ["seed", "steps"])
    'steps'
    """
    lower = {name.lower(): name for name in names}
    matches = get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return lower[matches[0]] if matches else None


def one_line(text: str) -> str:
    """The text with every run of white space (line ends too) made one blank, and no control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
