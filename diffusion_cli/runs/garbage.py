"""When Python looks for objects that only refer to each other.

Imports of torch and Hydra make some hundred thousand objects that stay. To look through them again and again takes a fifth of a
program's start, and once more at its end a tenth.
"""

from __future__ import annotations

import gc

_put_off = False


def put_off() -> None:
    """Not before `look_again`. For a process that is the program's own."""
    global _put_off
    _put_off = True
    gc.disable()


def look_again() -> None:
    """From now on where it was put off, and among the objects that are made from now on."""
    global _put_off
    if _put_off:
        _put_off = False
        gc.freeze()
        gc.enable()
