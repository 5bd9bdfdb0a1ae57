"""Several processes against one, and exact sums of gradients against all-reduce.

First a table of steps per second of dataset=mnist (the digits that come with the package, all else by default): one process of
one thread, two of one thread, and one of two threads, and of two runs of half the batch that exchange nothing, in turns; of each
the best turn. Then, of two processes of this machine, the milliseconds that adding vectors of the gradients of networks of some
sizes takes: `reduce=exact` in memory that they share, as on one host, and over the network, as between hosts; and `reduce=sum`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.turns import heading, row

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
# reduce=exact within a host and between hosts, and reduce=sum.
ADDING = ("exact", "exact, network", "sum")
BATCH = 64
# Processes, threads of each, and whether they exchange nothing: no exchange can be quicker than none.
WAYS = ((1, 1, False), (2, 1, False), (1, 2, False), (2, 1, True))


def training(processes: int, threads: int, steps: int, independent: bool = False) -> float:
    """Steps per second.

    independent: of as many runs at the same time, each with its part of the batch, that exchange nothing.
    """
    runs = processes if independent else 1
    with tempfile.TemporaryDirectory() as folder:
        line = ["train", "dataset=mnist", "dataset.source=bundled", "device=cpu", "plots=false", "stages.every=0",
                f"steps={steps}", f"threads={threads}", f"batch_size={BATCH // runs}",
                f"processes={processes // runs}"]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        places = [Path(folder, str(k)) for k in range(runs)]
        begun = [
            subprocess.Popen(
                [sys.executable, "-m", "diffusion_cli", *line, f"hydra.run.dir={place}"],
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            for place in places
        ]
        codes = [one.wait() for one in begun]
        if any(codes):
            raise SystemExit("a training has failed")
        return statistics.mean(
            json.loads(Path(place, "summary.json").read_text())["steps_per_second"] for place in places
        )


def adding() -> None:
    """As process 0 or 1: a line of JSON from process 0, size -> milliseconds of each way of ADDING."""
    import torch
    from torch import distributed as dist

    from diffusion_cli.runs.contribution import Contribution
    from diffusion_cli.runs.group import Processes
    from diffusion_cli.runs.processes import member
    from diffusion_cli.runs.signals import Stop

    torch.set_num_threads(1)
    here = member()
    store, *_ = next(dist.rendezvous("env://", here.rank, here.size))
    group = Processes(store, here.rank, here.size, Stop())
    group.connect({}, torch.device("cpu"))
    found = {}
    for size in SIZES:
        times: dict[str, list[float]] = {way: [] for way in ADDING}
        for turn in range(max(12, min(200, 40_000_000 // size))):
            way = ADDING[turn % len(ADDING)]
            group.sums.exact, group.sums.shared = way != "sum", way == "exact"
            vector, nothing = torch.randn(size), torch.zeros(1)
            dist.barrier()
            start = time.perf_counter()
            group.add_up([Contribution(vector, 0.5, nothing)], torch.empty_like(vector))
            times[way].append(1000 * (time.perf_counter() - start))
        found[size] = [statistics.median(times[way]) for way in ADDING]
    if here.rank == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


def main(threads: int, rounds: int, steps: int = 200) -> None:
    best = dict.fromkeys(WAYS, 0.0)
    for _ in range(max(rounds // 4, 1)):
        for way in WAYS:
            processes, each, independent = way
            best[way] = max(best[way], training(processes, each, steps, independent))
    heading("processes", "threads of each", "steps/s", "times one")
    for (processes, each, independent), rate in best.items():
        row(
            f"{processes}{', independent' * independent}",
            str(each),
            f"{rate:.2f}",
            f"{rate / best[WAYS[0]]:.2f}",
        )

    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, check=True, capture_output=True, text=True
    )
    print()
    heading("parameters", *ADDING)
    for size, taken in json.loads(done.stdout.splitlines()[-1]).items():
        row(f"{int(size):,}", *(f"{one:.2f} ms" for one in taken))


if __name__ == "__main__":
    adding()
