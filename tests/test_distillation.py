"""Students: jumps along exact paths, of which the ends are known; and the command, from paths to samples."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.__main__ import main
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.exact import Gaussian1D
from diffusion_cli.denoiser import ExactDenoiser, Student
from diffusion_cli.distillation import HalvingBatches, JumpBatches, jumps_of, path_states
from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.dit import DiT
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.set import SetNet
from diffusion_cli.model.unet1d import UNet1d
from diffusion_cli.model.unet2d import UNet2d
from diffusion_cli.objective import Objective
from diffusion_cli.prediction import Prediction, V
from diffusion_cli.runs import checkpoint
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.sampler import DDIM, Multistep, walk

SCHEDULE = schedule.loglinear()
MEAN, WIDTH = 1.0, 0.5
EXACT = ExactDenoiser(Gaussian1D(MEAN, WIDTH**2).density, SCHEDULE)
TIMES = [50.0, 20.0, 0.0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def on_path(x_T, t):
    """The probability-flow ODE of a Gaussian moves quantiles: x_t = alpha mean + s_t (x_T - alpha_T mean) / s_T."""
    (a, s), (a_T, s_T) = (
        (level.alpha, (level.sigma**2 + (level.alpha * WIDTH) ** 2).sqrt())
        for level in (SCHEDULE.level(time, like=x_T) for time in (t, 50.0))
    )
    return a * MEAN + s * (x_T - a_T * MEAN) / s_T


def stored(n=500):
    x_T = torch.randn(n, 1, generator=seeded())
    return torch.stack([on_path(x_T, t) for t in TIMES]).float()


# Jumps.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("t", "s"), [(50.0, 0.0), (50.0, 20.0), (20.0, 1.5), (1.0, 0.0)])
def test_the_step_of_ddim_with_the_prediction_of_a_jump_ends_where_the_jump_does(t, s, dtype):
    x_t, x_s = torch.randn(2, 8, 2, generator=seeded(), dtype=dtype)
    now, then = (SCHEDULE.level(time, like=x_t) for time in (t, s))
    given = Prediction.of_jump(x_t, x_s, now, then)
    assert torch.allclose(now.alpha * given.x0 + now.sigma * given.eps, x_t, atol=1e-5)

    def answer(x, time, label=None, to=None):
        return given

    answer.schedule = SCHEDULE
    *_, end = walk(DDIM().step, answer, x_t, [t, s])
    assert torch.allclose(end.x, x_s, atol=1e-5)


def test_jumps_of_several_numbers_of_calls_leave_the_last_call_to_the_teacher():
    counts = [DDIM(steps=steps).times(SCHEDULE) for steps in (1, 2, 4)]
    first, second = counts[2][1:3]
    assert jumps_of(counts[:1]) == jumps_of(counts[:2]) == [(50.0, 0.0)]
    assert jumps_of(counts) == [(50.0, 0.0), (50.0, first), (first, second), (second, 0.0)]
    assert jumps_of([[1.0, 0.0]]) == [(1.0, 0.0)]


def test_paths_are_those_of_the_ordinary_differential_equation():
    x_T = torch.randn(200, 1, generator=seeded())
    sampler = Multistep(steps=60, order=3, grid="log_snr")
    states = path_states(sampler, EXACT, x_T, None, TIMES)
    for state, t in zip(states, TIMES, strict=True):
        assert torch.allclose(state, on_path(x_T, t).float(), atol=2e-3), t


def test_batches_are_functions_of_seed_and_step_and_hold_every_jump_alike():
    jumps = [*pairwise(TIMES), (50.0, 0.0)]
    label, w = torch.arange(500) % 3, torch.rand(500, generator=seeded())

    def batches(seed):
        return JumpBatches(stored(), TIMES, label, w, jumps, SCHEDULE, Objective(), 30, seed)

    batch, again = batches(1)(7), batches(1)(7)
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    assert not torch.equal(batch.x0, batches(1)(8).x0) and not torch.equal(batch.x0, batches(2)(7).x0)
    assert batch.t.tolist() == [50.0, 20.0, 50.0] * 10
    assert batch.numbers[:, 0].unique().numel() == 2 and batch.numbers.shape == (30, 2)
    level = SCHEDULE.level(batch.t, like=batch.x0)
    x_t = level.alpha * batch.x0 + level.sigma * batch.eps
    row = (stored()[0] - x_t[0]).abs().argmin()
    assert torch.allclose(x_t[0], stored()[0, row], atol=1e-5)
    assert batch.label[0] == label[row] and batch.numbers[0, 1] == w[row]
    # A whole path: its end is x0 itself.
    row = (stored()[0] - x_t[2]).abs().argmin()
    assert torch.allclose(batch.x0[2], stored()[2, row], atol=1e-4)


def test_the_shards_of_a_batch_hold_every_jump_alike_together():
    """Of paths, and of a teacher's steps, where a shard may be smaller than the number of jumps."""
    along = JumpBatches(
        stored(), TIMES, None, None, [*pairwise(TIMES), (50.0, 0.0)], SCHEDULE, Objective(), 30, 1
    )
    data = Batches(Gaussian1D(MEAN, WIDTH**2), SCHEDULE, Objective(), 10, 1)
    halving = HalvingBatches(data, 1, 4, 100, lambda round, jumps: EXACT)
    sharded = replace(along, shards=4), replace(halving, data=replace(data, shards=4))
    for whole, parts in zip((along, halving), sharded, strict=True):
        joined = [parts(7, shard) for shard in range(4)]
        assert torch.cat([part.t for part in joined]).tolist() == whole(7).t.tolist()
        assert {len(part.x0) for part in joined} <= {2, 3, 7, 8}
        assert torch.cat([part.x0 for part in joined]).unique().numel() > 1


# The student as a denoiser.


def student(jumps=((50.0, 0.0),), **given):
    return Student(MLP((1,), numbers=1), V(), SCHEDULE, torch.float32, EXACT, jumps, **given)


def test_where_no_jump_is_the_teacher_answers():
    x = torch.randn(5, 1, generator=seeded())
    for t, to in ((50.0, None), (12.5, None), (1.0, 0.0)):
        assert torch.equal(student()(x, t, to=to).x0, EXACT(x, t).x0)
    # a new network puts out 0: v = 0
    level = SCHEDULE.level(50.0, like=x)
    assert torch.allclose(student()(x, 50.0, to=0.0).x0, level.alpha * x)
    # To t = 1 it goes to the same end: no noise is added that the end depends on.
    *_, end = walk(DDIM().step, student(), x, [50.0, 1.0])
    assert torch.allclose(end.x, SCHEDULE.level(1.0, like=x).alpha * level.alpha * x, atol=1e-6)
    with pytest.raises(ArgumentError, match="has learned to jump from 50 to 0 in time, and nothing else"):
        student()(x, 50.0, to=25.0)


NETWORKS = [(MLP, (2,), {}), (UNet1d, (2,), {}), (SetNet, (16, 2), {"width": 8}),
            (UNet2d, (1, 8, 8), {"width": 8}), (DiT, (1, 8, 8), {"width": 16})]  # fmt: skip


@pytest.mark.parametrize(("network", "shape", "options"), NETWORKS)
def test_a_network_with_further_inputs_starts_as_the_one_without_and_learns_them(network, shape, options):
    torch.manual_seed(0)
    plain = network(shape, zero_init=False, **options)
    net = network(shape, numbers=2, zero_init=False, **options)
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all("from_numbers" in name for name in missing)
    x, level = torch.randn(4, *shape, generator=seeded()), torch.tensor([0.3])
    numbers = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 3.0]])
    assert torch.allclose(net(x, level, None, numbers), plain(x, level), atol=1e-6)
    g = seeded(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=g)
    same = net(x[:1].expand_as(x), level, None, numbers)
    assert torch.allclose(same[0], same[2], atol=1e-5)
    assert all((same[0] - same[k]).abs().max() > 1e-3 for k in (1, 3))
    for wrong in (None, numbers[:, :1]):
        with pytest.raises(ValueError, match="takes 2 numbers"):
            net(x, level, None, wrong)


def test_pseudo_huber_is_the_square_of_small_errors_and_the_size_of_large_ones():
    objective = Objective(loss="pseudo_huber", c=0.1)
    error = torch.tensor([[3e-3, -4e-3], [30.0, 40.0], [0.1, 0.1]])
    loss = objective.compare(error, torch.zeros_like(error), SCHEDULE.level(1.0, like=error), V())
    size = error.square().mean(1).sqrt()
    expected = [float(size[0]) ** 2 / 0.2, float(size[1]) - 0.1, 0.1 * 2**0.5 - 0.1]
    assert torch.allclose(loss, torch.tensor(expected), rtol=1e-3)


# The command.

SMALL = ["model.width=64", "batch_size=256", "stages.every=0", "plots=false", "trajectories=1600", "trajectory_steps=30",
         "sample_batch=500", "device=cpu", "checkpoint.every=100"]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a student of a Gaussian's exact denoiser, and one of a mixture's trained, guided network."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        line = ["distill", "run=exact", "dataset=gaussian1d", *SMALL, "steps=300", "n=1000"]
        assert main([*line, "hydra.run.dir=line"]) == 0
        few = ["steps=30", "plots=false", "stages.every=0", "model.width=16", "device=cpu"]
        assert main(["train", "dataset=gmm2px", *few, "hydra.run.dir=teacher"]) == 0
        halving = ["method=progressive", "rounds=3", "steps=450", "n=1000"]
        line = ["distill", "run=exact", "dataset=gaussian1d", *SMALL, *halving]
        assert main([*line, "hydra.run.dir=halved"]) == 0
        more = ["trajectories=600", "steps=200", "calls=4", "w_max=2", "ema.decay=0.9"]
        line = ["distill", "run=teacher", *SMALL, *more]
        assert main([*line, "hydra.run.dir=pixels"]) == 0
    return folder


@pytest.fixture
def cli(home, monkeypatch, capfd):
    monkeypatch.chdir(home)

    def run(*line):
        capfd.readouterr()
        code = main(list(line))
        return code, capfd.readouterr().err

    return run


def drawn(folder):
    return torch.from_numpy(np.load(Path(folder, "samples.npz"))["x0"])


def test_one_call_of_a_student_is_the_way_of_the_differential_equation(cli):
    from diffusion_cli.noise import NoiseStream

    for steps, near in ((1, 0.02), (2, 0.02)):
        code, error = cli(
            "sample", "run=line", f"sampler.steps={steps}", "plots=false", "hydra.run.dir=drawn"
        )
        assert code == 0, error
        x_T = NoiseStream(0, 1000, (1,))()
        assert (drawn("drawn") - on_path(x_T, 0.0)).abs().mean() < near
        shutil.rmtree("drawn")


def test_two_steps_at_once_again_and_again_lead_to_one_call(cli):
    """As eight steps of DDIM, of which one is far from."""
    from diffusion_cli.noise import NoiseStream

    code, error = cli("sample", "run=halved", "sampler.steps=1", "plots=false", "hydra.run.dir=one")
    assert code == 0, error
    x_T = NoiseStream(0, 1000, (1,))()
    times = [*torch.linspace(50, 1, 9, dtype=torch.float64).tolist()[:-1], 0.0]
    *_, eight = walk(DDIM().step, EXACT, x_T, times)
    *_, one = walk(DDIM().step, EXACT, x_T, [50.0, 0.0])
    assert (drawn("one") - eight.x).abs().mean() < 0.06 < 0.3 < (one.x - eight.x).abs().mean()
    assert len([*Path("halved/rounds").iterdir()]) == 2


def test_a_student_stands_alone_and_takes_the_weight_of_guidance(cli, home):
    shutil.move("teacher", "elsewhere")
    try:
        given = ["run=pixels", "n=64", "label=0", "plots=false"]
        for k, more in enumerate(
            (["guidance=cfg", "guidance.w=0"], ["guidance=none"], ["guidance=cfg", "guidance.w=2"])
        ):
            code, error = cli("sample", *given, *more, f"hydra.run.dir=w{k}")
            assert code == 0, error
        assert torch.equal(drawn("w0"), drawn("w1")) and not torch.equal(drawn("w0"), drawn("w2"))
        for steps in (1, 2):
            code, error = cli("sample", *given, f"sampler.steps={steps}", f"hydra.run.dir=s{steps}")
            assert code == 0, error
    finally:
        shutil.move("elsewhere", "teacher")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sample run=pixels sampler=dpmpp", "sampler: a student makes its own jumps, by sampler=ddim alone"),
        ("sample run=pixels sampler.steps=3", "sampler.steps: this student has learned to jump from 50 to 0"),
        ("sample run=pixels guidance=cfg guidance.w=3", "guidance.w=3: this student has learned weights from 0 to 2"),
        ("sample run=pixels guidance=cfg guidance.w=1 guidance.between=[0.2,2]",
         "guidance.between=[0.2,2]: a student has learned guidance at all noise levels alone"),
        ("sample run=line guidance=classifier guidance.run=exact label=0", "guidance: this student has learned none"),
        ("distill run=pixels", "run=pixels: is a student itself; name its teacher"),
        ("distill run=exact dataset=gaussian1d w_max=1", "w_max=1: guidance needs a teacher that was trained with labels"),
        ("distill run=teacher schedule.T=9", "schedule.T=9: comes from the run"),
        ("distill run=teacher calls=3", "calls=3: must be one of the choices; choose from 1, 2, 4"),
        ("train hydra.run.dir=pixels resume=true", "hydra.run.dir=pixels: holds what `distill` left"),
        ("distill run=exact dataset=gaussian1d hydra.run.dir=line", "hydra.run.dir=line: a run is already there"),
    ],
)  # fmt: skip
def test_what_a_student_cannot_do_is_said_in_a_line(cli, line, reason):
    before = {path for path in Path().rglob("*") if "line/" not in str(path)}
    code, error = cli(*line.split())
    last = error.strip().splitlines()[-1]
    assert code == 2 and last.startswith(f"error: {reason}"), error
    assert {path for path in Path().rglob("*") if "line/" not in str(path)} == before


def test_paths_that_were_drawn_are_kept_and_the_rest_has_the_same_bits(cli):
    """As after an interrupt among the paths, or later: what is there is taken, and the rest drawn."""
    whole = RunDirectory("line")
    assert len([*Path("line/paths").iterdir()]) == 7
    line = ["distill", "run=exact", "dataset=gaussian1d", *SMALL, "steps=300", "n=1000"]
    part = Path("part")
    shutil.copytree("line", part, ignore=shutil.ignore_patterns("checkpoints", "samples.npz", "summary.json"))
    for lot in (2, 6):
        RunDirectory(part).paths_file(lot).unlink()
    damaged = RunDirectory(part).paths_file(4)
    damaged.write_bytes(damaged.read_bytes()[:-8])
    kept = RunDirectory(part).paths_file(0).stat().st_mtime_ns
    code, error = cli(*line, "hydra.run.dir=part", "resume=true")
    assert code == 0, error
    assert RunDirectory(part).paths_file(0).stat().st_mtime_ns == kept
    ends = [checkpoint.load(run.checkpoints()[-1])["state"]["ema"] for run in (whole, RunDirectory(part))]
    assert checkpoint.digest(ends[0]) == checkpoint.digest(ends[1])
    assert json.loads(Path("part/summary.json").read_text())["status"] == "finished"


def test_a_student_fills_in_pixels_and_is_evaluated_and_drawn(cli):
    for line in ("sample inpaint=left_half n=8", "evaluate evaluation.n=50 evaluation.floor_draws=2 evaluation.draws=1",
                 "plot figure=trajectories"):  # fmt: skip
        code, error = cli(*line.split(), "run=pixels", f"hydra.run.dir=used/{line[:4]}")
        assert code == 0, error
    with np.load("used/samp/samples.npz") as painted:
        assert np.isfinite(painted["x0"]).all()
        known = np.broadcast_to(painted["mask"], painted["x0"].shape)
        assert np.allclose(painted["x0"][known], painted["original"][known])


def test_a_student_says_whose_network_it_has(cli):
    """In the plane its own; of sets and images its teacher's, with its teacher's optimizer."""
    assert RunDirectory("pixels").record.choices["model"] == "mlp_student"
    sets = "dataset=stars dataset.n=12 dataset.test=4 dataset.size=16 dataset.points=16 dataset.sample_points=16 model.width=16"
    few = "steps=2 n=2 plots=false stages.every=0 device=cpu"
    assert cli("train", *f"{sets} {few} optimizer=adam hydra.run.dir=stars".split())[0] == 0
    code, error = cli(
        "distill", *f"run=stars trajectories=4 trajectory_steps=2 {few} hydra.run.dir=taught".split()
    )
    assert code == 0, error
    choices = RunDirectory("taught").record.choices
    assert {group: choices[group] for group in ("dataset", "model", "optimizer", "objective")} == {
        "dataset": "stars",
        "model": "set",
        "optimizer": "adam",
        "objective": "pseudo_huber",
    }
    log = Path("taught/distill.log").read_text()
    assert "network    set," in log and ", adam with" in log
