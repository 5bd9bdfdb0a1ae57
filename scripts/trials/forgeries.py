"""How a stranger makes what he sends: each function here prepares files in a folder and gives a trusting user's
command line."""

from __future__ import annotations

import functools
import io
import os
import pickle
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
    """A change of the text of .hydra/config.yaml."""

    def change(run: Path) -> None:
        file = run / ".hydra" / "config.yaml"
        text = file.read_text()
        if old not in text:
            raise ValueError(f"{old!r} is not in the config")
        file.write_text(text.replace(old, new, 1))

    return change


def weights(make: Callable[[Path], bytes]) -> Callable[[Path], None]:
    """Other bytes in the place of every checkpoint; make(its path)."""

    def change(run: Path) -> None:
        for file in (run / "checkpoints").iterdir():
            file.write_bytes(make(file))

    return change


def forged(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], bytes]:
    """A checkpoint whose content is changed and whose digest is right, as a stranger can make it."""

    def make(file: Path) -> bytes:
        import torch

        from diffusion_cli.runs import checkpoint

        content = torch.load(file, weights_only=True)["content"]
        change(content)
        whole = {"format": checkpoint.FORMAT, "digest": checkpoint.digest(content), "content": content}
        out = io.BytesIO()
        torch.save(whole, out)
        return out.getvalue()

    return make


class Calls:
    """Unpickled, it calls evil.run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch victim/executed",)


def with_pickle(file: Path) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save({"format": 1, "digest": "", "content": {"state": Calls()}}, out)
    return out.getvalue()


def stretched(file: Path) -> bytes:
    """Four bytes that say they are terabytes."""
    import torch

    out = io.BytesIO()
    torch.save({"format": 1, "digest": "", "content": {"a": torch.zeros(1).expand(10**6, 10**6)}}, out)
    return out.getvalue()


def unfolding(file: Path) -> bytes:
    """Lists of lists of the same list: 10^20 items."""
    import torch

    bomb: list[Any] = [0] * 10
    for _ in range(20):
        bomb = [bomb] * 10
    out = io.BytesIO()
    torch.save({"format": 1, "digest": "", "content": {"a": bomb}}, out)
    return out.getvalue()


def deflated(file: Path) -> bytes:
    """A zip bomb in the clothes of a checkpoint: 256 MB of zeros in 0.3 MB."""
    out = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        with new.open("archive/data/999", "w", force_zip64=True) as big:
            for _ in range(16):
                big.write(bytes(16 * 2**20))
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
