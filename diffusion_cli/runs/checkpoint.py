"""Checkpoints: written whole or not at all, verified when read, safe to load from a stranger.

torch.load takes a flipped byte without a word, so a checkpoint carries a digest of its own content.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_cli import __version__
from diffusion_cli.runs.atomic import replacing

FORMAT = 1
PLAIN = (type(None), bool, int, float, str)
BIGGEST_PICKLE = 8 * 2**20  # bytes of structure beside the tensors; 3,000 tensors and their names take 0.4 MB
MOST_VALUES = 1_000_000  # one list, named a thousand times by another, unfolds to billions
DEEPEST = 64


class Damaged(Exception):
    """This file is not a whole checkpoint of ours; the text says why, in one line."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes nested dicts and lists of tensors and plain values, atomically and durably.

    Raises OSError when the disk is full or the folder cannot be written; the old file then stands.
    """
    content = _own_storage(content)
    whole = {"format": FORMAT, "digest": digest(content), "content": content}
    with replacing(path, durable=True) as part:
        try:
            torch.save(whole, part)
        except RuntimeError as error:  # torch reports a full disk so; the cause is in the context
            raise (
                error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error))
            ) from error


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content, verified. Raises Damaged for anything but a whole checkpoint of this format."""
    try:
        size = _check_archive(path)
        whole = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Damaged(f"{path}: no such file") from None
    except Damaged:
        raise
    except Exception as error:  # torch raises six kinds here, some of which advise weights_only=False
        raise Damaged(f"{path}: unreadable ({type(error).__name__}), truncated or no checkpoint") from error
    if not isinstance(whole, dict) or set(whole) != {"format", "digest", "content"}:
        raise Damaged(f"{path}: not a checkpoint of diffusion_cli")
    if whole["format"] != FORMAT:
        raise Damaged(f"{path}: format {whole['format']!r}, this version reads {FORMAT}")
    if not isinstance(whole["content"], dict) or not _is_plain(whole["content"], size):
        raise Damaged(f"{path}: holds what no checkpoint of diffusion_cli does")
    if digest(whole["content"]) != whole["digest"]:
        raise Damaged(f"{path}: its content does not match its checksum")
    return _to(whole["content"], device)


def export(path: Path, weights: dict[str, Tensor], about: dict[str, str]) -> None:
    """Writes weights as a safetensors file, whole or not at all, for whoever does without this package.

    about: metadata, to which format, version and digest are added. Read it with safetensors.torch.load_file.
    """
    from safetensors.torch import save_file

    weights = _own_storage(weights)
    about = {"format": "pt", "diffusion_cli": __version__, "digest": digest(weights)} | about
    with replacing(path, durable=True) as part:
        save_file(weights, part, about)


def _check_archive(path: Path) -> int:
    """The file's size, where it is an archive that unpacks to no more than itself: torch.save compresses nothing."""
    if not path.is_file():  # a pipe would be waited for without end
        raise FileNotFoundError(path)
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Damaged(f"{path}: compressed, as no checkpoint of diffusion_cli is")
    if sum(entry.file_size for entry in entries) > size:
        raise Damaged(f"{path}: says that it unpacks to more than it holds")
    if sum(e.file_size for e in entries if e.filename.endswith(".pkl")) > BIGGEST_PICKLE:
        raise Damaged(f"{path}: too large beside its tensors")
    return size


def _is_plain(content: Any, most_bytes: int) -> bool:
    """Whether this is a modest tree of ordinary tensors, of at most `most_bytes` in all, and plain values.

    Without recursion, and before anything is summed up: a stranger's file may name one list, or one tensor, a
    million times, or stretch four bytes to a tensor of terabytes (stride 0).
    """
    level, count, size = [content], 0, 0
    for _ in range(DEEPEST):
        if not level:
            return True
        below: list[Any] = []
        for value in level:
            if isinstance(value, Tensor):
                ordinary = type(value) is Tensor and value.layout == torch.strided and not value.is_quantized
                if not ordinary or value.device.type != "cpu" or not value.is_contiguous():
                    return False
                size += value.numel() * value.element_size()
            elif isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list | tuple):
                below += value
            elif type(value) not in PLAIN:
                return False
            if size > most_bytes or count + len(below) > MOST_VALUES:
                return False
        count += len(below)
        level = below
    return False


def digest(value: Any) -> str:
    """SHA-256 over the content in a canonical form: types, keys, shapes and bytes."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        sha.update(f"T{value.dtype}{tuple(value.shape)}".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, dict):
        sha.update(f"D{len(value)}".encode())
        for key, item in value.items():
            _feed(sha, key)
            _feed(sha, item)
    elif isinstance(value, list | tuple):
        sha.update(f"L{len(value)}".encode())
        for item in value:
            _feed(sha, item)
    elif type(value) in PLAIN:  # not a subclass: torch.__version__ is a str that weights_only refuses
        text = repr(value).encode()
        sha.update(f"{type(value).__name__}{len(text)}:".encode() + text)
    else:
        raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")


def _own_storage(value: Any) -> Any:
    """Tensors on the CPU without the rest of a storage they are a view of (torch.save would write all of it)."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: _own_storage(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_own_storage(item) for item in value]
    return value


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_to(item, device) for item in value]
    return value
