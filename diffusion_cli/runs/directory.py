"""The run directory: the only module that knows the names of its files. (No torch here: errors must be quick.)"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_cli.errors import UserError
from diffusion_cli.ranges import Facts
from diffusion_cli.runs import config, place
from diffusion_cli.runs.atomic import facts_in, overwrite, replacing, write_json
from diffusion_cli.runs.config import Record
from diffusion_cli.runs.place import Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]
    # x0 and label of samples
    Arrays = tuple[NDArray[np.floating], NDArray[np.int64] | None]

log = logging.getLogger(__name__)
RUNNING, FINISHED, FAILED, INTERRUPTED = STATUSES = ("running", "finished", "failed", "interrupted")
# What is left of a summary for which there is little room.
BRIEF = ("status", "error", "steps", "loss", "seed")
CHECKPOINT = re.compile(r"step_(\d{8,})\.safetensors")
PART = re.compile(r"\..+\.\d+\.part(\.\w+)?")  # the temporary names of atomic.replacing
LARGEST_SUMMARY = 2**24  # bytes
DEEP = ("*/", "*/*/", "*/*/*/")  # below a folder, where runs are looked for
NAMED = 10  # of those found there, the last by name, and so by time


class RunDirectory:
    """One directory of `train`, `sample` or `evaluate`.

    status is one of STATUSES (in summary.json).
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.place: Place | None = None
        self.metrics_file = self.path / "metrics.csv"
        self.evaluations_file = self.path / "evaluations.csv"
        self.samples_file = self.path / "samples.npz"
        self.weights_file = self.path / "weights.safetensors"
        self.summary_file = self.path / "summary.json"
        self.evaluation_file = self.path / "evaluation.json"
        self.figures = self.path / "figures"

    @classmethod
    def find(cls, name: str, key: str = "run", root: str | os.PathLike = "outputs") -> RunDirectory:
        """The trained run meant by `run=NAME`: a directory, or its name below root/train; `latest`, the newest finished one
        there; or a dataset: the newest one of that."""
        below = Path(root, "train")
        path = Path(name) if name == "latest" or Path(name).exists() else below / name
        if name == "latest" or (path.parent == below and path.is_dir()):
            found = below.glob(f"{'*' if name == 'latest' else path.name}/*/")
            runs = [run for run in map(cls, found) if run.status == FINISHED and run.checkpoints()]
            if not runs:
                reason = f"there is no finished run below {below}; train one, or say {key}=DIR"
                raise UserError(key, name, reason)
            return max(runs, key=lambda run: run.summary_file.stat().st_mtime)
        run = cls(path)
        if run.path.is_file():
            raise UserError(key, name, "is a file; a run is named by its directory, which holds config.json")
        if not run.path.is_dir():
            raise UserError(key, name, "no such directory")
        if not config.is_recorded(run.path):
            inside = [str(file.parent) for depth in DEEP for file in run.path.glob(f"{depth}{config.FILE}")]
            if inside:
                reason = f"is no run, but holds some (diffusion runs root={name} lists them)"
                raise UserError(key, name, reason, sorted(inside)[-NAMED:])
        config.read_record(run.path, key)
        if not run.checkpoints():
            raise UserError(key, name, "is not a trained run: it has no checkpoints")
        return run

    @property
    def record(self) -> Record:
        """What the run is, as config.json or its copy says; UserError where they are missing or damaged."""
        return config.read_record(self.path)

    # checkpoints

    def checkpoint_file(self, step: int) -> Path:
        return self.path / config.CHECKPOINTS / f"step_{step:08d}.safetensors"

    def checkpoints(self) -> list[Path]:
        """Oldest first."""
        found = (self.path / config.CHECKPOINTS).glob("step_*.safetensors")
        return sorted((f for f in found if CHECKPOINT.fullmatch(f.name) and f.is_file()), key=step_of)

    def prune(self, keep: int, best: int | None = None) -> None:
        """Removes all checkpoints but the newest `keep` and that of the step `best`."""
        for file in self.checkpoints()[:-keep]:
            if best is None or file != self.checkpoint_file(best):
                file.unlink()

    def sweep_up(self) -> None:
        """Removes what a killed process had begun to write. For whoever holds the lock."""
        for folder in (self.path, *(path for path in self.path.glob("*/") if not path.is_symlink())):
            for file in folder.iterdir():
                if PART.fullmatch(file.name):
                    file.unlink()

    # summary

    @property
    def summary(self) -> Facts:
        """summary.json, or {} where there is none that can be read."""
        return facts_in(self.summary_file, LARGEST_SUMMARY)

    @property
    def status(self) -> str | None:
        """As summary.json says; a run that was killed could not say so, and is interrupted."""
        return self.status_of(self.summary)

    def status_of(self, summary: Facts) -> str | None:
        status = summary.get("status")
        killed = status == RUNNING and not place.is_held(self.path)
        return INTERRUPTED if killed else status if isinstance(status, str) else None

    def write_summary(self, **fields: object) -> None:
        """Writes summary.json, whole or not at all; on a full disk over the old one, which takes no space. Where the
        directory was moved, there; where it was removed, nowhere."""
        folder = self.place.where() if self.place else self.path
        if folder is None:
            return
        file = folder / self.summary_file.name
        try:
            write_json(file, fields)
        except OSError:
            brief = {key: fields[key] for key in BRIEF if key in fields}
            if not (overwrite(file, fields) or overwrite(file, brief)):
                raise

    # arrays

    def write_samples(self, n: int, lots: Iterable[Arrays], **more: Array) -> Arrays:
        """Writes n samples as they come, in lots of which none is kept but the first, which is returned.

        lots: x0 (k, *shape), in the units of the data's file, float32, or float64 where that cannot hold it; label (k,) or
            None; numpy arrays.
        more: other arrays, under their own names.
        """
        import numpy as np
        from numpy.lib.format import write_array, write_array_header_1_0

        first, labels = None, []
        with replacing(self.samples_file) as part, zipfile.ZipFile(part, "w", allowZip64=True) as archive:
            with archive.open("x0.npy", "w", force_zip64=True) as file:
                for x0, label in lots:
                    if first is None:
                        first = x0, label
                        kind = {"descr": x0.dtype.str, "fortran_order": False, "shape": (n, *x0.shape[1:])}
                        write_array_header_1_0(file, kind)
                    file.write(np.ascontiguousarray(x0).data)
                    labels += [] if label is None else [label]
            assert first is not None
            if labels:
                more = {"label": np.concatenate(labels).astype(np.int64, copy=False)} | more
            for name, array in more.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    write_array(file, np.asanyarray(array), allow_pickle=False)
        return first

    def round_file(self, number: int) -> Path:
        return self.path / "rounds" / f"round_{number}.safetensors"

    def paths_file(self, lot: int) -> Path:
        return self.path / "paths" / f"lot_{lot:05d}.safetensors"

    def stage_file(self, step: int) -> Path:
        return self.path / "stages" / f"step_{step:08d}.npz"

    def write_stage(self, step: int, x0: Array) -> None:
        import numpy as np

        with replacing(self.stage_file(step)) as part:
            np.savez(part, x0=x0)

    def stages(self) -> dict[int, NDArray[np.floating]]:
        """Training step -> samples (n, *shape) drawn then."""
        import numpy as np

        found = {}
        for file in sorted((self.path / "stages").glob("step_*.npz")):
            try:
                with zipfile.ZipFile(file) as archive:  # np.savez compresses nothing
                    if sum(entry.file_size for entry in archive.infolist()) > file.stat().st_size:
                        raise ValueError("it unpacks to more than it holds")
                with np.load(file, allow_pickle=False) as arrays:
                    found[step_of(file)] = arrays["x0"]
            except Exception as error:  # NumPy and zipfile raise a dozen kinds for damaged files
                raise UserError("run", str(self.path), f"{file.name} cannot be read: {error}") from error
        return found

    # one trainer at a time

    def lock(self, wait: Callable[[], None] | None = None) -> Place:
        """Held for as long as a process trains here; free at once when that process dies, however it does.

        wait: called while another process has it; None: UserError where there is one.
        """
        self.place = place.take(self.path, wait)
        return self.place

    def check_place(self) -> None:
        """RunFailed where the directory that this process has locked was removed or moved since."""
        if self.place is not None:
            self.place.check()

    @property
    def is_held(self) -> bool:
        """Whether a process trains here now."""
        return place.is_held(self.path)


def step_of(file: Path) -> int:
    """The training step of a checkpoint's or a stage's file."""
    return int(file.stem.removeprefix("step_"))
