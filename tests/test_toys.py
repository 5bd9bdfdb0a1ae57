"""The classic toys: their definitions, and their exact densities against numerical quadrature."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor

from diffusion_cli.dataset.boxes import Boxes
from diffusion_cli.dataset.branches import GaussianTree
from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.drawings import Drawing
from diffusion_cli.dataset.gaussians import Gaussians
from diffusion_cli.dataset.product import Product
from diffusion_cli.dataset.segments import Segments
from diffusion_cli.dataset.toys import (
    Checkerboard,
    GaussianGrid,
    GaussianRing,
    Moons,
    Pinwheel,
    SCurve,
    Spirals,
    SwissRoll,
    Toy,
)
from diffusion_cli.errors import ArgumentError
from diffusion_cli.guidance import ExactClassifier
from diffusion_cli.metrics.points import PointMetrics
from diffusion_cli.ranges import range_of

TOYS = {
    "moons": Moons(),
    "swiss_roll": SwissRoll(),
    "s_curve": SCurve(),
    "spirals": Spirals(),
    "8gaussians": GaussianRing(),
    "25gaussians": GaussianGrid(),
    "checkerboard": Checkerboard(labels=True),
    "pinwheel": Pinwheel(),
    "tree": GaussianTree(depth=4),
    "swiss_roll in space": SwissRoll(dims=3),
    "s_curve in space": SCurve(dims=3),
}
LEVELS = [(1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)) for ratio in (0.05, 0.6, 20.0)]
TRIANGLE = torch.tensor([[-1.0, -0.6], [0.9, -0.8], [0.4, 0.7]], dtype=torch.float64)
ROUGH = [torch.tensor([1.0, 3.0]), torch.tensor([2.0])]
FULL = torch.tensor(
    [[[0.2, 0.1], [0.1, 0.3]], [[0.05, -0.02], [-0.02, 0.01]], [[0.01, 0.0], [0.0, 0.4]]], dtype=torch.float64
)
MEANS = torch.tensor([[-0.5, 0.2], [0.7, -0.4], [0.1, 0.9]], dtype=torch.float64)


def parts(jitter: float = 0.0) -> dict[str, Density]:
    """A density of each kind with labels, weights of its own and jitter, where it has these."""
    interval = Boxes([[-0.3], [0.5]], [[0.2], [0.6]], [0.7, 0.3])
    curve = Segments([TRIANGLE, TRIANGLE[:2] + 1], weights=ROUGH)
    return {
        "boxes": Boxes(
            [[-1, -1], [0.2, 0]], [[0, 0.5], [0.5, 1]], [0.6, 0.4], label=torch.tensor([1, 0]), jitter=jitter
        ),
        "segments": Segments(
            [TRIANGLE, TRIANGLE[:2] + 1], weights=ROUGH, label=torch.tensor([1, 0]), jitter=jitter
        ),
        "gaussians": Gaussians(
            MEANS, FULL, torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), label=torch.tensor([0, 1, 0])
        ),
        "product": Product((curve, interval), ((2, 0), (1,)), jitter=jitter),
    }


def nodes_of(name: str, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Centres and their weights, by Gauss-Legendre rules in small panels."""
    unit, rule = np.polynomial.legendre.leggauss(8)
    panels = 12 if name == "product" else 20
    place = ((np.arange(panels)[:, None] + (unit + 1) / 2) / panels).ravel()
    weight = np.tile(rule, panels) / panels / 2

    def line(start: np.ndarray, end: np.ndarray, chance: float) -> tuple[np.ndarray, np.ndarray]:
        return start + place[:, None] * (end - start), chance * weight

    def square(low: list[float], high: list[float], chance: float) -> tuple[np.ndarray, np.ndarray]:
        x, y = (a + (b - a) * place for a, b in zip(low, high, strict=True))
        return np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2), chance * np.outer(
            weight, weight
        ).ravel()

    corners = TRIANGLE.numpy()
    strokes = [
        (1, line(corners[0], corners[1], 1 / 6)),
        (1, line(corners[1], corners[2], 3 / 6)),
        (0, line(corners[0] + 1, corners[1] + 1, 2 / 6)),
    ]
    if name == "boxes":
        found = [(1, square([-1, -1], [0, 0.5], 0.6)), (0, square([0.2, 0], [0.5, 1], 0.4))]
    elif name == "segments":
        found = strokes
    else:
        curve, chance = (
            np.concatenate(part) for part in zip(*(stroke for _, stroke in strokes), strict=True)
        )
        ends = [(np.array([-0.3]), np.array([0.2]), 0.7), (np.array([0.5]), np.array([0.6]), 0.3)]
        heights, height_chance = (
            np.concatenate(part) for part in zip(*(line(*end) for end in ends), strict=True)
        )
        grid = np.concatenate((np.repeat(curve, len(heights), 0), np.tile(heights, (len(curve), 1))), 1)
        return grid[:, [1, 2, 0]], np.outer(chance, height_chance).ravel()
    centres, chances = zip(*(part for y, part in found if label in (None, y)), strict=True)
    chance = np.concatenate(chances)
    return np.concatenate(centres), chance / chance.sum()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noised(density: Density, alpha: float, sigma: float, n: int = 10) -> Tensor:
    x0 = density.sample(n, seeded(5)).x0.double()
    eps = torch.randn(x0.shape, generator=seeded(6), dtype=torch.float64)
    return torch.cat((alpha * x0 + 1.5 * sigma * eps, torch.zeros_like(x0[:1])))


@pytest.mark.parametrize("jitter", [0.0, 0.07])
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize(
    ("name", "label"),
    [("boxes", None), ("boxes", 0), ("segments", None), ("segments", 1), ("product", None)],
)
def test_log_prob_and_posterior_mean_equal_quadrature(
    name: str, label: int | None, alpha: float, sigma: float, jitter: float
) -> None:
    density, (nodes, weights) = parts(jitter)[name], nodes_of(name, label)
    scale = math.hypot(sigma, alpha * jitter)
    x = noised(density, alpha, scale)
    log_joint = np.log(weights) + sum(
        stats.norm.logpdf(x.numpy()[:, None, d], alpha * nodes[:, d], scale) for d in range(x.shape[1])
    )
    log_prob = logsumexp(log_joint, axis=1)
    centre = np.exp(log_joint - log_prob[:, None]) @ nodes
    mean = centre + alpha * (jitter / scale) ** 2 * (x.numpy() - alpha * centre)
    given = None if label is None else torch.full((len(x),), label)
    np.testing.assert_allclose(density.log_prob(x, alpha, sigma, given), log_prob, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(density.posterior_mean(x, alpha, sigma, given), mean, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("alpha", "sigma"), [*LEVELS, (1.0, 0.0)])
@pytest.mark.parametrize("label", [None, 0, 1])
def test_gaussians_equal_the_formulas_of_linear_gaussian_models(
    alpha: float, sigma: float, label: int | None
) -> None:
    density, weights, labels = parts()["gaussians"], np.array([0.5, 0.2, 0.3]), np.array([0, 1, 0])
    x = noised(density, alpha, sigma)
    used = weights if label is None else weights * (labels == label)
    log_joint, means = [], []
    for mean, covariance in zip(MEANS.double().numpy(), FULL.double().numpy(), strict=True):
        total = alpha**2 * covariance + sigma**2 * np.eye(2)
        log_joint.append(stats.multivariate_normal.logpdf(x, alpha * mean, total))
        means.append(mean + (x.numpy() - alpha * mean) @ np.linalg.solve(total, alpha * covariance))
    with np.errstate(divide="ignore"):
        joint = np.stack(log_joint, 1) + np.log(used / used.sum())
    log_prob = logsumexp(joint, axis=1)
    mean = np.einsum("bk,kbd->bd", np.exp(joint - log_prob[:, None]), np.stack(means))
    given = None if label is None else torch.full((len(x),), label)
    np.testing.assert_allclose(density.log_prob(x, alpha, sigma, given), log_prob, atol=1e-8, rtol=1e-8)
    np.testing.assert_allclose(density.posterior_mean(x, alpha, sigma, given), mean, atol=1e-7)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("name", TOYS)
def test_score_is_the_gradient_and_tweedies_formula_holds(name: str, alpha: float, sigma: float) -> None:
    density = TOYS[name].density
    x = noised(density, alpha, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(x, alpha, sigma).sum(), x)
    score = density.score(x, alpha, sigma)
    torch.testing.assert_close(score, gradient, rtol=1e-6, atol=1e-6 / sigma)
    tweedie = (x + sigma**2 * score) / alpha
    torch.testing.assert_close(density.posterior_mean(x, alpha, sigma), tweedie, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", [name for name, toy in TOYS.items() if toy.shape == (2,)])
def test_the_noised_density_integrates_to_one(name: str) -> None:
    axis = torch.linspace(-4, 4, 121, dtype=torch.float64)
    mass = (
        TOYS[name].density.log_prob(torch.cartesian_prod(axis, axis), 0.8, 0.15).exp()
        * (axis[1] - axis[0]) ** 2
    )
    assert mass.sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", TOYS)
def test_samples_and_reference_follow_one_density_of_about_unit_spread(name: str) -> None:
    toy = TOYS[name]
    density = toy.density
    x0, label, _ = toy.draw(20_000, seeded())
    reference = density.reference(20_000)
    for x in (x0, reference):
        assert x.std().item() == pytest.approx(1, abs=0.05) and (density.box().outliers(x) == 0)
    for direction in torch.eye(toy.shape[0]):
        assert stats.ks_2samp(x0 @ direction, reference @ direction).pvalue > 0.001
    # E[x0 | x_t] has the mean of x0, whatever the label
    x0, label = x0[:4000], None if label is None else label[:4000]
    x_t = 0.6 * x0 + 0.8 * torch.randn(x0.shape, generator=seeded(3))
    mean = density.posterior_mean(x_t, 0.6, 0.8, label).mean(0)
    torch.testing.assert_close(mean, x0.mean(0), atol=0.06, rtol=0)


@pytest.mark.parametrize("name", [name for name, toy in TOYS.items() if toy.num_classes])
def test_labels_say_from_which_part_a_point_comes(name: str) -> None:
    toy = TOYS[name]
    x0, label, _ = toy.draw(1000, seeded())
    classifier = ExactClassifier(toy.density)
    read = classifier(x0, torch.full((len(x0),), -3.0)).argmax(1)
    assert (read == label).double().mean() > 0.97
    assert label.bincount(minlength=toy.num_classes).min() > 1000 / toy.num_classes / 2
    posterior = toy.density.class_posterior(x0.double(), 0.3, 0.95).exp()
    torch.testing.assert_close(posterior.sum(1), torch.ones(1000, dtype=torch.float64))
    torch.testing.assert_close(posterior.mean(0), toy.density.class_weights, atol=0.04, rtol=0)


def definition(name: str, n: int, random: np.random.Generator) -> np.ndarray:
    """n points as scikit-learn, torchcfm and FFJORD draw them."""
    u, normal = random.random(n), random.standard_normal((n, 2))
    if name == "moons":
        t, inner = math.pi * u, random.random(n) < 0.5
        x = np.where(inner, 1 - np.cos(t), np.cos(t)), np.where(inner, 0.5 - np.sin(t), np.sin(t))
        return np.stack(x, 1) + 0.05 * normal
    if name == "swiss_roll":
        t = 1.5 * math.pi * (1 + 2 * u)
        return np.stack((t * np.cos(t), t * np.sin(t)), 1) + 0.25 * normal
    if name == "s_curve":
        t = 3 * math.pi * (u - 0.5)
        return np.stack((np.sin(t), np.sign(t) * (np.cos(t) - 1)), 1) + 0.05 * normal
    if name == "spirals":
        t, side = np.sqrt(u) * 3 * math.pi, random.choice([-1, 1], n)
        return np.stack((-np.cos(t) * t, np.sin(t) * t), 1) * side[:, None] / 3 + 0.1 * normal
    if name == "8gaussians":
        angle = math.pi / 4 * random.integers(0, 8, n)
        return 5 * np.stack((np.cos(angle), np.sin(angle)), 1) + math.sqrt(0.1) * normal
    if name == "25gaussians":
        return 2.0 * random.integers(-2, 3, (n, 2)) + 0.05 * normal
    if name == "checkerboard":
        x = 4 * u - 2
        return 2 * np.stack((x, random.random(n) - 2 * random.integers(0, 2, n) + np.floor(x) % 2), 1)
    r, q = 1 + 0.3 * normal[:, 0], 0.1 * normal[:, 1]
    angle = 2 * math.pi / 5 * random.integers(0, 5, n) + 0.25 * np.exp(r)
    return 2 * np.stack((r * np.cos(angle) + q * np.sin(angle), q * np.cos(angle) - r * np.sin(angle)), 1)


@pytest.mark.parametrize("name", [*TOYS][:8])
def test_toys_are_drawn_as_their_definitions_say(name: str) -> None:
    toy = TOYS[name]
    ours = toy.units.array(toy.draw(10_000, seeded()).x0)
    true = definition(name, 10_000, np.random.default_rng(0))
    for angle in np.linspace(0, math.pi, 7, endpoint=False):
        direction = np.array([math.cos(angle), math.sin(angle)])
        assert stats.ks_2samp(ours @ direction, true @ direction).pvalue > 0.001
    distance = [np.hypot(*(x - x.mean(0)).T) for x in (ours, true)]
    assert stats.ks_2samp(*distance).pvalue > 0.001


@pytest.mark.parametrize(("toy", "high"), [(SwissRoll(dims=3), 21.0), (SCurve(dims=3), 2.0)])
def test_bands_in_space_are_the_curves_and_a_uniform_second_coordinate(toy: Toy, high: float) -> None:
    x = toy.units.array(toy.draw(5000, seeded()).x0)
    flat = type(toy)()
    for axis, other in ((0, 0), (2, 1)):
        plane = flat.units.array(flat.draw(5000, seeded(1)).x0)
        assert stats.ks_2samp(x[:, axis], plane[:, other]).pvalue > 0.001
    inside = x[(x[:, 1] > 0.1 * high) & (x[:, 1] < 0.9 * high), 1]
    assert stats.kstest(inside, stats.uniform(0.1 * high, 0.8 * high).cdf).pvalue > 0.001
    assert toy.kind == "space" and toy.shape == (3,)


def test_the_tree_has_the_moments_of_its_source() -> None:
    tree = GaussianTree()
    x = tree.units.array(tree.density.reference(50_000))
    np.testing.assert_allclose(x.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(x.std(0), 0.5, atol=0.01)
    assert len(tree.density.means) == 2 * 127 * 8 and tree.num_classes == 2
    with pytest.raises(ArgumentError, match="more than"):
        GaussianTree(depth=20)


def test_wrong_squares_are_counted() -> None:
    board = Checkerboard()
    metrics = PointMetrics(board.density, 1000)
    x0 = board.draw(1000, seeded()).x0
    assert metrics(x0)["outside"] == 0
    side = 2.0 / board.units.scale
    x0[:250, 0] = (x0[:250, 0] + side + 2 * side) % (4 * side) - 2 * side
    assert metrics(x0)["outside"] == 0.25
    assert "outside" not in PointMetrics(Moons().density, 100)(Moons().draw(100, seeded()).x0)


def test_drawings_lie_within_the_unit_square() -> None:
    shapes = range_of(inspect.signature(Drawing).parameters["shape"].annotation).choices
    assert len(shapes) == 10
    for shape in shapes:
        drawing = Drawing(shape)
        x0 = drawing.draw(500, seeded()).x0
        assert 0.85 < x0.abs().max() < 1 and drawing.density.distance(x0).max() < 1e-6


@pytest.mark.parametrize(
    ("made", "argument"),
    [
        (lambda: Boxes([[0.0, 0.0]], [[1.0, 0.0]]), "low"),
        (lambda: Gaussians(MEANS, -FULL), "covariances"),
        (lambda: Gaussians(MEANS, FULL[:2]), "covariances"),
        (lambda: Segments([TRIANGLE], weights=[torch.tensor([1.0, -1.0])]), "weights"),
        (lambda: SwissRoll(dims=4), "dims"),
        (lambda: Drawing("dino"), "shape"),
    ],
)
def test_bad_arguments_are_named(made, argument: str) -> None:
    with pytest.raises(ArgumentError) as error:
        made()
    assert error.value.argument == argument
