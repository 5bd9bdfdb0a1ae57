"""Checkpoint files with one byte changed, or cut short: either refused in one line, or loaded as what was saved."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from trials.child import Child
from trials.kills import LINE

DEFAULT = 2000


def run(n: int, seed: int, folder: Path) -> dict[str, Any]:
    from diffusion_cli.runs import checkpoint
    from diffusion_cli.runs.directory import RunDirectory

    rng = random.Random(seed)
    end = Child([*LINE, "steps=80"], folder).wait()
    if end.code:
        return {"broken": [f"the run: exit {end.code}: {end.err}"]}
    file = RunDirectory(folder / "run").checkpoints()[-1]
    whole, truth, broken = file.read_bytes(), checkpoint.digest(checkpoint.load(file)), []
    counts = {"refused": 0, "loaded as saved": 0}
    target = folder / "damaged.safetensors"
    for trial in range(n):
        data = bytearray(whole)
        if trial % 10 == 0:
            place = rng.randrange(len(data))
            data, what = data[:place], f"cut at {place}"
        else:
            place, change = rng.randrange(len(data)), rng.randrange(1, 256)
            data[place] ^= change
            what = f"byte {place} ^ {change}"
        target.write_bytes(data)
        try:
            loaded = checkpoint.load(target)
        except checkpoint.Damaged as damage:
            counts["refused"] += 1
            if "\n" in str(damage):
                broken.append(f"{what}: {damage}")
        except BaseException as error:
            broken.append(f"{what}: {type(error).__name__}: {error}")
        else:
            counts["loaded as saved"] += 1
            if checkpoint.digest(loaded) != truth:
                broken.append(f"{what}: loaded silently wrong")
    return {"trials": n, "bytes of the file": len(whole), **counts, "broken": broken}
