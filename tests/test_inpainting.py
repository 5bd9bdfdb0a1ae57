"""In-painting: known pixels are exact, the others follow the exact conditional distribution, the better the more passes."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from diffusion_cli import schedule
from diffusion_cli.__main__ import main
from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.dataset.images import ImageDataset, Split
from diffusion_cli.dataset.stars import Stars
from diffusion_cli.denoiser import Batched, ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.guidance import ClassifierFree
from diffusion_cli.inpainting import Inpainting, Known, KnownReplaced, LikelihoodGuided, resampling_times
from diffusion_cli.noise import NoiseStream
from diffusion_cli.prediction import Prediction
from diffusion_cli.sampler import DDIM, DDPM, Heun, Multistep

SAMPLERS = [
    DDPM(),
    DDIM(steps=9),
    Multistep(steps=9),
    Heun(steps=6),
    DDIM(steps=9, eta=0.7),
    Multistep(steps=9, clip=0.5),
]
PIXELS = GaussianMixture()
LEFT = torch.tensor([True, False])


class Normal:
    """The exact denoiser of N(0, C) in any shape, C = 1 on the diagonal and rho elsewhere."""

    def __init__(self, shape, rho=0.9, T=50):
        self.shape, self.schedule = shape, schedule.loglinear(T)
        d = torch.Size(shape).numel()
        self.C = torch.full((d, d), rho).double().fill_diagonal_(1)

    def __call__(self, x_t, t, label=None, to=None):
        level = self.schedule.level(t, like=x_t)
        gain = torch.linalg.solve(
            level.alpha**2 * self.C + level.sigma**2 * torch.eye(len(self.C)), level.alpha * self.C
        )
        x0 = (x_t.flatten(1).double() @ gain).view(x_t.shape).to(x_t)
        return Prediction.from_x0(x0, x_t, level)


def repaint(sampler, passes=1, jump=1, between=None, guidance=0.0, batch=None):
    """Plain RePaint, in one pass where nothing else is asked for."""
    return Inpainting(sampler, passes, jump, between, guidance, batch)


def paint(inpainting, denoiser, x0, mask, seed=0, label=None):
    noise = NoiseStream(seed, len(x0), x0.shape[1:])
    return list(inpainting(denoiser, noise(), Known(x0, mask), label, noise))


# times


def test_every_time_is_left_as_often_as_algorithm_1_leaves_it():
    way = resampling_times([4, 3, 2, 1, 0], passes=3, jump=1)
    assert way == [4, 3, 4, 3, 4, 3, 2, 3, 2, 3, 2, 1, 2, 1, 2, 1, 0]
    assert resampling_times([5, 3, 0], 1, 7) == [5, 3, 0]
    assert resampling_times([1, 0], 5, 1) == [1, 0]  # t > 1 in line 8: there is nothing to go back to


@pytest.mark.parametrize(("passes", "jump"), [(2, 1), (3, 4), (10, 10), (2, 60)])
def test_stretches_are_walked_as_often_as_asked(passes, jump):
    """A stretch of `jump` steps is walked `passes` times, whole, as in figure 9 of the paper."""
    times = list(range(50, -1, -1))
    way = resampling_times(times, passes, jump)
    down = Counter((a, b) for a, b in itertools.pairwise(way) if b < a)
    backs = [(a, b) for a, b in itertools.pairwise(way) if b > a]
    assert all(b - a == jump for a, b in backs) and way[-1] == 0 and way[0] == 50
    assert set(down) == set(itertools.pairwise(times))
    covered = {step for a, b in backs for step in range(a, b)}
    assert all(count == (passes if t - 1 in covered else 1) for (t, _), count in down.items())


def test_stretches_are_walked_again_from_some_levels_alone():
    s = schedule.loglinear(50)
    own, way = (repaint(DDIM(), passes, between=[0.1, 1.0]).times(s) for passes in (1, 3))
    like = torch.zeros(1, dtype=torch.float64)
    levels = {t: s.level(t, like).noise_level.exp().item() for t in own[:-1]}
    turned = {a for a, b in itertools.pairwise(way) if b > a}
    assert turned == {t for t, level in levels.items() if 0.1 <= level <= 1.0} and 10 < len(turned) < 20
    assert repaint(DDIM(), 3, between=[1e-9, 1e9]).times(s) == repaint(DDIM(), 3).times(s)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 0}, "passes=0: must be a whole number >= 1"),
        ({"jump": 1.5}, "jump=1.5: must be a whole number >= 1"),
        ({"between": [1]}, r"between=\[1\]: must be a list of 2, each a number > 0, or null"),
        ({"between": (1.0, 0.1)}, r"between=\[1.0,0.1\]: the first level must be below the second"),
        ({"guidance": -1}, "guidance=-1: must be a number >= 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        Inpainting(DDIM(), **options)


# known pixels


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize(
    ("shape", "mask"),
    [
        ((2,), LEFT),
        ((1, 4, 6), torch.arange(6) < 3),
        ((3, 4, 4), torch.eye(4, dtype=torch.bool)),
        ((5, 2), (torch.arange(5) < 2)[:, None]),
    ],
)
def test_known_pixels_come_out_exact_whatever_the_sampler_and_the_shape(sampler, shape, mask):
    x0 = torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))
    for inpainting in (repaint(sampler, 2, 2), repaint(sampler, guidance=0.5, batch=4), Inpainting(sampler)):
        *_, last = paint(inpainting, Normal(shape, T=12), x0, mask)
        assert last.t == 0 and last.x.dtype == torch.float32 and last.x.isfinite().all()
        everywhere = mask.expand(x0.shape)
        assert torch.equal(last.x[everywhere], x0[everywhere])
        assert not (last.x == x0)[~everywhere].any()


def test_known_pixels_follow_the_forward_distribution_at_every_time():
    """x_t = alpha x0 + sigma eps with fresh standard normal eps, on the way down and back up alike."""
    x0 = torch.full((4000, 2), 1.7)
    denoiser = Normal((2,), T=10)
    states = paint(repaint(DDPM(), passes=2, jump=3), denoiser, x0, LEFT)
    assert any(b.t > a.t for a, b in itertools.pairwise(states))
    for state in states[:-1]:
        level = denoiser.schedule.level(state.t, x0)
        eps = (state.x[:, 0] - level.alpha * 1.7) / level.sigma
        assert stats.kstest(eps.numpy(), "norm").pvalue > 1e-4


def test_one_denoiser_serves_where_everything_is_known_but_a_pixel():
    """The wrapper predicts known pixels exactly, and leaves the others to the denoiser it wraps."""
    denoiser, x0 = Normal((3,)), torch.tensor([[0.3, -1.0, 2.0]])
    replaced = KnownReplaced(denoiser, Known(x0, torch.tensor([True, False, True])))
    x_t = torch.tensor([[0.5, 0.1, -0.2]])
    free, kept = denoiser(x_t, 20), replaced(x_t, 20)
    assert torch.equal(kept.x0[0, [0, 2]], x0[0, [0, 2]]) and kept.x0[0, 1] == free.x0[0, 1]
    level = denoiser.schedule.level(20, x_t)
    assert torch.allclose(level.alpha * kept.x0 + level.sigma * kept.eps, x_t, atol=1e-6)


# the others


def moments(inpainting, denoiser=None, y=1.5, n=2000):
    *_, last = paint(inpainting, denoiser or Normal((2,)), torch.full((n, 2), y), LEFT)
    return last.x[:, 1].mean().item(), last.x[:, 1].std().item()


@pytest.mark.parametrize(
    "sampler", [DDPM(), DDIM(steps=25), Multistep(steps=20), Heun(steps=15)], ids=lambda s: type(s).__name__
)
def test_passes_bring_the_conditional_distribution_of_a_gaussian(sampler):
    """x2 | x1 ~ N(rho x1, 1 - rho^2): mean 1.35, standard deviation 0.436."""
    bias = [1.35 - moments(repaint(sampler, passes))[0] for passes in (1, 3, 10)]
    assert bias[0] > 0.35 and bias[0] > bias[1] + 0.1 > bias[2] + 0.15
    assert abs(bias[2]) < 0.13
    assert moments(repaint(sampler, 10))[1] == pytest.approx(0.436, abs=0.05)


def test_the_gradient_of_the_likelihood_does_so_in_one_pass():
    plain, _ = moments(repaint(DDPM()))
    guided, spread = moments(repaint(DDPM(), guidance=1.0))
    assert abs(1.35 - guided) < 0.25 * (1.35 - plain) and spread == pytest.approx(0.436, abs=0.07)


def test_likelihood_guidance_is_exact_where_its_assumption_holds():
    """Var[x0 | x_t] = sigma^2 / (alpha^2 + sigma^2) for N(0, 1): then the guided score is that of x_t given x0 = y,
    (alpha y - x_t) / sigma^2, which is x0 = y for every x_t."""
    denoiser, y = Normal((1,), rho=0), torch.tensor([[0.8], [0.8], [0.8]])
    guided = LikelihoodGuided(denoiser, Known(y, torch.tensor([True])), 1.0)
    x_t = torch.tensor([[-2.0], [0.1], [1.0]])
    for t in (3, 25, 48):
        assert torch.allclose(guided(x_t, t).x0, y, atol=1e-3)


def test_every_point_may_have_a_time_and_a_label_of_its_own():
    x0, label, _ = PIXELS.draw(5, torch.Generator().manual_seed(0))
    x_t, t = torch.randn(5, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 10, 25, 40, 48])
    denoiser = ExactDenoiser(PIXELS.density, schedule.loglinear(50))
    together = LikelihoodGuided(denoiser, Known(x0, LEFT), 1.0, batch=2)(x_t, t, label)
    for i in range(5):
        alone = LikelihoodGuided(denoiser, Known(x0[i : i + 1], LEFT), 1.0)
        one = alone(x_t[i : i + 1], float(t[i]), label[i : i + 1])
        torch.testing.assert_close(together.eps[i : i + 1], one.eps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sampler", "worst"), [(DDPM(), 0.045), (Multistep(steps=20), 0.06)], ids=["ddpm", "dpmpp"]
)
def test_passes_bring_the_conditional_distribution_of_a_mixture(sampler, worst):
    """p(x2 | x1) = sum_k w_k N(x1; m_k1, s^2) N(x2; m_k2, s^2) / p(x1), by Kolmogorov's distance."""
    x1, (means, sigma, weight) = -0.3, (PIXELS.density.points, 0.1, torch.tensor([0.35, 0.65]))
    posterior = (weight.log() - (x1 - means[:, 0]) ** 2 / (2 * sigma**2)).softmax(0).tolist()

    def cdf(x):
        return sum(
            p * stats.norm.cdf(x, m, sigma) for p, m in zip(posterior, means[:, 1].tolist(), strict=True)
        )

    def distance(passes):
        denoiser = ExactDenoiser(PIXELS.density, schedule.loglinear(50))
        *_, last = paint(repaint(sampler, passes), denoiser, torch.full((1000, 2), x1), LEFT)
        return stats.kstest(last.x[:, 1].numpy(), cdf).statistic

    once, often = distance(1), distance(10)
    assert once > 0.15 and often < worst


def test_a_label_decides_where_the_known_pixel_does_not():
    """Both modes share their first pixel: without a label both come, with one only its own."""
    data = GaussianMixture(means=[[0.0, -1.0], [0.0, 1.0]], sigma=0.1, weights=[0.5, 0.5])
    denoiser, x0 = ExactDenoiser(data.density, schedule.loglinear(30)), torch.zeros(400, 2)
    label = torch.arange(400) % 2

    def fraction_right(w):
        *_, last = paint(
            repaint(Multistep(steps=15), 2), ClassifierFree(w=w)(denoiser), x0, LEFT, label=label
        )
        return ((last.x[:, 1] > 0) == label.bool()).float().mean().item()

    assert fraction_right(0.0) == 1 and fraction_right(1.0) == 1
    assert fraction_right(-1.0) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("sampler", [DDPM(), Multistep(steps=8)], ids=lambda s: type(s).__name__)
def test_a_completion_does_not_depend_on_how_many_are_drawn_or_on_the_batch(sampler):
    x0 = PIXELS.draw(600, torch.Generator().manual_seed(0)).x0

    def draw(n, size):
        inpainting = repaint(sampler, passes=2, jump=2, guidance=1.0, batch=size)
        denoiser = Batched(ExactDenoiser(PIXELS.density, schedule.loglinear(20)), size)
        return paint(inpainting, denoiser, x0[:n], LEFT, seed=7)[-1].x

    assert torch.equal(draw(300, 300), draw(600, 64)[:300])


def test_gradients_stay_off_within_and_on_outside():
    for state in repaint(DDIM(steps=2), guidance=1.0)(
        Normal((2,)), torch.zeros(1, 2), Known(torch.ones(1, 2), LEFT), None, lambda: torch.zeros(1, 2)
    ):
        assert torch.is_grad_enabled() and not state.x.requires_grad


# held-out data


def test_held_out_points_are_no_training_points_and_do_not_depend_on_their_number():
    pixels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 1, 2, 2)
    dataset = ImageDataset(
        Split(pixels[:20], None), Split(pixels[20:], torch.arange(20)), tuple("abcdefghijklmnopqrst")
    )
    x0, label, _ = dataset.held_out.distinct(20, seed=3)
    assert torch.equal(((x0[:, 0, 0, 0] + 1) * 127.5).round().long(), 20 + label) and set(
        label.tolist()
    ) == set(range(20))
    assert torch.equal(dataset.held_out.distinct(5, seed=3).x0, x0[:5])
    with pytest.raises(ArgumentError, match="n=21: must be at most 20: this dataset holds out no more"):
        dataset.held_out.distinct(21, seed=3)
    stars = Stars(n=24, test=8, size=96, points=32, sample_points=64)
    sets = stars.held_out.distinct(8, 0).x0
    assert sets.shape == (8, 64, 2) and all((stars.test[:, :64] == one).all((1, 2)).any() for one in sets)
    few, many = (PIXELS.held_out.distinct(n, 0) for n in (7, 700))
    assert torch.equal(few.x0, many.x0[:7]) and torch.equal(few.label, many.label[:7])


# the command


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def run(*line):
        capfd.readouterr()
        return main(list(line)), capfd.readouterr().err

    return run


def test_sample_completes_held_out_points(cli):
    line = ["sample", "run=exact", "dataset=gmm2px", "inpaint=left_half", "repaint.passes=4", "sampler=dpmpp",
            "sampler.steps=15"]  # fmt: skip
    code, error = cli(*line, "n=50", "completions=3", "hydra.run.dir=a")
    assert code == 0, error
    done = np.load("a/samples.npz")
    assert done["x0"].shape == (150, 2) == done["original"].shape and done["mask"].tolist() == [True, False]
    assert (done["x0"][:, 0] == done["original"][:, 0]).all() and (
        done["x0"][:, 1] != done["original"][:, 1]
    ).all()
    assert len(np.unique(done["original"][:3], axis=0)) == 1 and len(np.unique(done["x0"][:3], axis=0)) == 3
    assert (done["label"] == (done["original"][:, 0] > 0.2)).all()  # their own
    assert np.abs(done["x0"][:, 1] - done["original"][:, 1]).max() < 1  # the right mode, always
    summary = json.loads(Path("a/summary.json").read_text())
    assert (summary["inpaint"], summary["completions"], summary["repaint"]["passes"]) == ("left_half", 3, 4)
    assert Path("a/figures/inpainting.png").stat().st_size > 3000
    assert cli(*line, "n=7", "completions=3", "plots=false", "label=1", "hydra.run.dir=b")[0] == 0
    assert np.load("b/samples.npz")["label"].tolist() == [1] * 21
    assert cli(*line, "n=7", "completions=3", "plots=false", "hydra.run.dir=c")[0] == 0
    assert np.array_equal(np.load("c/samples.npz")["x0"], done["x0"][:21])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "inpaint=left_hal",
            "did you mean left_half? choose from left_half, right_half, box, random, FILE.npy",
        ),
        ("inpaint=[1]", "inpaint=[1]: must be one of the choices"),
        ("inpaint=none.npy", "inpaint=none.npy: No such file or directory"),
        ("inpaint=box", "inpaint=box: leaves no pixel known of images of 2"),
        ("inpaint=random completions=0", "completions=0: must be a whole number >= 1"),
        ("inpaint=random repaint.passes=0", "repaint.passes=0: must be a whole number >= 1"),
        (
            "inpaint=random repaint.between=[1]",
            "repaint.between=[1]: must be a list of 2, each a number > 0, or null",
        ),
        (
            "inpaint=random repaint.between=[2,1]",
            "repaint.between=[2,1]: the first level must be below the second",
        ),
        ("inpaint=random repaint.guidance=-1", "repaint.guidance=-1: must be a number >= 0"),
        ("inpaint=random repaint.r=2", "repaint.r"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(cli, tmp_path, line, message):
    code, error = cli("sample", "run=exact", "dataset=gmm2px", "n=5", *line.split())
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not list(tmp_path.iterdir())
