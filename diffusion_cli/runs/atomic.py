"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from diffusion_cli.ranges import Facts

BLOCK = 4096  # bytes that the smallest file takes on the disk
LARGEST = 2**20  # bytes of a file of ours that is read whole; none was ever a hundredth of it


@contextmanager
def replacing(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what the block writes there takes the name `path` when it ends well.

    After an error nothing is left and the old file stands; an OSError names `path`. durable: also survives a power cut
    (fsync of file and directory, about 12 ms), for checkpoints. The folder is made, but not those above it: where a run's
    directory was removed, none that is half a run comes into being.
    """
    path = Path(path)
    # The suffix stays last: matplotlib and numpy choose their format by it.
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(exist_ok=True)
        yield part
        if durable:
            _sync(part)
        os.replace(part, path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part), part):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        # what cannot be removed, either, is swept up by the next start
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def overwrite(path: Path, content: Mapping[str, object]) -> bool:
    """Writes JSON over a file that is there, in one call and within the block that it has on the disk; false where that
    is not possible. Not atomic where the power fails, but a full disk does not prevent it."""
    text = json.dumps(content, indent=2).encode()
    try:
        handle = os.open(path, os.O_WRONLY)
    except OSError:
        return False
    try:
        size = os.fstat(handle).st_size
        if len(text) >= max(size, BLOCK):
            return False
        # white space after a value is JSON, too
        return os.pwrite(handle, text.ljust(size) + b"\n", 0) > len(text)
    except OSError:
        return False
    finally:
        os.close(handle)


def bytes_of(path: Path, largest: int) -> bytes:
    """The content of a file that may be a stranger's. OSError, or ValueError with a reason that follows the file's name, where
    it is none, or has more bytes than `largest`."""
    if not path.is_file() and path.exists():
        # a pipe would be waited for without end
        raise ValueError("is no ordinary file")
    if path.stat().st_size > largest:
        raise ValueError(f"is larger than {largest >> 10} kB")
    return path.read_bytes()


def read_json(path: Path, largest: int = LARGEST) -> object:
    """What such a file of JSON holds; raises as `bytes_of` does."""
    content = bytes_of(path, largest)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read ({type(error).__name__})") from None


def facts_in(path: Path, largest: int = LARGEST) -> Facts:
    """The dict that such a file holds; {} where there is none that can be read."""
    try:
        content = read_json(path, largest)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a dict of plain values as JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
