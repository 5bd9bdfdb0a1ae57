"""Weights, means and widths of modes, on samples whose faults are put there on purpose."""

from dataclasses import replace

import pytest
import torch

from diffusion_cli import sampler, schedule
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.exact import ExactDataset, GaussianMixture, TwoPoint
from diffusion_cli.dataset.plane import Ring
from diffusion_cli.denoiser import ExactDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.metrics import mixture
from diffusion_cli.metrics.evaluation import LikelihoodEvaluation, MixtureEvaluation
from diffusion_cli.metrics.protocol import EvaluationInput
from diffusion_cli.sampler import Multistep

DATA = GaussianMixture()
DENSITY = DATA.density


def true(n=40_000, seed=0, density=DENSITY):
    return density.sample(n, torch.Generator().manual_seed(seed))[:2]


def test_true_samples_have_the_distributions_own_numbers():
    x, label = true()
    modes = mixture.measure_modes(DENSITY, x)
    assert modes.weight.tolist() == pytest.approx([0.35, 0.65], abs=0.01)
    assert modes.mean.flatten().tolist() == pytest.approx([-0.35, 0.65, 0.75, -0.45], abs=0.004)
    assert modes.width.flatten().tolist() == pytest.approx([0.1] * 4, abs=0.002)
    assert mixture.wrong_mode(DENSITY, x, label) == 0
    errors = mixture.mode_errors(DENSITY, x)
    assert errors["weight_error"] < 0.01 and errors["mean_error"] < 0.004
    assert errors["width_ratio"] == pytest.approx(1, abs=0.01)


def test_overlapping_modes_are_measured_without_bias():
    """Points near the middle count for both modes by their posterior; the nearest mode would make widths too small."""
    density = GaussianMixture(means=[[0.0], [0.25]], sigma=0.1, weights=[0.3, 0.7]).density
    x, label = true(200_000, density=density)
    modes = mixture.measure_modes(density, x)
    assert modes.weight.tolist() == pytest.approx([0.3, 0.7], abs=0.005)
    assert modes.mean[:, 0].tolist() == pytest.approx([0.0, 0.25], abs=0.003)
    assert modes.width[:, 0].tolist() == pytest.approx([0.1, 0.1], abs=0.002)
    # Bayes' error of two Gaussians a distance 2.5 widths apart
    assert 0.08 < mixture.wrong_mode(density, x, label) < 0.11


def test_faults_are_told():
    x, label = true()
    centre = DENSITY.points[label].float()
    assert mixture.mode_errors(DENSITY, centre + 0.8 * (x - centre), label)["width_ratio"] == pytest.approx(
        0.8, abs=0.01
    )
    assert mixture.mode_errors(DENSITY, x + torch.tensor([0.03, 0.04]))["mean_error"] == pytest.approx(
        0.05, abs=0.004
    )
    assert mixture.mode_errors(DENSITY, x[label == 1])["weight_error"] == pytest.approx(0.35, abs=1e-6)
    assert mixture.mode_errors(DENSITY, x, 1 - label)["wrong_mode"] == 1
    asked = torch.ones_like(label[label == 1])
    assert (
        mixture.mode_errors(DENSITY, x[label == 1], asked)["weight_error"] < 1e-9
    )  # only one label was asked for
    off = label.clone()
    off[:400] = 1 - off[:400]
    assert mixture.mode_errors(DENSITY, x, off)["wrong_mode"] == pytest.approx(0.01)


def test_atoms_go_to_the_nearest():
    density = TwoPoint(weights=[0.25, 0.75]).density
    x = torch.tensor([[-0.51], [-0.49], [0.5], [0.1]])
    modes = mixture.measure_modes(density, x)
    assert modes.weight.tolist() == pytest.approx([0.5, 0.5])
    assert modes.mean[:, 0].tolist() == pytest.approx([-0.5, 0.3], abs=1e-6)
    assert modes.width[:, 0].tolist() == pytest.approx([0.01, 0.2], abs=1e-6)


def test_the_tables_have_a_line_for_each_mode():
    x, _ = true(1_000)
    modes = mixture.describe_modes(DENSITY, [x, x])
    assert [mode["true_weight"] for mode in modes] == pytest.approx([0.35, 0.65])
    lines = mixture.modes_table(modes).splitlines()
    assert len(lines) == 3 and "(-0.3500 0.6500)" in lines[1] and len({len(line) for line in lines}) == 1


def given(data, n, walker):
    denoiser = ExactDenoiser(data.density, schedule.loglinear(50))

    def draw(k):
        label = data.draw(n, torch.Generator().manual_seed(k)).label
        *_, last = sampler.chain(walker, denoiser, n, data.shape, k, label)
        return Batch(last.x, label)

    return EvaluationInput(data, denoiser.schedule, 0, draw, denoiser)


def test_evaluation_of_the_exact_score():
    evaluation = MixtureEvaluation(n=2_000, draws=2, floor_draws=3)
    report = evaluation(given(DATA, 2_000, Multistep(steps=25)))
    assert {"sliced_w2", "weight_error", "mean_error", "width_ratio", "wrong_mode", "modes"} <= report.keys()
    assert report["wrong_mode"]["value"] == 0
    assert report["width_ratio"]["value"] == pytest.approx(1, abs=0.03)
    assert report["width_ratio"]["floor"] == pytest.approx(1, abs=0.03)
    assert "width (truth)" in evaluation.table(report)
    with pytest.raises(ArgumentError, match="evaluation=points"):
        evaluation(replace(given(DATA, 10, sampler.DDIM()), dataset=ExactDataset(Ring())))


def test_evaluation_of_likelihood():
    evaluation = LikelihoodEvaluation(n=200, steps=25)
    report = evaluation(given(DATA, 10, sampler.DDIM()))
    assert abs(report["flow_error"]["value"]) < 0.01
    assert len(report["terms"]) == 51 and report["bound"]["value"] == pytest.approx(sum(report["terms"]))
    assert report["entropy"] < report["bound"]["value"]
    assert "variational bound" in evaluation.table(report)
    ring = evaluation(given(ExactDataset(Ring()), 10, sampler.DDIM()))
    assert ring["entropy"] is None and "none" in evaluation.table(ring)
