"""Configs and files of a stranger: none may have anything executed, read the environment, write outside the run's
directory, hang, or end in a traceback."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials.attacks import ATTACKS, Attack
from trials.child import HANG, Child

DEFAULT = len(ATTACKS)
QUICK = 60.0  # seconds in which a refusal must come, on a busy machine
STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "ctypes.dlopen",
    "socket.connect",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def watched(home: Path, report: Path, places: list[str]) -> Callable[[], None]:
    """A function that makes the process it is called in write into `report` what no command may do: start a program,
    import the stranger's module, or write, rename or remove a file outside the folders `places` of `home`."""

    def inside(path: object) -> bool:
        if isinstance(path, int) or path is None:
            return True
        full = os.path.realpath(os.fsdecode(path))
        return full.startswith(("/dev/", *(str(home / name) for name in places))) or full == str(home)

    def note(text: str) -> None:
        handle = os.open(report, os.O_WRONLY | os.O_APPEND)
        os.write(handle, (text + "\n").encode())
        os.close(handle)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[0] != str(report) and isinstance(arguments[2], int):
            if arguments[2] & WRITES and not inside(arguments[0]):
                note(f"writes {arguments[0]}")
        elif event in STARTS and arguments[0] != "fc-list":  # matplotlib asks for the system's fonts by it
            note(f"{event} {arguments[0]!r}")
        elif event == "import" and str(arguments[0]).split(".")[0] == "evil":
            note("imports evil")
        elif event in (
            "os.rename",
            "os.link",
            "os.symlink",
            "os.remove",
            "os.mkdir",
            "os.truncate",
            "shutil.rmtree",
        ):
            if not all(map(inside, arguments[:2] if event in ("os.rename", "os.link") else arguments[:1])):
                note(f"{event} {arguments[0]}")

    def before() -> None:
        os.environ["SECRET"] = "the-secret"
        os.environ["MPLCONFIGDIR"] = str(home / "outputs")
        sys.path.insert(0, str(home))  # where evil.py lies, as under `python -m` in a stranger's folder
        sys.addaudithook(hook)

    return before


def attempt(attack: Attack, home: Path) -> tuple[list[str], float]:
    """What the attack broke, and the seconds that its refusal took."""
    home.mkdir()
    report = home.parent / f"{home.name}.report"
    report.touch()
    victim = home / "victim"
    victim.mkdir()
    (victim / "precious.txt").write_text("precious\n")
    (home / "evil.py").write_text(EVIL.format(marker=victim / "executed"))
    line = attack.prepare(home)
    places = [
        "outputs",
        *(word.partition("=")[2] for word in line if word.startswith(("hydra.run.dir=", "hydra.sweep"))),
    ]
    end = Child(line, home, watched(home, report, places), memory=8 * 2**30).wait(QUICK)
    broken = report.read_text().splitlines()
    if end.code == HANG:
        broken.append("hangs")
    elif end.code not in attack.codes:
        broken.append(f"exit {end.code}, not {attack.codes}: {(end.err or end.out)[-300:]}")
    if "Traceback" in end.err + end.out:
        broken.append("traceback: " + end.err[-500:])
    if end.code == 2 and (not end.err.splitlines()[-1].startswith("error: ") or attack.says not in end.err):
        broken.append(f"says {end.err[-300:]!r}, not {attack.says!r}")
    if "the-secret" in end.out + end.err:
        broken.append("tells the environment")
    if sorted(path.name for path in victim.rglob("*")) != ["precious.txt"]:
        broken.append("wrote into the victim's folder")
    elif (victim / "precious.txt").read_text() != "precious\n":
        broken.append("changed the victim's file")
    return broken, end.seconds


EVIL = """
open({marker!r}, "w").write("executed")
def run(*args, **kwargs):
    open({marker!r}, "w").write("executed")
class Model(Exception):
    pass
"""


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """seed is of no use here: all attacks are made, in their order, the first n of them."""
    broken, slowest = [], ("", 0.0)
    started = time.monotonic()
    for number, attack in enumerate(ATTACKS[:n]):
        found, seconds = attempt(attack, folder / f"attack-{number}")
        broken += [f"{attack.name}: {line}" for line in found]
        slowest = max(slowest, (attack.name, round(seconds, 1)), key=lambda pair: pair[1])
    return {
        "attacks": len(ATTACKS[:n]),
        "slowest": slowest,
        "seconds": round(time.monotonic() - started, 1),
        "broken": broken,
    }
