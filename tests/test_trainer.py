"""Training: pure batches, bitwise resume, and the learning rate, the average and the loss as they are defined."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from diffusion_cli import schedule
from diffusion_cli.batches import Batches
from diffusion_cli.dataset.plane import Circle
from diffusion_cli.denoiser import ExactDenoiser, NetworkDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.mlp import MLP
from diffusion_cli.model.network import matrices
from diffusion_cli.objective import Classification, Hybrid, Objective
from diffusion_cli.optimizer import Flat, Optimizer, orthogonal
from diffusion_cli.prediction import X0, Eps, Mean, V
from diffusion_cli.runs import checkpoint
from diffusion_cli.trainer import TrainState, fit


def parts(**options):
    torch.manual_seed(0)
    state = TrainState.start(MLP((2,), width=16, depth=1), Optimizer(**({"warmup": 5} | options)))
    batches = Batches(Circle(), schedule.loglinear(20), Objective(), size=32, seed=3)
    return state, NetworkDenoiser(state.net, V(), batches.schedule), batches


def run(state, denoiser, batches, steps, until=None):
    for now in fit(state, denoiser, batches, steps):
        if now.step == until:
            break
    return state


def test_a_batch_is_a_function_of_seed_and_step():
    *_, batches = parts()
    a, b, other = batches(7), batches(7), batches(8)
    assert torch.equal(a.x0, b.x0) and torch.equal(a.t, b.t) and torch.equal(a.eps, b.eps)
    assert not torch.equal(a.x0, other.x0) and not torch.equal(a.eps, other.eps)


@pytest.mark.parametrize("kind", ["adam", "adamw", "muon"])
def test_resume_through_a_file_is_bitwise_equal(tmp_path, kind):
    straight = run(*parts(kind=kind), steps=60)
    half = run(*parts(kind=kind), steps=60, until=23)
    checkpoint.save(tmp_path / "x.pt", half.state_dict())
    state, *rest = parts(kind=kind)
    state.load_state_dict(checkpoint.load(tmp_path / "x.pt"))
    resumed = run(state, *rest, steps=60)
    assert checkpoint.digest(resumed.state_dict()) == checkpoint.digest(straight.state_dict())
    assert resumed.log() == straight.log()


def test_learning_rate_ramps_up_then_falls_as_a_cosine():
    o = Optimizer(lr=2.0, warmup=10)
    assert [o.lr_at(k, 110) for k in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
    assert o.lr_at(60, 110) == pytest.approx(1.0) and o.lr_at(109, 110) < 1e-3
    assert Optimizer(lr=2.0, warmup=0, decay="constant").lr_at(99, 100) == 2.0


def test_the_average_is_an_exponential_one_with_a_ramp():
    state, denoiser, batches = parts()
    mine = [p.detach().clone() for p in state.net.parameters()]
    for k, now in enumerate(fit(state, denoiser, batches, 30, ema_decay=0.9)):
        decay = min(0.9, (1 + k) / (10 + k))
        mine = [decay * m + (1 - decay) * p.detach() for m, p in zip(mine, now.net.parameters(), strict=True)]
    for a, b in zip(mine, state.ema.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("clip", [1e-3, None])
def test_gradients_are_clipped_to_the_bound(clip):
    """Adam's first average of the gradient is 1 - beta1 of what came through."""
    state, *rest = parts(betas=(0.9, 0.99), clip=clip)
    norm = run(state, *rest, steps=1).log()["grad_norm"]
    assert norm > 1e-2
    assert state.optimizer.exp_avg.norm().item() == pytest.approx(0.1 * (clip or norm), rel=1e-3)


@pytest.mark.parametrize(("kind", "theirs"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_update_is_that_of_torch(kind, theirs):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last)
    other = copy.deepcopy(net)
    optimizer = Optimizer(kind=kind, weight_decay=0.1)
    ours = optimizer.build(Flat(net.parameters()))
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    torchs = theirs(other.parameters(), lr=1.0, betas=optimizer.betas, weight_decay=0.1)
    for k in range(20):
        x = torch.randn(2, 3, 8, 8)
        for each in (net, other):
            each(x).square().mean().backward()
        lr = torchs.param_groups[0]["lr"] = 0.1 / (k + 1)
        ours.step(lr)
        torchs.step()
        torchs.zero_grad()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_matrices_move_as_torchs_muon_moves_them():
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        pytest.skip("torch.optim.Muon came with torch 2.9")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 32), nn.Conv2d(16, 24, 3), nn.Linear(32, 2), nn.Embedding(40, 32))
    net.to(memory_format=torch.channels_last)
    other = copy.deepcopy(net)
    optimizer = Optimizer(kind="muon", weight_decay=0.1, clip=None)
    ours = optimizer.build(Flat(net.parameters()), matrices(net))
    rest = [p for name, p in other.named_parameters() if name not in ("0.weight", "1.weight")]
    # theirs takes flat matrices alone
    flat = [other[0].weight, nn.Parameter(other[1].weight.detach().permute(0, 2, 3, 1).flatten(1))]
    adamw = torch.optim.AdamW(rest, lr=1.0, betas=optimizer.betas, weight_decay=0.1)
    theirs = muon(flat, lr=1.0, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for k in range(5):
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            p.grad.copy_(torch.randn(p.shape))
            q.grad = p.grad.clone()
        flat[1].grad = other[1].weight.grad.permute(0, 2, 3, 1).flatten(1)
        lr = adamw.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 0.1 / (k + 1)
        ours.step(lr)
        adamw.step()
        theirs.step()
    other[1].weight.data = flat[1].detach().view(24, 3, 3, 16).permute(0, 3, 1, 2)
    for (name, a), b in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30)])
def test_the_orthogonal_factor_is_that_of_the_singular_values(shape):
    torch.manual_seed(0)
    G = torch.randn(shape)
    U, _, V = torch.linalg.svd(G, full_matrices=False)
    inside = U.T @ orthogonal(G) @ V.T
    assert inside.diagonal().min() > 0.4 and inside.diagonal().max() < 1.6
    assert (inside - inside.diagonal().diag()).abs().max() < 0.1


def test_frozen_parameters_stay_and_buffers_are_shared_with_the_average():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net[0].bias.requires_grad_(False)
    state = TrainState.start(net, Optimizer())
    assert len(state.weights.values) == 6 + 3 + 3
    net(torch.randn(50, 2) + 5)
    assert torch.equal(state.ema[1].running_mean, net[1].running_mean) and net[1].running_mean.any()


def test_parameters_of_two_types_are_refused():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2).half())
    with pytest.raises(ArgumentError, match="must be of one type"):
        TrainState.start(net, Optimizer())


def test_training_learns_the_circle():
    """A third of what the loss has above its floor is gone between the first 50 and the last 50 of 600 steps."""
    state, denoiser, batches = parts(lr=1e-2)
    exact = ExactDenoiser(batches.dataset.density, batches.schedule)
    floor = batches.objective.irreducible(exact, V(), replace(batches, size=20_000)(0)).mean().item()
    first = run(state, denoiser, batches, 600, until=50).log()["loss"]
    run(state, denoiser, batches, 600, until=550).log()
    last = run(state, denoiser, batches, 600).log()["loss"]
    assert floor < last and last - floor < 0.7 * (first - floor)


@pytest.mark.parametrize("p", [Eps(), X0(), V(), Mean()], ids=str)
@pytest.mark.parametrize("weighting", ["simple", "vlb", "min_snr"])
def test_every_weighting_is_one_weight_on_the_error_of_eps(p, weighting):
    """Whatever the network puts out, vlb and min_snr weigh the same prediction alike."""
    s, g = schedule.cosine(30), torch.Generator().manual_seed(0)
    t = torch.arange(2, 31)
    x0, eps, wrong = torch.randn(3, len(t), 2, generator=g, dtype=torch.float64)
    level = s.level(t, x0)
    x_t = level.alpha * x0 + level.sigma * eps
    output = p.target(x0, eps, level) + 1e-2 * wrong * torch.as_tensor(p.gain(level))
    loss = Objective(weighting=weighting, gamma=5.0).compare(output, p.target(x0, eps, level), level, p)
    error = (p.decode(output, x_t, level).eps - eps).square().mean(1)
    alpha_bar, before = s.alpha_bar[t], s.alpha_bar[t - 1]
    beta, snr = 1 - alpha_bar / before, alpha_bar / (1 - alpha_bar)
    truth = {
        "simple": torch.as_tensor(p.gain(level), dtype=torch.float64).flatten() ** 2,
        "vlb": beta**2
        / (2 * beta * (1 - beta) * (1 - alpha_bar)),  # Ho et al. 2020, eq. 12, sigma_q^2 = beta
        "min_snr": snr.clamp(max=5) / snr,
    }[weighting]
    assert torch.allclose(loss, truth * error, rtol=1e-5)


def test_losses_are_torchs_per_sample():
    x0, eps = torch.randn(2, 4, 3)
    s = schedule.cosine(10)
    level = s.level(torch.tensor([1, 4, 7, 10]), x0)
    for name, truth in (("l1", nn.L1Loss), ("mse", nn.MSELoss), ("huber", nn.HuberLoss)):
        loss = Objective(loss=name).compare(x0, eps, level, V())
        assert torch.allclose(loss, torch.stack([truth()(a, b) for a, b in zip(x0, eps, strict=True)]))


@pytest.mark.parametrize("times", ["uniform", "stratified", "lognormal"])
def test_times_have_the_distribution_that_they_name(times):
    s, g = schedule.loglinear(50), torch.Generator().manual_seed(0)
    t = Objective(times=times, mean=-1.0, std=0.7).draw_times(s, 50_000, g)
    assert t.min() >= 1 and t.max() <= 50
    if times == "lognormal":
        noise_level = s.level(t, torch.zeros(1)).noise_level.double()
        assert noise_level.mean().item() == pytest.approx(-1.0, abs=0.02)
        assert noise_level.std().item() == pytest.approx(0.7, abs=0.02)
    else:
        counts = torch.bincount(t, minlength=51)[1:].double() / 1000
        assert (counts - 1).abs().max() < (0.15 if times == "uniform" else 0.002)


def test_no_network_beats_the_exact_denoisers_loss():
    """The floor is the loss of the exact denoiser; any other output on the same draws does worse on average."""
    circle, s, o = Circle(), schedule.loglinear(20), Objective()
    batches = Batches(circle, s, o, 20_000, seed=1)
    x0, t, eps, _, _ = batches(0)
    exact = ExactDenoiser(circle.density, s)
    floor = o.irreducible(exact, V(), batches(0)).mean()
    level = s.level(t, x0)
    x_t = level.alpha * x0 + level.sigma * eps
    best = exact(x_t, t)
    for factor in (0.97, 1.03):
        worse = o.compare(
            V().target(factor * best.x0, best.eps, level), V().target(x0, eps, level), level, V()
        ).mean()
        assert worse > floor


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective(loss="mea"), "loss=mea: must be one of the choices; did you mean mse"),
        (lambda: Objective(weighting="snr"), "weighting=snr"),
        (lambda: Objective(times="normal"), "times=normal"),
        (lambda: Objective(std=0), "std=0: must be a number > 0"),
        (lambda: Objective(loss="l1", weighting="vlb"), "weighting=vlb: is defined for loss=mse, not l1"),
        (lambda: Objective(loss="l1", targets="stable"), "targets=stable: is for the loss mse alone"),
        (lambda: Hybrid(targets="stable"), "targets=stable: is for the loss mse alone"),
        (lambda: Hybrid(vlb=-1), "vlb=-1: must be a number >= 0"),
        (lambda: Classification(mean=math.nan), "mean=nan: must be a number"),
        (lambda: Optimizer(kind="sgd"), "kind=sgd"),
        (lambda: Optimizer(betas=(0.9,)), "betas=.*must be a list of 2"),
        (lambda: Optimizer(lr=0.0), "lr=0.0: must be a number > 0"),
        (lambda: Optimizer(decay="cosin"), "did you mean cosine"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_the_loss_is_logged_by_noise_level():
    s, o = schedule.loglinear(20), Objective(times="lognormal", mean=0.0, std=2.0)
    batches = Batches(Circle(), s, o, size=32, seed=3)
    torch.manual_seed(0)
    net = MLP((2,), width=8, depth=1)
    state = TrainState.start(net, Optimizer(lr=1e-30), levels=[0.1, 1.0, 10.0])
    denoiser = NetworkDenoiser(net, V(), s)
    expected = {"loss_0.1_1": [], "loss_1_10": []}
    for step in range(5):
        batch = batches(step)
        ratio = s.level(batch.t, like=batch.x0).noise_level.exp()
        for (low, high), name in zip(((0.1, 1), (1, 10)), expected, strict=True):
            expected[name].append(o(denoiser, batch)[(ratio > low) & (ratio <= high)])
    for _ in fit(state, denoiser, batches, 5):
        pass
    row = state.log()
    for name, losses in expected.items():
        assert row[name] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert all(math.isnan(state.log()[name]) for name in expected)  # nothing drawn since
