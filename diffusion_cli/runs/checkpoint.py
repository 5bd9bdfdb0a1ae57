"""Checkpoints: one safetensors file each, written whole or not at all, verified when read, safe to load from a stranger.

A file holds tensors and, as JSON in its header, all plain values; no pickle. The format takes a flipped byte without a
word, so the header carries a digest of everything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from diffusion_cli import __version__
from diffusion_cli.ranges import Facts
from diffusion_cli.runs import config
from diffusion_cli.runs.atomic import replacing

FORMAT = "2"
SEPARATOR = "/"  # between the keys on the way to a tensor
LARGEST_TEXT = 2**24  # bytes of JSON; that of our own checkpoints has a thousandth of it


class Damaged(Exception):
    """This file is not a whole checkpoint of ours; the text says why, in one line."""


def save(path: Path, content: Mapping[str, object]) -> None:
    """Writes nested dicts of tensors and plain values (JSON's), atomically and durably.

    Raises OSError when the disk is full or the folder cannot be written; the old file then stands.
    """
    tensors, text = _flat(content)
    about = {"format": FORMAT, "content": text, "text_digest": config.digest_of(text)}
    _write(path, tensors, about, _digest(tensors, text))


def load(path: Path) -> Facts:
    """The content, verified, on the CPU. Raises Damaged for anything but a whole checkpoint of this format."""
    if not path.is_file():
        # a pipe would be waited for without end
        raise Damaged(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about = file.metadata() or {}
            if "content" not in about or "digest" not in about:
                raise Damaged(f"{path}: not a checkpoint of diffusion_cli")
            if about.get("format") != FORMAT:
                raise Damaged(f"{path}: format {about.get('format')!r}, this version reads {FORMAT}")
            text = about["content"]
            if len(text) > LARGEST_TEXT:
                raise Damaged(f"{path}: too large beside its tensors")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError, RuntimeError, MemoryError) as error:
        raise Damaged(f"{path}: unreadable ({type(error).__name__}), truncated or no checkpoint") from error
    if _digest(tensors, text) != about["digest"]:
        raise Damaged(f"{path}: its content does not match its checksum")
    for name, tensor in tensors.items():
        *above, last = name.split(SEPARATOR)
        node = content
        for key in above:
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise Damaged(f"{path}: holds what no checkpoint of diffusion_cli does")
        node[last] = tensor
    return content


def export(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Writes weights for whoever does without this package: read them with safetensors.torch.load_file.

    about: metadata, to which version and digest are added.
    """
    _write(path, dict(weights), {"format": "pt", **about}, digest(weights))


def digest(content: Mapping[str, object]) -> str:
    """SHA-256 over nested dicts of tensors and plain values: 64 hex digits, the same for equal contents."""
    return _digest(*_flat(content))


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    sha = hashlib.sha256(f"{len(text)}:{text}".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}:{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, str], checksum: str) -> None:
    # without the rest of a storage that a tensor may be a view of
    own = {name: x.detach().cpu().clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}
    whole = serialized(own, {"diffusion_cli": __version__, "digest": checksum, **about})
    with replacing(path, durable=True) as part:
        part.write_bytes(whole)


def _flat(content: Mapping[str, object]) -> tuple[dict[str, Tensor], str]:
    """The tensors of a tree by the keys on their way, and the rest of it as JSON."""
    tensors: dict[str, Tensor] = {}
    return tensors, json.dumps(_without_tensors(content, "", tensors))


def _without_tensors(node: Mapping[str, object], above: str, tensors: dict[str, Tensor]) -> Facts:
    """The tree without its tensors, which go into `tensors` under the keys on their way."""
    rest: Facts = {}
    for key, value in node.items():
        if not isinstance(key, str) or SEPARATOR in key:
            raise TypeError(f"a checkpoint's keys are names, not {key!r}")
        if isinstance(value, Tensor):
            tensors[above + key] = value
        elif isinstance(value, Mapping):
            rest[key] = _without_tensors(value, f"{above}{key}{SEPARATOR}", tensors)
        else:
            rest[key] = value
    return rest
