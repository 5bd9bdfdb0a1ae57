"""What a process of scripts/reproduce does: one command line after the other, and the figure put in its place."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import time
from multiprocessing import connection, parent_process
from pathlib import Path

from listing import Figure, Run
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from provenance import stamped

LARGEST = 150_000  # bytes of a PNG that is kept in the repository
MADE = ".made"  # in a run's directory: what `state` was when its command had ended
SUFFIXES = (".png", ".gif", ".html", ".md")


def begin(logs: str) -> None:
    """Everything that is printed goes to a log of this process, which does not outlive its parent."""
    Path(logs).mkdir(parents=True, exist_ok=True)
    handle = os.open(Path(logs) / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """A training whose parent was killed saves and stops, so that the next call finds it free."""
    connection.wait([parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
    os._exit(1)


def do(item: Run | Figure, report: str) -> tuple[str, float, str | None]:
    """What was done, in how many seconds, and the error in one line, if any."""
    started = time.monotonic()
    if isinstance(item, Run) and finished(item):
        return "is there", time.monotonic() - started, None
    if isinstance(item, Figure):
        shutil.rmtree(item.directory, ignore_errors=True)
    code, error = run(list(item.words))
    if code == 0 and isinstance(item, Run):
        Path(item.directory, MADE).write_text(state(item))
    if code == 0 and isinstance(item, Figure):
        try:
            place(item, Path(report))
        except FileNotFoundError:
            code, error = 1, "nothing was drawn"
    seconds = time.monotonic() - started
    if code:
        return "failed", seconds, error or f"exit code {code}"
    return "drawn" if isinstance(item, Figure) else "trained", seconds, None


def finished(run: Run) -> bool:
    """Whether this very command line has ended well, and what it made is still there."""
    made = Path(run.directory, MADE)
    return made.is_file() and made.read_text() == state(run)


def state(run: Run) -> str:
    """The words of the command line, and which directories of finished runs it has: its own, or those of a sweep's jobs."""
    from diffusion_cli.runs.directory import FINISHED, RunDirectory

    folders = [Path(run.directory), *sorted(Path(run.directory).glob("*/"))]
    done = [folder.name for folder in folders if RunDirectory(folder).status == FINISHED]
    return "\n".join([*run.words, *done])


def run(words: list[str]) -> tuple[int, str]:
    """The exit code of one command line, and its line of error."""
    from diffusion_cli.__main__ import main

    print(f"\n$ diffusion {' '.join(words)}", flush=True)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(words)
    print(said.getvalue(), file=sys.stderr, flush=True)
    lines = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    return code, lines[-1] if lines else ""


def place(figure: Figure, report: Path) -> None:
    """Puts what was drawn under the figure's name into the report's folder."""
    drawn = [file for file in sorted(Path(figure.directory).iterdir()) if file.suffix in SUFFIXES]
    if not any(file.suffix != ".md" for file in drawn):
        raise FileNotFoundError(figure.directory)
    report.mkdir(parents=True, exist_ok=True)
    for file in drawn:
        target = report / f"{figure.name}{file.suffix}"
        part = target.with_name(f".{target.name}.part")
        if file.suffix == ".png":
            part.write_bytes(stamped(shrunk(file), figure.provenance))
        else:
            shutil.copyfile(file, part)
        part.replace(target)


def shrunk(file: Path) -> bytes:
    """A PNG with fewer colours, and then fewer pixels, until it is small enough; its texts stay."""
    data = file.read_bytes()
    if len(data) <= LARGEST:
        return data
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        texts = PngInfo()
        for key, value in image.text.items():
            texts.add_text(key, value)
        full, dpi = image.convert("RGB"), image.info.get("dpi", (200, 200))
    for scale, colours in ((1, 256), (1, 128), (0.8, 128), (0.65, 96), (0.5, 64), (0.35, 64)):
        size = (round(full.width * scale), round(full.height * scale))
        small = full if scale == 1 else full.resize(size, Image.Resampling.LANCZOS)
        packed = io.BytesIO()
        small.quantize(colours, dither=Image.Dither.NONE).save(
            packed, "PNG", optimize=True, pnginfo=texts, dpi=tuple(d * scale for d in dpi)
        )
        if packed.tell() <= LARGEST:
            break
    return packed.getvalue()
