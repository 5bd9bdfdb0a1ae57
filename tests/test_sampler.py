"""Samplers against diffusers step by step, against exact distributions, and against their promises."""

import inspect
import itertools

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.dataset.plane import Ring
from diffusion_cli.denoiser import Batched, Clipped, ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.noise import NoiseStream
from diffusion_cli.sampler import DDIM, DDPM, Heun, Move, Multistep, Sampler, chain

RING = Ring(1.0)


def exact(T=50, make=schedule.loglinear):
    return ExactDenoiser(RING, make(T))


def replay(seed, shape):
    g = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=g, dtype=torch.float64)


def against(theirs, ours, denoiser, times, **step):
    """Max abs difference over a whole chain of ours and of a diffusers scheduler with the same noise."""
    x = y = replay(1, (64, 2))()
    theirs.alphas_cumprod = denoiser.schedule.alpha_bar[1:]  # the same table, in float64
    if "timesteps" in inspect.signature(theirs.set_timesteps).parameters:
        theirs.set_timesteps(timesteps=[t - 1 for t in times])
    else:
        theirs.set_timesteps(len(times))
    assert theirs.timesteps.tolist() == [t - 1 for t in times]
    g = torch.Generator().manual_seed(2)
    worst = 0.0
    states = list(ours(denoiser, x, None, replay(2, x.shape), [*times, 0]))[1:]
    for t, state in zip(times, states, strict=True):
        y = theirs.step(denoiser(y, t).eps, t - 1, y, generator=g, **step).prev_sample
        worst = max(worst, (state.x - y).abs().max().item())
    return worst


@pytest.mark.parametrize(("variance", "name"), [("posterior", "fixed_small"), ("beta", "fixed_large")])
@pytest.mark.parametrize("T", [50, 1000])
def test_ddpm_equals_diffusers(variance, name, T):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(T, variance_type=name, clip_sample=False)
    denoiser = exact(T, schedule.linear)
    assert against(theirs, DDPM(variance=variance), denoiser, list(range(T, 0, -1))) < 1e-5


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(eta):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(100, clip_sample=False)
    assert (
        against(theirs, DDIM(eta=eta), exact(100, schedule.linear), list(range(100, 0, -1)), eta=eta) < 1e-5
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers' own
@pytest.mark.parametrize("times", [list(range(100, 0, -1)), [100, 81, 64, 50, 33, 20, 11, 4, 1]])
def test_dpmpp_equals_diffusers(times):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DPMSolverMultistepScheduler(
        100, algorithm_type="dpmsolver++", solver_type="midpoint", final_sigmas_type="zero"
    )
    denoiser = exact(100, schedule.linear)
    theirs.alphas_cumprod = denoiser.schedule.alpha_bar[1:]
    assert against(theirs, Multistep(), denoiser, times) < 1e-5


def test_heun_agrees_with_an_adaptive_solver_of_the_same_ode():
    """d(x/alpha) / d(sigma/alpha) = eps, by scipy, down to the last noise level before the jump to 0."""
    scipy = pytest.importorskip("scipy.integrate")
    s = schedule.loglinear(50)
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)

    def slope(noise, y):
        level_t = s.time_of(torch.tensor([-2.0]).double() * torch.tensor(noise).log())
        alpha = s.level(float(level_t), x).alpha
        return ExactDenoiser(RING, s)(alpha * torch.tensor(y)[None], float(level_t)).eps[0].numpy()

    first, last = (s.level(t, x) for t in (50, 1))
    span = [(level.sigma / level.alpha).item() for level in (first, last)]
    truth = scipy.solve_ivp(slope, span, (x / first.alpha)[0].numpy(), rtol=1e-9, atol=1e-11).y[:, -1]
    *_, before, _ = Heun(steps=400)(ExactDenoiser(RING, s), x)
    assert torch.allclose(before.x / last.alpha, torch.tensor(truth), atol=2e-5)


@pytest.mark.parametrize("kind", ["DDIM", "Multistep", "Heun", "AdamsBashforth"])
def test_deterministic_samplers_converge_at_their_order(kind):
    """Error against a fine solution, over doublings of the steps: first order halves it, second order quarters it."""
    denoiser = exact(2000, schedule.loglinear)
    x = NoiseStream(0, 64, (2,))().double()

    def end(steps):
        *_, last = globals()[kind](steps=steps, grid="uniform")(denoiser, x)
        return last.x

    truth = end(1500)
    errors = [(end(steps) - truth).norm(dim=1).mean().item() for steps in (20, 40, 80)]
    order = 0.8 if kind == "DDIM" else 1.6
    assert errors[0] / errors[1] > 2**order and errors[1] / errors[2] > 2**order


@pytest.mark.parametrize("sampler", [DDPM(), DDPM(variance="posterior"), DDIM(eta=1.0)], ids=str)
def test_stochastic_samplers_reach_the_true_angles_and_radius(sampler):
    from scipy import stats

    *_, last = chain(sampler, exact(200), 4000, (2,), seed=3)
    angles = torch.atan2(last.x[:, 1], last.x[:, 0]).numpy()
    assert stats.kstest(angles, stats.uniform(-torch.pi, 2 * torch.pi).cdf).pvalue > 1e-3
    assert RING.distance(last.x).max() < 1e-3


def test_eta_one_is_ddpm_with_posterior_variance():
    x = replay(0, (8, 2))()
    a = [s.x for s in DDIM(eta=1.0)(exact(), x, None, replay(5, x.shape))]
    b = [s.x for s in DDPM(variance="posterior")(exact(), x, None, replay(5, x.shape))]
    assert all(torch.equal(*pair) for pair in zip(a, b, strict=True))


@pytest.mark.parametrize("sampler", [DDPM(), Multistep(steps=8)], ids=lambda s: type(s).__name__)
def test_a_sample_does_not_depend_on_how_many_are_drawn_or_on_the_batch(sampler):
    def draw(n, size):
        *_, last = chain(sampler, Batched(exact(), size), n, (2,), seed=7)
        return last.x

    few, many = draw(300, 300), draw(1000, 64)
    assert torch.equal(few, many[:300])


@pytest.mark.parametrize("grid", ["uniform", "log_snr", "rho"])
@pytest.mark.parametrize("steps", [1, 2, 10, 50, 333])
def test_time_grids_fall_from_T_through_one_to_zero(grid, steps):
    times = DDIM(steps, grid).times(schedule.cosine(50))
    assert len(times) == steps + 1
    assert times[0] == 50 and times[-1] == 0 and all(a > b for a, b in itertools.pairwise(times))
    if steps > 1:
        assert times[-2] == pytest.approx(1)


def test_the_full_grid_is_every_time():
    assert DDIM().times(schedule.cosine(50)) == [float(t) for t in range(50, -1, -1)]


def test_grids_are_even_in_what_they_say():
    s = schedule.cosine(50)
    like = torch.zeros(1, dtype=torch.float64)

    def noise_levels(grid):
        times = DDIM(12, grid, rho=7.0).times(s)[:-1]
        return torch.cat([s.level(t, like).noise_level for t in times])

    even = noise_levels("log_snr")
    assert torch.allclose(even.diff(), even.diff().mean().expand(11))
    root = noise_levels("rho").div(7).exp()
    assert torch.allclose(root.diff(), root.diff().mean().expand(11))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDIM(grid="linear"), "grid=linear: must be .*choose from uniform, log_snr, rho"),
        (lambda: DDIM(steps=0), "steps=0: must be a whole number"),
        (lambda: DDIM(eta=2), r"eta=2: must be a number in \[0, 1\]"),
        (lambda: Multistep(rho=0), "rho=0: must be a number > 0"),
        (lambda: Heun(clip="x"), "clip=x: must be a number > 0, or .*null; choose from data"),
        (lambda: DDPM(variance="small"), "variance=small: .*choose from beta, posterior, analytic, learned"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_stochastic_sampler_without_noise_says_so():
    with pytest.raises(ArgumentError, match="noise=null: this sampler draws noise"):
        list(DDPM()(exact(), torch.zeros(1, 2)))


class AdamsBashforth(Sampler):
    """A user's sampler: Adams and Bashforth's method of second order on d(x/alpha) / d(sigma/alpha) = eps."""

    memory = 1

    def step(self, move):
        now, then, slope = move.now, move.then, move.prediction.eps
        if move.s == 0:
            return move.prediction.x0
        h = then.sigma / then.alpha - now.sigma / now.alpha
        for before, prediction in move.past:
            last = now.sigma / now.alpha - before.sigma / before.alpha
            slope = slope + h / last / 2 * (slope - prediction.eps)
        return then.alpha * (move.x / now.alpha + h * slope)


class Euler(Sampler):
    """A user's sampler: Euler's method on the same equation, which is DDIM."""

    def step(self, move):
        h = move.then.sigma / move.then.alpha - move.now.sigma / move.now.alpha
        return move.then.alpha * (move.x / move.now.alpha + h * move.prediction.eps)


def test_a_users_euler_is_ddim():
    x = replay(0, (8, 2))()
    states = zip(Euler(steps=9)(exact(), x), DDIM(steps=9)(exact(), x), strict=True)
    assert all(torch.allclose(a.x, b.x, atol=1e-6) for a, b in states)


def test_a_move_holds_what_the_chain_was_and_no_more():
    """The levels, x and predictions of the times before, as many as the sampler wants; and a bound denoiser."""
    moves: list[Move] = []

    class Watching(Euler):
        memory = 2

        def step(self, move):
            moves.append(move)
            return super().step(move)

    denoiser, x = exact(), replay(0, (8, 2))()
    states = list(Watching(steps=5)(denoiser, x, None, replay(1, (8, 2))))
    assert [len(move.past) for move in moves] == [0, 1, 2, 2, 2]
    for k, (move, state) in enumerate(zip(moves, states[:-1], strict=True)):
        assert (move.t, move.s) == (state.t, states[k + 1].t) and torch.equal(move.x, state.x)
        assert states[k + 1].prediction is move.prediction
        assert torch.equal(move.denoise(move.x, move.t).eps, denoiser(state.x, state.t).eps)
        for visit, before in zip(move.past, moves[k - 1 :: -1], strict=False):
            assert visit == (before.now, before.prediction)
    assert moves[0].noise().shape == x.shape


def test_clipping_keeps_x0_inside_and_the_pair_consistent():
    d = exact()
    x = 3 * replay(0, (50, 2))()
    clipped = Clipped(d, 0.5)(x, 10)
    level = d.schedule.level(10, x)
    assert clipped.x0.abs().max() <= 0.5
    assert torch.allclose(level.alpha * clipped.x0 + level.sigma * clipped.eps, x)


def test_gradients_stay_on_for_the_caller_between_states():
    for _ in DDIM(steps=2)(exact(), torch.zeros(1, 2)):
        assert torch.is_grad_enabled()
