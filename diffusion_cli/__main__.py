"""The program `diffusion`. Nothing else is imported here, so that Ctrl-C is quiet from the start."""

from __future__ import annotations

import signal
import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command line (`sys.argv` without the program's name where `argv` is None); returns the exit code.

    0 done; 1 a run failed; 2 bad input, one line on stderr; 128 + n ended by signal n.

    Ctrl-C ends the process at once while no command takes signals: there is nothing to save. An exception instead would
    come in the middle of imports, of Hydra's composing and of callbacks, which lose it or turn it into one of their own.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:
        # not in the main thread: signals are not ours to take
        before = None
    try:
        from diffusion_cli.cli.program import run_line

        return run_line(argv)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
