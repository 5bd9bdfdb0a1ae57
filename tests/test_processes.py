"""One command on several processes: the same bits, one owner, one end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist

from diffusion_cli import schedule
from diffusion_cli.__main__ import main
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.denoiser import NetworkDenoiser
from diffusion_cli.device import ALONE
from diffusion_cli.errors import RunFailed, UserError
from diffusion_cli.model.mlp import MLP
from diffusion_cli.noise import NoiseStream
from diffusion_cli.objective import Objective, TrainingBatch
from diffusion_cli.optimizer import Optimizer
from diffusion_cli.prediction import V
from diffusion_cli.runs import checkpoint, common_memory, group
from diffusion_cli.runs.common_memory import IN_ORDER, TURNS, SharedSum
from diffusion_cli.runs.contribution import Contribution
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.processes import Member, first_host, meeting_place, member, settled
from diffusion_cli.runs.signals import Stop
from diffusion_cli.trainer import TrainState, fit

ROOT = Path(__file__).parents[1]
LINE = ["train", "dataset=circle", "steps=600", "batch_size=30", "model.width=16", "device=cpu", "log_every=50", "shards=4",
        "checkpoint.every=20", "stages.every=100", "stages.n=10", "plots=false", "loss_levels=[0.1,1]"]  # fmt: skip
# A dataset that fails in process 1 some steps after a checkpoint, in the first start alone.
FAILS = """
import os
from diffusion_cli.dataset.plane import Circle

class Fails(Circle):
    def draw(self, n, generator):
        self.drawn = getattr(self, "drawn", 0) + 1
        if os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" and self.drawn == 30:
            raise OSError("the disk of this process is gone")
        return super().draw(n, generator)
"""


# What a group is made of.


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Member()),
        ({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, Member(2, 4, 0)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}, Member(3, 8, 1)),
        # a batch script's own process is no task of a step; and a step of one task is no group
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, Member()),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0"}, Member()),
    ],
)
def test_which_process_this_is(environment, expected):
    assert member(environment) == expected


def test_where_the_processes_of_a_cluster_meet():
    slurm = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77",
             "SLURM_STEP_NODELIST": "gpu[007-009,12],cpu1"}  # fmt: skip
    found = meeting_place(slurm)
    assert found == {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "gpu007", "MASTER_PORT": "20077"}
    assert meeting_place(slurm | {"MASTER_PORT": "5"})["MASTER_PORT"] == "5"
    assert [first_host(hosts) for hosts in ("a", "a1,a2", "n[3-4]-x,b")] == ["a", "a1", "n3-x"]


@pytest.mark.parametrize(
    ("keys", "before", "expected"),
    [
        ({}, None, 1),
        ({"processes": 4}, None, 4),
        ({"processes": 2, "shards": 6}, None, 6),
        ({"processes": 2}, {"shards": 4}, 4),
        # of a run that was begun before there were shards
        ({}, {}, 1),
        ({"processes": 2, "shards": 3}, None, "shards=3: must be a multiple of the 2 processes"),
        ({"processes": 4}, {"shards": 2}, "shards=2: must be a multiple of the 4 processes"),
        ({"shards": 33}, None, "shards=33: is more than batch_size=32"),
        ({"processes": 2, "device": "cuda:1"}, None, "device=cuda:1: is one GPU"),
    ],
)
def test_shards_of_a_run(keys, before, expected):
    config = {"processes": None, "shards": None, "batch_size": 32, "device": "auto"} | keys
    if isinstance(expected, int):
        assert settled(config, before)["shards"] == expected
    else:
        with pytest.raises(UserError) as error:
            settled(config, before)
        assert str(error.value).startswith(expected)


def test_rows_of_noise_are_the_same_wherever_a_part_begins():
    def twice(n, first):
        noise = NoiseStream(5, n, (2,), first=first)
        return torch.stack((noise(), noise()))

    assert torch.equal(twice(300, 200), twice(600, 0)[:, 200:500])


@pytest.mark.parametrize("there", [False, True])
def test_a_process_that_does_not_come_is_not_waited_for(there, monkeypatch):
    """One line within the stated time: neither for one that is missing, nor for one that is gone before all are connected."""
    monkeypatch.setattr(group, "COMING", timedelta(seconds=0.3))
    monkeypatch.setattr(group, "CONNECTING", timedelta(seconds=0.3))
    monkeypatch.setattr(group, "GRACE", 0.0)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set("ready1", "")
    if there:
        store.set("ready2", "")
    with Stop() as stop, pytest.raises(RunFailed) as failed:
        group.Processes(store, 0, 3, stop).begin({}, torch.device("cpu"))
    waited = "waited 0.005 minutes for process 2 of 3"
    assert str(failed.value) == ("another process has ended without a word" if there else waited)
    assert not dist.is_initialized()


# Shards in one process.


def parts(shards):
    torch.manual_seed(0)
    state = TrainState.start(MLP((2,), width=16, depth=1), Optimizer(warmup=5), levels=(0.1, 1.0))
    batches = Batches(Circle(), schedule.loglinear(20), Objective(), size=30, seed=3, shards=shards)
    return state, NetworkDenoiser(state.net, V(), batches.schedule), batches


def test_the_shards_of_a_batch_are_one_batch():
    """Each time is from a stratum of its own, no number is drawn twice, and shards are as equal as can be."""
    batches = replace(parts(4)[2], schedule=schedule.loglinear(30))
    shards = [batches(7, shard) for shard in range(4)]
    assert [len(shard.t) for shard in shards] == [7, 8, 7, 8]
    assert torch.cat([shard.t for shard in shards]).tolist() == list(range(1, 31))
    eps = torch.cat([shard.eps for shard in shards])
    assert len(eps.unique()) == eps.numel() and torch.equal(batches(7, 2).eps, shards[2].eps)


@pytest.mark.parametrize("written_out", [True, False])
def test_shards_train_by_the_mean_gradient_of_the_whole_batch(written_out):
    """Against autograd on all shards joined, of which the log has loss, norm and the losses by level, too."""
    state, denoiser, batches = parts(4)
    if not written_out:
        state.net.register_forward_hook(lambda *_: None)
    reference, other, _ = parts(4)
    joined = [
        torch.cat(columns) for columns in list(zip(*(batches(0, k) for k in range(4)), strict=True))[:3]
    ]
    losses = batches.objective(other, TrainingBatch(*joined))
    losses.mean().backward()
    grad = reference.optimizer.grad.clone()
    reference.optimizer.step(reference.optimizer.options.lr_at(0, 10))
    next(fit(state, denoiser, batches, 10))
    assert torch.allclose(state.weights.values, reference.weights.values, atol=1e-6)
    row = state.log()
    assert row["loss"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert row["grad_norm"] == pytest.approx(float(grad.norm()), rel=1e-5)
    first, last = batches.schedule.time_of(-2 * torch.tensor([0.1, 1.0]).log())
    inside = (joined[1] > first) & (joined[1] <= last)
    assert row["loss_0.1_1"] == pytest.approx(losses[inside].mean().item(), rel=1e-5)


def test_a_sum_is_made_in_order():
    """In float32 1e8 + 1 - 1e8 is 0, and 1e8 - 1e8 + 1 is 1."""
    vectors, total = torch.tensor([[2e8, 2e8, 1.0], [2.0, -2e8, 2.0], [-2e8, 2.0, 4.0]]), torch.ones(2)
    losses = ALONE.add_up((Contribution(vector[:2], 0.5, vector[2:]) for vector in vectors), total)
    assert total.tolist() == [0.0, 1.0] and losses.tolist() == [7.0]


# Processes.

ADDS = """
import torch
from torch import distributed as dist
from diffusion_cli.runs.contribution import Contribution
from diffusion_cli.runs.group import Processes
from diffusion_cli.runs.processes import member
from diffusion_cli.runs.signals import Stop

here = member()
store, *_ = next(dist.rendezvous("env://", here.rank, here.size))
group = Processes(store, here.rank, here.size, Stop())
group.connect({}, torch.device("cpu"))
every = torch.randn(6, 101, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e8, 1, 1e-8, 1e8, 1, 1e4])[:, None]
truth = every[0].clone()
for vector in every[1:]:
    truth += vector
for length in (101, 100, 2):
    for shared in (True, False, True):
        group.sums.shared = shared
        for n in (length, length - 1, length - 1):
            mine, total = every[2 * here.rank :][:2, :length], torch.empty(n)
            losses = group.add_up((Contribution(vector[:n] * 2, 0.5, vector[n:]) for vector in mine), total)
            assert torch.equal(torch.cat((total, losses)), truth[:length]), (length, shared, n)
        assert group.sums.shared == shared
        # as where one of them is on another host: its memory is another one, or none
        from diffusion_cli.runs import common_memory
        whole = common_memory.memory_of_file
        if here.rank == 1:
            common_memory.memory_of_file = lambda path, mark, *rest: whole(path + "x" * (length % 2), bytes(16), *rest)
        group.sums._memory = None
        for n in (length - 1, length - 1):
            mine, total = every[2 * here.rank :][:2, :length], torch.empty(n)
            losses = group.add_up((Contribution(vector[:n] * 2, 0.5, vector[n:]) for vector in mine), total)
            assert torch.equal(torch.cat((total, losses)), truth[:length]), (length, shared, n)
            assert not group.sums.shared and group.sums._memory is None
        common_memory.memory_of_file = whole
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory in common is tried on Linux alone")
def test_sums_in_shared_memory_and_over_the_network_are_those_of_one_process(tmp_path):
    """Of three processes with two vectors each, whose length 3 need not divide, and in the order of the vectors."""
    file = tmp_path / "adds.py"
    file.write_text(ADDS)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3", str(file)]
    ended = subprocess.run(
        line, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr


def shared(pids=(), watch=lambda: None):
    """The sums of process 0 of two, in memory of its own, and where process 1 says to which one it has come."""
    memory = torch.zeros(2, 2, 4)
    return SharedSum(memory, 1, 0, 2, watch, pids), memory[0, 1:, -1]


def test_memory_that_is_not_there_is_not_made(tmp_path):
    """torch.from_file would make it, and on two hosts each process would wait for sums of its own."""
    file = tmp_path / "memory"
    assert common_memory.memory_of_file(str(file), b"m" * 16, 10, torch.float32) is None and not file.exists()
    file.write_bytes(b"n" * 16 + bytes(24))
    assert common_memory.memory_of_file(str(file), b"m" * 16, 10, torch.float32) is None
    assert len(common_memory.memory_of_file(str(file), b"n" * 16, 10, torch.float32)) == 10


@pytest.mark.skipif(not IN_ORDER, reason="this processor may show writes in another order")
def test_a_process_that_has_gone_is_not_waited_for():
    """Whether it was waited for by its parent, or is a zombie; but one that has come before it left is not missed."""
    share = [Contribution(torch.ones(1), 1.0, torch.ones(1))]
    for waited in (True, False):
        gone = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while common_memory.lives(gone.pid) and time.monotonic() < until:
            if waited:
                gone.poll()
            time.sleep(0.01)
        assert common_memory.lives(os.getpid()) and not common_memory.lives(gone.pid)
        sums, other = shared([os.getpid(), gone.pid])
        with pytest.raises(RuntimeError, match=f"process {gone.pid} has ended"):
            sums(sums.filled(share), torch.zeros(1), torch.zeros(1))
        sums, other = shared([os.getpid(), gone.pid])
        other[:] = 1
        sums(sums.filled(share), torch.zeros(1), torch.zeros(1))
        gone.wait()


@pytest.mark.skipif(not IN_ORDER, reason="this processor may show writes in another order")
def test_what_the_watch_says_ends_the_waiting():
    sums, _ = shared(watch=lambda: "process 0 has ended")
    with pytest.raises(RuntimeError, match="process 0 has ended"):
        sums([torch.ones(2)], torch.zeros(1), torch.zeros(1))


@pytest.mark.skipif(not IN_ORDER, reason="this processor may show writes in another order")
@pytest.mark.parametrize("count", [0, TURNS - 2, TURNS - 1, 5 * TURNS - 1])
def test_a_process_may_be_one_sum_ahead_and_no_more(count):
    sums, other = shared()
    sums.sums = count
    for ahead, missing in ((-1, True), (0, False), (1, False), (2, True)):
        other[:] = (count + ahead) % TURNS
        sums.arrived[0] = count % TURNS
        assert sums._missing() == missing


def start(folder, *words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "diffusion_cli", *LINE, f"hydra.run.dir={folder}", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | environment,
    )  # fmt: skip


def others(process):
    """The processes 1, 2, ... that a process has started."""
    return [int(k) for k in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for(file, process):
    until = time.monotonic() + 120
    while not Path(file).is_file():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)


def essence(folder):
    """sha256 of the weights, averages and optimizer's state, of metrics.csv, and of the stages."""
    run = RunDirectory(folder)
    sha = hashlib.sha256()
    for name, tensor in sorted(load_file(run.checkpoints()[-1]).items()):
        sha.update(name.encode() + tensor.numpy().tobytes())
    stages = {step: x0.tobytes() for step, x0 in run.stages().items()}
    assert len(stages) == 7
    return sha.hexdigest(), run.metrics_file.read_bytes(), stages


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main([*LINE, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_killed_interrupted_and_resumed_with_fewer_processes_it_is_the_same_run(tmp_path, alone, capfd):
    """kill -9 of one of 4, SIGTERM to one of 2, and the rest on one; beside it a second launcher."""
    folder = tmp_path / "run"
    four = start(folder, "processes=4")
    wait_for(folder / "checkpoints" / "step_00000020.safetensors", four)
    assert main([*LINE, "resume=true", "processes=2", f"hydra.run.dir={folder}"]) == 2
    assert "is being trained by process" in capfd.readouterr().err
    began = others(four)
    os.kill(began[1], signal.SIGKILL)
    _, errors = four.communicate(timeout=60)
    assert (four.returncode, errors) == (1, "error: process 2 was ended by SIGKILL\n")
    assert RunDirectory(folder).status == "failed"

    reached = RunDirectory(folder).checkpoints()[-1]
    two = start(folder, "processes=2", "resume=true")
    while RunDirectory(folder).checkpoints()[-1] == reached:
        assert two.poll() is None, two.stderr.read()
        time.sleep(0.02)
    began += others(two)
    os.kill(began[-1], signal.SIGTERM)
    _, errors = two.communicate(timeout=60)
    assert (two.returncode, errors) == (128 + signal.SIGTERM, "interrupted by SIGTERM\n")
    assert not any(Path(f"/proc/{pid}").exists() for pid in began)

    assert main([*LINE, "resume=true", f"hydra.run.dir={folder}"]) == 0
    assert essence(folder) == essence(alone)


@pytest.mark.slow
def test_torchrun_starts_anew_after_a_failure(tmp_path, alone, monkeypatch):
    """--max-restarts goes on from the newest checkpoint, to the same bits; and the first end said why."""
    (tmp_path / "of_mine.py").write_text(FAILS)
    environment = {
        "DIFFUSION_CLI_TRUST": "of_mine",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1",
               "-m", "diffusion_cli", *LINE, "dataset._target_=of_mine.Fails", "checkpoint.every=3",
               f"hydra.run.dir={tmp_path / 'run'}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert said == ["error: process 1: OSError: the disk of this process is gone"]
    assert "resumed at step" in (tmp_path / "run" / "train.log").read_text()
    assert essence(tmp_path / "run") == essence(alone)


def test_jobs_of_a_sweep_start_their_own(tmp_path, monkeypatch, capfd):
    """One that diverges is one failed job, said once; reduce=sum is equal to rounding."""
    monkeypatch.chdir(tmp_path)
    line = [word for word in LINE if not word.startswith(("steps=", "stages"))]
    line += ["steps=20", "stages.every=0", "optimizer.clip=null", "processes=2", "reduce=sum"]
    code = main([*line, "-m", "optimizer.lr=1e-3,1e30", "hydra.sweep.dir=sweep"])
    _, errors = capfd.readouterr()
    assert code == 1 and errors.count("error:") == 1 and "1 of 2 jobs failed: job 1: diverged by" in errors
    assert [RunDirectory(f"sweep/{k}").status for k in range(2)] == ["finished", "failed"]
    exact = [word for word in line if not word.startswith(("processes", "reduce"))]
    assert main([*exact, "optimizer.lr=1e-3", "hydra.run.dir=exact"]) == 0
    (ours, theirs) = (load_file(RunDirectory(run).checkpoints()[-1]) for run in ("sweep/0", "exact"))
    for name, tensor in theirs.items():
        assert torch.allclose(tensor, ours[name], rtol=1e-4, atol=1e-6), name


def test_evaluation_and_samples_of_two_processes(tmp_path, alone):
    """Those of one process, to the bit: the shards of the run cut the samples, not the processes."""
    small = ["evaluation.n=100", "evaluation.draws=2", "evaluation.floor_draws=2", "sampler.steps=5"]
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        line = [f"run={alone}", f"processes={processes}", f"hydra.run.dir={folder}"]
        assert main(["evaluate", *line, *small]) == 0
        found.append(json.loads((folder / "evaluation.json").read_text())["metrics"])
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["paths", "progressive"])
def test_a_student_of_two_processes_is_that_of_one(method, tmp_path):
    """Paths are drawn by rows and handed to all; so is the student that teaches the next round."""
    line = ["distill", "run=exact", "dataset=gmm2px", "model.width=16", "device=cpu", "steps=20", "batch_size=18", "shards=2",
            "trajectories=70", "trajectory_steps=4", "plots=false", f"method={method}", "stages.every=0"]  # fmt: skip
    found = []
    for processes in (1, 2):
        run = RunDirectory(tmp_path / str(processes))
        assert main([*line, f"processes={processes}", f"hydra.run.dir={run.path}"]) == 0
        state = checkpoint.load(run.checkpoints()[-1])["state"]
        paths = {k: v for k, v in checkpoint.load(run.paths_file(0)).items() if k != "teacher"}
        found.append((checkpoint.digest(state), checkpoint.digest(paths), run.metrics_file.read_bytes()))
    assert found[0] == found[1]
