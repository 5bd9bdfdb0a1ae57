"""Files of a run that are damaged, or forged by a stranger: refused in one line, or read as what was saved; never executed, taken
silently for something else, or chewed on for long."""

from __future__ import annotations

import io
import os
import pickle
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials import forgeries
from trials.child import Child
from trials.kills import LINE

DEFAULT = 3000
SLOW = 5.0  # seconds, by which a refusal must have come
# Of a checkpoint that a stranger makes; each of them is damaged further.
FORGED: tuple[Callable[[Path], bytes], ...] = (
    forgeries.with_pickle,
    lambda file: pickle.dumps(forgeries.Calls()),
    forgeries.deflated,
    forgeries.tarred,
    lambda file: b"\xff" * 8 + b"{",
    forgeries.headed(forgeries.stretched),
    forgeries.headed(forgeries.overlapping),
    forgeries.headed(forgeries.outside),
    forgeries.sealed("[]"),
    forgeries.sealed("{}"),
    forgeries.sealed("[" * 100_000),
    forgeries.sealed('{"state": ' + "9" * 100_000 + "}"),
)


def damaged(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The bytes with something wrong, and what it is."""
    place, kind = rng.randrange(len(data)), rng.random()
    if kind < 0.7:
        change = rng.randrange(1, 256)
        return data[:place] + bytes([data[place] ^ change]) + data[place + 1 :], f"byte {place} ^ {change}"
    if kind < 0.8:
        return data[:place], f"cut at {place}"
    if kind < 0.9:
        zeros = min(4096, len(data) - place)
        return data[:place] + bytes(zeros) + data[place + zeros :], f"zeros at {place}"
    return data[:place] + data[place // 2 :], f"a part twice, up to {place}"


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    from diffusion_cli.errors import UserError
    from diffusion_cli.runs import checkpoint, restore
    from diffusion_cli.runs.directory import RunDirectory

    rng = random.Random(seed)
    end = Child([*LINE, "steps=80", "stages.every=40"], folder).wait()
    if end.code:
        return {"broken": [f"the run: exit {end.code}: {end.err}"]}
    run = RunDirectory(folder / "run")
    weights, config = run.checkpoints()[-1], run.path / "config.json"
    stage = run.stage_file(max(run.stages()))
    truth = {"checkpoint": checkpoint.digest(checkpoint.load(weights)), "stage": digests(run), "config": ""}
    saved = checkpoint.load(weights)

    def read(kind: str) -> str:
        if kind == "stage":
            return digests(run)
        if kind == "config":
            return "; ".join(key for key, *_ in restore.edits(run.record, saved))
        return checkpoint.digest(checkpoint.load(weights))

    files = {"checkpoint": weights, "stage": stage, "config": config}
    whole = {kind: file.read_bytes() for kind, file in files.items()}
    forged = [make(weights) for make in FORGED]
    counts: Counter[str] = Counter()
    broken, slowest = [], 0.0
    for trial in range(n):
        kind = "forged" if trial % 10 == 9 else rng.choice(["checkpoint"] * 5 + ["stage"] * 2 + ["config"])
        data, what = damaged(rng.choice(forged) if kind == "forged" else whole[kind], rng)
        counts[f"{kind}, tried"] += 1
        file = weights if kind == "forged" else files[kind]
        file.write_bytes(data)
        started = time.monotonic()
        try:
            found = read("checkpoint" if kind == "forged" else kind)
        except (checkpoint.Damaged, UserError) as refusal:
            counts[f"{kind}, refused"] += 1
            if "\n" in str(refusal):
                broken.append(f"{kind}, {what}: {refusal}")
        except BaseException as error:
            broken.append(f"{kind}, {what}: {type(error).__name__}: {error}")
        else:
            if kind == "config" and found:
                counts["config, noticed beside the checkpoint's copy"] += 1
            elif kind == "forged" or found != truth[kind]:
                broken.append(f"{kind}, {what}: taken silently")
            else:
                counts[f"{kind}, read as saved"] += 1
        seconds = time.monotonic() - started
        slowest = max(slowest, seconds)
        if seconds > SLOW:
            broken.append(f"{kind}, {what}: {seconds:.1f} s")
        file.write_bytes(whole["checkpoint" if kind == "forged" else kind])
    if os.path.exists("victim/executed"):
        broken.append("something was executed")
    return {"tried": n, **dict(sorted(counts.items())), "slowest": round(slowest, 2), "broken": broken}


def digests(run: Any) -> str:
    """A digest of all stages."""
    import hashlib

    sha = hashlib.sha256()
    for step, x0 in run.stages().items():
        out = io.BytesIO()
        out.write(f"{step} {x0.dtype} {x0.shape}".encode())
        out.write(x0.tobytes())
        sha.update(out.getvalue())
    return sha.hexdigest()
