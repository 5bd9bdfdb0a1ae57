"""Exact densities against numerical quadrature, automatic differentiation and scipy: independent truths."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import logsumexp
from torch import Tensor

from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.plane import Ring
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.segments import Segments, truncated_normal

# Noise to signal ratios; with alpha^2 + sigma^2 = 1 they give the levels below.
RATIOS = (1e-3, 0.02, 0.3, 1.0, 5.0, 20.0)
LEVELS = [(1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)) for ratio in RATIOS]
STROKES = (
    np.array([[-1.0, -0.6], [0.9, -0.8], [0.4, 0.7], [-1.0, -0.6]]),
    np.array([[-0.9, 0.9], [-0.9, 0.903], [-0.2, 1.0]]),
)
ATOMS = np.array([[-0.35, 0.65], [0.75, -0.45], [0.1, 0.1]])
ATOM_WEIGHTS = np.array([0.3, 0.5, 0.2])


def ring(jitter: float = 0.0) -> Density:
    return Ring(0.9, jitter=jitter)


def segments(jitter: float = 0.0) -> Density:
    return Segments([torch.from_numpy(stroke) for stroke in STROKES], jitter=jitter)


def points(jitter: float = 0.0) -> Density:
    return Points(torch.from_numpy(ATOMS), torch.from_numpy(ATOM_WEIGHTS * 7), labelled=True, jitter=jitter)


def ring_nodes() -> tuple[np.ndarray, np.ndarray]:
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    return 0.9 * np.stack((np.cos(angle), np.sin(angle)), 1), np.full(len(angle), 1 / len(angle))


def segment_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Composite Gauss-Legendre over arc length, in panels shorter than the least noise."""
    node, node_weight = np.polynomial.legendre.leggauss(6)
    nodes, weights = [], []
    for stroke in STROKES:
        for start, end in itertools.pairwise(stroke):
            length = np.linalg.norm(end - start)
            count = math.ceil(length / 9e-4)
            at = ((np.arange(count)[:, None] + (node + 1) / 2) / count).ravel()
            nodes.append(start + at[:, None] * (end - start))
            weights.append(np.tile(node_weight, count) * length / count / 2)
    return np.concatenate(nodes), np.concatenate(weights) / np.concatenate(weights).sum()


DENSITIES = {
    "ring": (ring, ring_nodes()),
    "segments": (segments, segment_nodes()),
    "points": (points, (ATOMS, ATOM_WEIGHTS)),
}


@pytest.fixture(params=DENSITIES)
def case(request: pytest.FixtureRequest) -> tuple:
    return DENSITIES[request.param]


def noised(density: Density, alpha: float, sigma: float, n: int = 12) -> Tensor:
    """Points of x_t, spread wider than they would be, and the origin."""
    generator = torch.Generator().manual_seed(5)
    x0 = density.sample(n, generator).x0.double()
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    return torch.cat((alpha * x0 + 1.5 * sigma * eps, torch.zeros_like(x0[:1])))


def quadrature(
    nodes: np.ndarray, weights: np.ndarray, x: np.ndarray, alpha: float, sigma: float, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and E[x0 | x] by sums over the centres; x0 given x and the centre from its precision."""
    scale = math.sqrt(sigma**2 + (alpha * jitter) ** 2)
    log_joint = np.log(weights) + stats.norm.logpdf(x[:, None], alpha * nodes, scale).sum(-1)
    log_prob = logsumexp(log_joint, axis=1)
    centre = np.exp(log_joint - log_prob[:, None]) @ nodes
    if jitter == 0:
        return log_prob, centre
    precisions = jitter**-2, (alpha / sigma) ** 2
    return log_prob, (precisions[0] * centre + precisions[1] * x / alpha) / sum(precisions)


@pytest.mark.parametrize("jitter", [0.0, 0.07])
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_log_prob_and_posterior_mean_equal_quadrature(
    case: tuple, alpha: float, sigma: float, jitter: float
) -> None:
    make, (nodes, weights) = case
    density = make(jitter)
    x = noised(density, alpha, math.hypot(sigma, alpha * jitter))
    if sigma / alpha < 0.01 and not jitter:
        x = x[:-1]  # the origin is thousands of standard deviations off, beyond what the sum resolves
    log_prob, mean = quadrature(nodes, weights, x.numpy(), alpha, sigma, jitter)
    np.testing.assert_allclose(density.log_prob(x, alpha, sigma), log_prob, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(density.posterior_mean(x, alpha, sigma), mean, rtol=0, atol=1e-9)


@pytest.mark.parametrize("jitter", [0.0, 0.07])
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_score_is_the_gradient_of_log_prob_and_tweedies_formula(
    case: tuple, alpha: float, sigma: float, jitter: float
) -> None:
    density = case[0](jitter)
    x = noised(density, alpha, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(x, alpha, sigma).sum(), x)
    score = density.score(x, alpha, sigma)
    torch.testing.assert_close(score, gradient, rtol=1e-7, atol=1e-7 / sigma)
    tweedie = (x + sigma**2 * score) / alpha
    torch.testing.assert_close(density.posterior_mean(x, alpha, sigma), tweedie, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("sigma", "jitter"), [(0.1, 0.0), (0.0, 0.1), (0.3, 0.2)])
def test_density_integrates_to_one_and_its_mean_is_alpha_times_the_mean(
    case: tuple, sigma: float, jitter: float
) -> None:
    make, (nodes, weights) = case
    axis = torch.linspace(-3.5, 3.5, 141, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = make(jitter).log_prob(grid, 0.8, sigma).exp() * (axis[1] - axis[0]) ** 2
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(mass @ grid, 0.8 * (weights @ nodes), atol=1e-6)


def test_jittered_posterior_mean_equals_quadrature_over_x0() -> None:
    density = Points([[-0.5], [0.6]], [0.3, 0.7], jitter=0.2)
    alpha, sigma, x = 0.7, 0.5, 0.25

    def joint(x0: float) -> float:
        prior = 0.3 * stats.norm.pdf(x0, -0.5, 0.2) + 0.7 * stats.norm.pdf(x0, 0.6, 0.2)
        return prior * stats.norm.pdf(x, alpha * x0, sigma)

    evidence, moment = (
        integrate.quad(f, -3, 3, points=[-0.5, 0.6], epsabs=1e-13)[0] for f in (joint, lambda v: v * joint(v))
    )
    at = torch.tensor([[x]], dtype=torch.float64)
    assert density.log_prob(at, alpha, sigma).item() == pytest.approx(math.log(evidence), abs=1e-10)
    assert density.posterior_mean(at, alpha, sigma).item() == pytest.approx(moment / evidence, abs=1e-10)


@pytest.mark.parametrize("width", [0.0, 1e-6, 0.1, 0.4, 0.7, 3.0, 40.0])
@pytest.mark.parametrize("at", [0.0, 0.3, -2.0, 9.0])
def test_truncated_normal_equals_adaptive_quadrature(at: float, width: float) -> None:
    peak = min(max(at / width, -0.5), 0.5) if width else 0.0
    log_peak = -((at - width * peak) ** 2) / 2

    def integral(f) -> float:
        weighted = lambda v: f(v) * math.exp(-((at - width * v) ** 2) / 2 - log_peak)  # noqa: E731
        spread = [min(max(peak + k / width, -0.5), 0.5) for k in (-8, -1, 1, 8)] if width else []
        edges = sorted({-0.5, peak, 0.5, *spread})
        return sum(
            integrate.quad(weighted, low, high, epsabs=1e-14, epsrel=1e-12)[0]
            for low, high in itertools.pairwise(edges)
        )

    mass = integral(lambda v: 1.0)
    log_mass, offset = truncated_normal(
        *(torch.tensor([value], dtype=torch.float64) for value in (at, width))
    )
    assert log_mass.item() == pytest.approx(math.log(mass) + log_peak, rel=1e-11, abs=1e-11)
    assert offset.item() == pytest.approx(integral(lambda v: v) / mass, abs=1e-11)


def test_far_away_with_little_noise_the_posterior_is_the_nearest_point() -> None:
    x = torch.tensor([[0.9, 40.0], [-30.0, -2.0], [3.0, -0.8], [0.0, -1e4]], dtype=torch.float64)
    nodes = torch.from_numpy(segment_nodes()[0])
    nearest = nodes[torch.cdist(x, nodes).argmin(1)]
    mean = segments().posterior_mean(x, 1.0, 1e-4)
    torch.testing.assert_close(mean, nearest, rtol=0, atol=1e-3)
    torch.testing.assert_close((x - mean).norm(dim=1), segments().distance(x), rtol=0, atol=1e-7)
    torch.testing.assert_close(ring().posterior_mean(x, 1.0, 1e-4), 0.9 * x / x.norm(dim=1, keepdim=True))
    for density in (ring(), segments(), points()):
        assert (
            density.score(x, 1.0, 1e-4).isfinite().all() and density.log_prob(x, 1.0, 1e-4).isfinite().all()
        )


def test_ring_is_finite_and_symmetric_for_every_concentration() -> None:
    rho = torch.cat((torch.zeros(1), torch.logspace(-300, 1, 40))).double()
    x = torch.stack((rho, torch.zeros_like(rho)), 1)
    for sigma in (3e-5, 1e-2, 1.0, 1e3):
        mean = Ring(1.0).posterior_mean(x, 1.0, sigma)
        assert mean.isfinite().all() and Ring(1.0).log_prob(x, 1.0, sigma).isfinite().all()
        assert mean[0].tolist() == [0, 0] and (mean[:, 0].diff() >= 0).all() and mean.max() <= 1


def test_pure_noise_carries_no_information(case: tuple) -> None:
    make, (nodes, weights) = case
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for jitter in (0.0, 0.1):
        mean = make(jitter).posterior_mean(x, 0.0, 1.0)
        np.testing.assert_allclose(mean, np.tile(weights @ nodes, (5, 1)), atol=1e-9)
        np.testing.assert_allclose(make(jitter).log_prob(x, 0.0, 1.0), stats.norm.logpdf(x.numpy()).sum(1))


def test_labels_select_components_and_bayes_rule_holds() -> None:
    density, alpha, sigma = points(0.1), 0.8, 0.6
    x = noised(density, alpha, sigma).requires_grad_()
    scale = math.hypot(sigma, alpha * 0.1)
    components = [
        stats.norm.logpdf(x.detach().numpy(), alpha * atom, scale).sum(1) + math.log(weight)
        for atom, weight in zip(ATOMS, ATOM_WEIGHTS, strict=True)
    ]
    log_posterior = density.class_posterior(x, alpha, sigma)
    expected = np.stack(components, 1) - logsumexp(components, axis=0)[:, None]
    np.testing.assert_allclose(log_posterior.detach(), expected, atol=1e-10)
    for k, weight in enumerate(ATOM_WEIGHTS):
        label = torch.full((len(x),), k)
        given = density.log_prob(x, alpha, sigma, label)
        np.testing.assert_allclose(given.detach(), components[k] - math.log(weight), atol=1e-10)
        # Exact classifier guidance: grad log p(x | y) = grad log p(x) + grad log p(y | x).
        (gradient,) = torch.autograd.grad(log_posterior[:, k].sum(), x, retain_graph=True)
        guided = density.score(x, alpha, sigma) + gradient
        torch.testing.assert_close(density.score(x, alpha, sigma, label), guided, rtol=1e-9, atol=1e-9)
    none = torch.full((len(x),), 3)
    assert torch.equal(density.score(x, alpha, sigma, none), density.score(x, alpha, sigma))


def test_levels_may_differ_by_row_and_results_keep_the_dtype(case: tuple) -> None:
    density = case[0](0.05)
    alpha, sigma = (
        torch.tensor(column, dtype=torch.float64)[:, None] for column in zip(*LEVELS, strict=True)
    )
    x = density.sample(len(alpha), torch.Generator().manual_seed(1)).x0
    for method in (density.posterior_mean, density.score, density.log_prob):
        together = method(x, alpha, sigma)
        alone = [method(x[i : i + 1], *level) for i, level in enumerate(LEVELS)]
        assert together.dtype == torch.float32
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=1e-6)
        assert method(x[:0], 0.6, 0.8).shape == together[:0].shape


def test_chunks_change_nothing(case: tuple) -> None:
    whole, chunked = case[0](0.05), case[0](0.05)
    chunked._rows = 5
    x = noised(whole, 0.8, 0.6)
    alpha = torch.linspace(0.2, 0.9, len(x), dtype=torch.float64)[:, None]
    for method in ("posterior_mean", "log_prob"):
        results = [getattr(density, method)(x, alpha, 0.6) for density in (whole, chunked)]
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(whole.distance(x), chunked.distance(x))


def test_points_of_any_shape() -> None:
    images = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    density = Points(images, labelled=True)
    x = images[[2, 5]] * 0.9
    assert density.shape == (3, 4, 4) and density.num_classes == 6
    torch.testing.assert_close(density.posterior_mean(x, 0.9, 0.1), images[[2, 5]])
    torch.testing.assert_close(density.posterior_mean(x, 0.9, 0.1, torch.tensor([0, 6])), images[[0, 5]])
    assert density.distance(images).max() == 0
    assert density.sample(4, torch.Generator().manual_seed(0)).x0.shape == (4, 3, 4, 4)


def test_distance_is_to_the_support(case: tuple) -> None:
    make, (nodes, _) = case
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = torch.cdist(x, torch.from_numpy(nodes)).amin(1)
    torch.testing.assert_close(make().distance(x), expected, rtol=0, atol=1e-3)


def test_reference_is_even_and_deterministic(case: tuple) -> None:
    make, (nodes, weights) = case
    reference = make().reference(1000)
    assert reference.shape == (1000, 2) and torch.equal(reference, make().reference(1000))
    assert make().distance(reference).max() < 1e-6
    np.testing.assert_allclose(reference.mean(0), weights @ nodes, atol=3e-3)


def test_reference_steps_by_equal_arc_length_and_by_weight() -> None:
    steps = ring().reference(100).diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * 0.9 * math.sin(math.pi / 100)))
    line = Segments([torch.tensor([[0.0, 0.0], [0.3, 0.0], [1.0, 0.0]])])
    torch.testing.assert_close(line.reference(5)[:, 0], torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    counts = (torch.cdist(points().reference(10), torch.from_numpy(ATOMS).float()) < 1e-6).sum(0)
    assert counts.tolist() == [3, 5, 2]


def test_jittered_reference_has_the_moments_of_the_density() -> None:
    reference = Points([[1.0, -2.0]], jitter=0.5).reference(1024).double()
    np.testing.assert_allclose(reference.mean(0), [1, -2], atol=3e-3)
    np.testing.assert_allclose(np.cov(reference.T), 0.25 * np.eye(2), atol=3e-3)


def test_samples_have_the_weights_labels_and_jitter_of_the_density() -> None:
    x0, label, _ = points(0.1).sample(20_000, torch.Generator().manual_seed(0))
    assert x0.dtype == torch.float32 and label.dtype == torch.int64
    assert stats.chisquare(label.bincount(), 20_000 * ATOM_WEIGHTS).pvalue > 0.01
    residual = (x0 - torch.from_numpy(ATOMS)[label]) / 0.1
    assert stats.kstest(residual.flatten(), "norm").pvalue > 0.01
    assert ring(0.1).sample(10, torch.Generator().manual_seed(0)).label is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Ring(0.0), "radius"),
        (lambda: Ring(1.0, jitter=-0.1), "jitter"),
        (lambda: Ring(1.0, jitter=math.nan), "jitter"),
        (lambda: Points(torch.zeros(0, 2)), "at least one"),
        (lambda: Points(torch.tensor([[math.nan]])), "finite"),
        (lambda: Points(torch.zeros(2, 1), torch.tensor([1.0, 0.0])), "weights"),
        (lambda: Points(torch.zeros(2, 1), torch.ones(3)), "weights"),
        (lambda: Segments([]), "polylines"),
        (lambda: Segments([torch.zeros(3, 3)]), "polylines"),
        (lambda: Segments([torch.zeros(2, 2)]), "length"),
        (lambda: Segments([torch.tensor([[0.0, 0.0], [1.0, math.inf]])]), "finite"),
        (lambda: ring().log_prob(torch.zeros(3, 1), 0.6, 0.8), "shape"),
        (lambda: ring().score(torch.zeros(3, 2), 1.0, 0.0), "no density"),
        (lambda: ring().score(torch.zeros(2, 2), 0.6, 0.8, torch.tensor([0, 1])), "labels"),
        (lambda: points().score(torch.zeros(2, 2), 0.6, 0.8, torch.tensor([0, 4])), "labels"),
        (lambda: points().score(torch.zeros(2, 2), 0.6, 0.8, torch.tensor([0])), "labels"),
    ],
)
def test_misuse_is_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_outline_is_the_curve_that_the_samples_lie_on() -> None:
    (circle,) = ring().outline()
    assert ring().distance(circle).max() < 1e-6 and (circle[0] - circle[-1]).norm() < 1e-6
    assert [line.tolist() for line in segments().outline()] == [stroke.tolist() for stroke in STROKES]
    assert points().outline() is None
