"""How a stranger makes what he sends: each function here prepares files in a folder and gives a trusting user's
command line."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from trials.child import Child

SMALL = ["steps=4", "batch_size=8", "model.width=8", "stages.every=0", "n=8", "device=cpu", "plots=false"]
TRAIN = ["train", "dataset=circle", *SMALL, "hydra.run.dir=run"]


class Attack(NamedTuple):
    """prepare(home) -> command line. codes: how the command may end. says: part of the message where it is refused."""

    name: str
    prepare: Callable[[Path], list[str]]
    says: str = ""
    codes: tuple[int, ...] = (2,)


def line(*words: str) -> Callable[[Path], list[str]]:
    """The attack is on the command line itself."""
    return lambda home: ["train", "dataset=circle", *SMALL, "hydra.run.dir=run", *words]


def option(
    text: str, group: str = "dataset", *words: str, command: str = "train"
) -> Callable[[Path], list[str]]:
    """The attack is a file of options, chosen by --config-dir theirs GROUP=evil."""

    def prepare(home: Path) -> list[str]:
        file = home / "theirs" / group / "evil.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text.replace("VICTIM", str(home / "victim")))
        return [command, "--config-dir", "theirs", f"{group}=evil", *SMALL, *(words or ["hydra.run.dir=run"])]

    return prepare


@functools.cache
def trained(folder: Path) -> Path:
    """An honest run, to be tampered with."""
    home = folder / "honest"
    home.mkdir()
    end = Child(TRAIN, home).wait()
    if end.code:
        raise RuntimeError(end.err)
    return home / "run"


def tampered(change: Callable[[Path], None], *words: str) -> Callable[[Path], list[str]]:
    """The attack is a run directory, given to `sample`, or to the command line `words`."""

    def prepare(home: Path) -> list[str]:
        import shutil

        shutil.copytree(trained(home.parent), home / "theirs", symlinks=True)
        change(home / "theirs")
        return list(words) or ["sample", "run=theirs", "n=4", "hydra.run.dir=run"]

    return prepare


def config(old: str, new: str) -> Callable[[Path], None]:
    """A change of the text of config.json."""

    def change(run: Path) -> None:
        file = run / "config.json"
        text = file.read_text()
        if old not in text:
            raise ValueError(f"{old!r} is not in the config")
        file.write_text(text.replace(old, new, 1))

    return change


def added(value: str) -> Callable[[Path], None]:
    """A key `x` more in config.json, whose value is this JSON."""
    return config('"seed": 0', f'"seed": 0, "x": {value}')


def pipe(name: str) -> Callable[[Path], None]:
    """A file of the run replaced by a pipe, which would be waited for."""

    def change(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return change


def weights(make: Callable[[Path], bytes]) -> Callable[[Path], None]:
    """Other bytes in the place of every checkpoint; make(its path)."""

    def change(run: Path) -> None:
        for file in (run / "checkpoints").iterdir():
            file.write_bytes(make(file))

    return change


def forged(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], bytes]:
    """A checkpoint whose content is changed and whose digest is right, as a stranger can make it."""

    def make(file: Path) -> bytes:
        from diffusion_cli.runs import checkpoint

        content = checkpoint.load(file)
        change(content)
        checkpoint.save(file, content)
        return file.read_bytes()

    return make


class Calls:
    """Unpickled, it calls evil.run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch victim/executed",)


def with_pickle(file: Path) -> bytes:
    """As torch.save writes it: an archive with a pickle."""
    import torch

    out = io.BytesIO()
    torch.save({"state": Calls()}, out)
    return out.getvalue()


def headed(change: Callable[[dict[str, Any]], object], rest: bytes | None = None) -> Callable[[Path], bytes]:
    """A checkpoint whose header says other things of the bytes that follow. rest: others in their place."""

    def make(file: Path) -> bytes:
        whole = file.read_bytes()
        size = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + (whole[8 + size :] if rest is None else rest)

    return make


def stretched(header: dict[str, Any]) -> None:
    """Four bytes that say they are terabytes."""
    header["state/ema/big"] = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}


def overlapping(header: dict[str, Any]) -> None:
    """The same bytes as a thousand tensors."""
    (entry,) = [header[name] for name in list(header)[1:2]]
    header.update({f"state/ema/copy{k}": entry for k in range(1000)})


def outside(header: dict[str, Any]) -> None:
    """A tensor that lies beyond the end of the file."""
    name = list(header)[-1]
    header[name]["data_offsets"] = [2**40, 2**40 + 4]


def sealed(text: str) -> Callable[[Path], bytes]:
    """A file without tensors whose plain values are this JSON, with the digest of it."""

    def make(file: Path) -> bytes:
        from safetensors.torch import save

        digest = hashlib.sha256(f"{len(text)}:{text}".encode()).hexdigest()
        return save({}, {"format": "2", "content": text, "digest": digest})

    return make


def deflated(file: Path) -> bytes:
    """A zip bomb: 256 MB of zeros in 0.3 MB."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data/0", "w") as big,
    ):
        for _ in range(16):
            big.write(bytes(16 * 2**20))
    return out.getvalue()


def tarred(file: Path) -> bytes:
    """An archive with a way out of its folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("../../victim/executed")
        archive.addfile(entry, io.BytesIO())
    return out.getvalue()


def stretched_stage(run: Path) -> None:
    (run / "stages").mkdir(exist_ok=True)
    with zipfile.ZipFile(run / "stages" / "step_00000001.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x0.npy", pickle.dumps(Calls()) + bytes(64 * 2**20))


def link(name: str, target: str) -> Callable[[Path], None]:
    """A file or folder of the run replaced by a symbolic link to the victim's."""

    def change(run: Path) -> None:
        import shutil

        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(run.parent / "victim" / target)

    return change


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        for one in changes:
            one(run)

    return change


def unfinished(run: Path) -> None:
    (run / "summary.json").unlink()


GOES_ON = [*TRAIN[:-1], "resume=true", "hydra.run.dir=theirs"]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
GLOBAL = "# @package _global_\ndefaults:\n  - /dataset/circle@dataset\n"
OURS = "diffusion_cli.model.mlp.MLP"


def target(name: str) -> str:
    return f"_target_: {name}\n"


def hydra(text: str) -> str:
    return GLOBAL + "hydra:\n" + "".join(f"  {row}\n" for row in text.splitlines())
