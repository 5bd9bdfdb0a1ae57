"""Guidance, reverse variances and classifiers against the exact distributions of a mixture."""

import pytest
import torch

from diffusion_cli import schedule
from diffusion_cli.dataset.exact import GaussianMixture
from diffusion_cli.denoiser import Batched, ExactDenoiser, MeasuredVariance, NetworkDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.forward import jump_variance, learned_variance, posterior, step_bound
from diffusion_cli.guidance import AutoGuidance, ClassifierFree, ClassifierGuidance, ExactClassifier, Unguided
from diffusion_cli.model.mlp import MLP
from diffusion_cli.objective import Hybrid, TrainingBatch
from diffusion_cli.prediction import Eps, V
from diffusion_cli.sampler import DDPM, chain

PIXELS = GaussianMixture([[-0.35, 0.65], [0.75, -0.45]], sigma=0.1, weights=[0.35, 0.65])
DENSITY = PIXELS.density


@pytest.fixture
def exact():
    return ExactDenoiser(DENSITY, schedule.loglinear(50))


@pytest.fixture
def points():
    g = torch.Generator().manual_seed(0)
    return torch.randn(200, 2, generator=g, dtype=torch.float64), torch.randint(0, 2, (200,), generator=g)


@pytest.mark.parametrize("t", [1, 10, 30, 50])
def test_classifier_free_guidance_at_its_two_landmarks(exact, points, t):
    x, label = points
    guided = {w: ClassifierFree(w=w)(exact)(x, t, label) for w in (-1.0, 0.0, 2.0)}
    assert torch.allclose(guided[0.0].eps, exact(x, t, label).eps)
    assert torch.allclose(guided[-1.0].eps, exact(x, t, None).eps)
    mix = 3 * exact(x, t, label).eps - 2 * exact(x, t, None).eps
    assert torch.allclose(guided[2.0].eps, mix)
    level = exact.schedule.level(t, x)
    assert torch.allclose(level.alpha * guided[2.0].x0 + level.sigma * guided[2.0].eps, x, atol=1e-6)


@pytest.mark.parametrize("t", [1, 10, 30, 50])
def test_the_exact_classifier_turns_the_unconditional_score_into_the_conditional_one(exact, points, t):
    """grad log p(x | y) = grad log p(x) + grad log p(y | x), so s = 1 is w = 0."""
    x, label = points
    steered = ClassifierGuidance(ExactClassifier(DENSITY), s=1.0)(exact)(x, t, label)
    given = exact(x, t, label)
    assert torch.allclose(steered.eps, given.eps, atol=1e-5)
    assert torch.allclose(steered.x0, given.x0, atol=1e-4)


def test_without_a_label_nothing_is_guided(exact, points):
    x, _ = points
    for guidance in (Unguided(), ClassifierGuidance(ExactClassifier(DENSITY), s=5.0), ClassifierFree(w=3.0)):
        assert torch.allclose(guidance(exact)(x, 20).eps, exact(x, 20).eps)


def test_only_a_mixture_has_an_exact_classifier():
    from diffusion_cli.dataset.plane import Ring

    with pytest.raises(ArgumentError, match="density=Ring: only a density with labels"):
        ExactClassifier(Ring())


@pytest.mark.parametrize("t", [20, 30, 45])
def test_measured_variance_is_the_mean_conditional_variance(exact, t):
    """Against the law of total variance: E Var[x0 | x_t] = E|x0|^2 - E|E[x0 | x_t]|^2, on other draws."""
    g = torch.Generator().manual_seed(5)
    x0 = PIXELS.draw(100_000, g).x0.double()
    level = exact.schedule.level(t, x0)
    x_t = level.alpha * x0 + level.sigma * torch.randn(x0.shape, generator=g, dtype=torch.float64)
    truth = (
        x0.square().mean() - DENSITY.posterior_mean(x_t, level.alpha, level.sigma).square().mean()
    ).item()

    class Free:
        num_classes, shape = 0, (2,)

        def draw(self, n, generator):
            return PIXELS.draw(n, generator)._replace(label=None)

    ours = MeasuredVariance(exact, Free(), seed=0).variance(float(t)).item()
    assert ours == pytest.approx(truth, rel=0.05)


def widths(variance):
    denoiser = MeasuredVariance(ExactDenoiser(DENSITY, schedule.cosine(50)), PIXELS, 0)
    label = torch.arange(6000) % 2
    *_, last = chain(DDPM(variance=variance), denoiser, 6000, (2,), seed=1, label=label)
    return [last.x[label == k].std(0).mean().item() / 0.1 for k in (0, 1)]


def test_analytic_variance_keeps_the_modes_width_and_the_posteriors_shrinks_it():
    for analytic, small in zip(widths("analytic"), widths("posterior"), strict=True):
        assert analytic == pytest.approx(1.0, abs=0.05)
        assert small < 0.95


def test_learned_variance_runs_from_the_posteriors_to_beta():
    s, like = schedule.cosine(50), torch.zeros(1, dtype=torch.float64)
    now, then = s.level(30, like), s.level(29, like)
    low, high = (learned_variance(torch.tensor(weight), now, then) for weight in (0.0, 1.0))
    assert torch.allclose(low, posterior(now, then).variance) and torch.allclose(
        high, jump_variance(now, then)
    )


def test_step_bound_is_torchs_kl():
    """Against torch.distributions, for the step t -> t - 1; at t = 1 the negative log density."""
    from torch.distributions import Normal, kl_divergence

    s = schedule.linear(100)
    x0, predicted, x_t = torch.randn(3, 100, 1, dtype=torch.float64)
    t = torch.arange(1, 101)
    level = s.level(t, x0)
    q = posterior(level, level.before)
    variance = learned_variance(torch.full_like(x0, 0.3), level, level.before)
    bound = step_bound(x0 - predicted, variance, level)
    means = [q.of_x0 * x + q.of_x_t * x_t for x in (x0, predicted)]
    p = Normal(means[1], variance.sqrt())
    kl = kl_divergence(Normal(means[0][1:], q.variance[1:].sqrt()), Normal(means[1][1:], variance[1:].sqrt()))
    assert torch.allclose(bound[1:], kl, rtol=1e-6)
    assert torch.allclose(bound[0], -p.log_prob(means[0])[0], rtol=1e-6)


def test_the_hybrid_objective_moves_the_mean_by_the_simple_loss_alone():
    torch.manual_seed(0)
    s, objective = schedule.cosine(20), Hybrid(vlb=10.0)
    net = MLP((2,), width=16, depth=1, outputs=2, zero_init=False)
    denoiser = NetworkDenoiser(net, Eps(), s)
    x0, eps = torch.randn(2, 64, 2)
    batch = TrainingBatch(x0, torch.randint(1, 21, (64,)), eps)
    of_mean = net.head.weight[:2]  # the rows that put out eps
    with_bound = torch.autograd.grad(objective(denoiser, batch).mean(), net.head.weight)[0]
    simple = torch.autograd.grad(Hybrid(vlb=0.0)(denoiser, batch).mean(), net.head.weight)[0]
    assert of_mean.shape == (2, 16)
    assert torch.allclose(with_bound[:2], simple[:2], atol=1e-7)
    assert with_bound[2:].abs().max() > 0 and simple[2:].abs().max() == 0


def test_a_network_with_two_outputs_predicts_its_variance():
    torch.manual_seed(0)
    s, x = schedule.cosine(20), torch.randn(7, 2)
    net = MLP((2,), width=16, depth=1, outputs=2, zero_init=False)
    prediction = Batched(NetworkDenoiser(net, V(), s), 3)(x, 10)
    level = s.level(10, x)
    q = posterior(level, level.before)
    of_step = q.variance + q.of_x0**2 * prediction.variance
    weight = net(x, level.noise_level.float())[:, 1].sigmoid()
    assert torch.allclose(of_step, learned_variance(weight, level, level.before), rtol=1e-4)
    *_, last = chain(DDPM(variance="learned"), NetworkDenoiser(net, V(), s), 5, (2,), seed=0)
    assert last.x.isfinite().all()


def test_a_denoiser_without_a_variance_says_so(exact):
    with pytest.raises(ArgumentError, match=r"variance=learned.*objective=hybrid"):
        list(chain(DDPM(variance="learned"), exact, 4, (2,), seed=0))


def test_guidance_by_a_classifier_is_the_same_in_batches(exact, points):
    """With a variance that is one number for all, too, as the analytic one is."""
    x_t, label = points

    class WithVariance:
        schedule = exact.schedule

        def __call__(self, x_t, t, label=None, to=None):
            return exact(x_t, t, None)._replace(variance=torch.tensor(0.25))

    steered = ClassifierGuidance(ExactClassifier(DENSITY))(WithVariance())
    whole, parts = steered(x_t, 5.0, label), Batched(steered, 64)(x_t, 5.0, label)
    torch.testing.assert_close(parts.eps, whole.eps)
    torch.testing.assert_close(parts.x0, whole.x0)
    assert parts.variance == 0.25


@pytest.mark.parametrize("t", [1, 10, 30, 50])
def test_autoguidance_leads_away_from_the_worse_model(exact, points, t):
    """The worse one knows wider modes: the result is that of log p + w (log p - log p_wide)."""
    x, label = points
    wide = GaussianMixture([[-0.35, 0.65], [0.75, -0.45]], sigma=0.3, weights=[0.35, 0.65]).density
    guided = AutoGuidance(ExactDenoiser(wide, exact.schedule), w=1.5)(exact)(x, t, label)
    level = exact.schedule.level(t, x)
    score = 2.5 * DENSITY.score(x, level.alpha, level.sigma, label) - 1.5 * wide.score(
        x, level.alpha, level.sigma, label
    )
    assert torch.allclose(guided.eps, -level.sigma * score, atol=1e-8)
    assert torch.allclose(level.alpha * guided.x0 + level.sigma * guided.eps, x, atol=1e-8)


@pytest.mark.parametrize("guidance", [ClassifierFree, AutoGuidance])
def test_guidance_acts_between_two_noise_levels_and_costs_nothing_elsewhere(exact, points, guidance):
    x, label = points
    calls = []

    def counted(x_t, t, label=None, to=None):
        calls.append(t)
        return exact(x_t, t, label, to)

    counted.schedule = exact.schedule
    given = {} if guidance is ClassifierFree else {"weak": counted}
    bound = guidance(**given, w=2.0, between=[0.1, 1.0])(counted)
    free = guidance(**given, w=2.0)(counted)
    ratio = (-exact.schedule.log_snr / 2).exp()
    for t in range(1, 51):
        inside = 0.1 <= ratio[t] <= 1.0
        expected = (free if inside else exact)(x, t, label).eps
        calls.clear()
        assert torch.equal(bound(x, t, label).eps, expected)
        assert len(calls) == (2 if inside else 1)
    each = torch.linspace(1, 50, 200, dtype=torch.float64)
    at = bound(x, each, label).eps
    for k in (0, 60, 130, 199):
        assert torch.allclose(at[k], bound(x[k : k + 1], float(each[k]), label[k : k + 1]).eps[0])
    with pytest.raises(ArgumentError, match="the first level must be below the second"):
        guidance(**given, between=[2, 1])
