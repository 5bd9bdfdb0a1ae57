"""Evaluations, as a config chooses them: what is measured, on how many samples, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.images import ImageDataset
from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.errors import UserError
from diffusion_cli.metrics import likelihood, mixture
from diffusion_cli.metrics.image_report import RealImages, evaluate_images, images_table
from diffusion_cli.metrics.inception import Inception, weights_file
from diffusion_cli.metrics.judge import judge_for
from diffusion_cli.metrics.points import beside_floor, evaluate_points, points_table
from diffusion_cli.metrics.progress import Progress, silent
from diffusion_cli.metrics.set_report import evaluate_sets, sets_table
from diffusion_cli.noise import NoiseStream, generator

TRUE = 7  # stream of the seed for the true samples beside ours


class Subject(NamedTuple):
    """What is evaluated. draw(k): the k-th set of n samples, on the CPU; denoiser: the one they were drawn with;
    progress: a bar for what takes long."""

    draw: Callable[[int], Batch]
    denoiser: likelihood.Denoiser
    dataset: Dataset
    seed: int
    device: torch.device | str = "cpu"
    progress: Progress = silent

    def points(self, k: int) -> Tensor:
        """The k-th set of n samples alone."""
        return self.draw(k).x0


@dataclass(frozen=True)
class PointEvaluation:
    """Samples against a law known in closed form: see `metrics.points.evaluate_points`, whose arguments these are."""

    n: int = 10_000
    draws: int = 3
    floor_draws: int = 16

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """name -> value, floor and ratio; {} for a dataset without a density."""
        density = subject.dataset.density
        if density is None:
            return {}
        return evaluate_points(subject.points, density, self.n, self.draws, self.floor_draws, subject.seed)

    def table(self, report: dict[str, Any]) -> str:
        return points_table(report)


@dataclass(frozen=True)
class SetEvaluation:
    """Whole sets of points against held-out ones: see `metrics.set_report.evaluate_sets`, whose arguments these are."""

    n: int = 64
    points: int = 512
    draws: int = 3
    floor_draws: int = 4
    emd_points: int | None = 128

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """name -> value, floor and ratio; {} for a dataset that holds no sets, or too few."""
        dataset = subject.dataset
        if not isinstance(dataset, SetDataset) or min(len(dataset.train), len(dataset.test), self.n) < 2:
            return {}
        train, test = dataset.train.cpu(), dataset.test.cpu()
        family = getattr(dataset, "family", None)
        return evaluate_sets(subject.points, train, test, self.n, self.points, self.draws, self.floor_draws, self.emd_points,
                             family, subject.seed, subject.progress)  # fmt: skip

    def table(self, report: dict[str, Any]) -> str:
        return sets_table(report)


@dataclass(frozen=True)
class ImageEvaluation:
    """Images against held-out ones: see `metrics.image_report.evaluate_images`.

    n: images in each of `draws` collections; floor_draws: collections of as many training images. neighbours: k of
    precision and recall. extractor: judge, trained on this data once (see `metrics.judge`), or inception.
    """

    n: int = 1_000
    draws: int = 1
    floor_draws: int = 16
    neighbours: int = 3
    extractor: str = "judge"
    _real: dict[str, RealImages] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.extractor not in ("judge", "inception"):
            raise UserError(
                "evaluation.extractor", self.extractor, "no such extractor", ("judge", "inception")
            )
        if self.extractor == "inception":
            weights_file()  # said before anything is trained

    def prepare(self, subject: Subject) -> None:
        """Trains the judge if need be, and looks at the real images, which is done once and may take a minute or two."""
        self._real_images(subject)

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """name -> value, floor and ratio; {} for a dataset that holds too few images."""
        real = self._real_images(subject)
        return {} if real is None else evaluate_images(subject.draw, real, self.draws, subject.progress)

    def _real_images(self, subject: Subject) -> RealImages | None:
        _, _, dataset, seed, device, progress = subject
        if not isinstance(dataset, ImageDataset):
            raise UserError("evaluation", "images", "is for datasets of images")
        if min(self.n, len(dataset.train.images), len(dataset.test.images)) <= self.neighbours:
            return None
        if dataset.fingerprint not in self._real:
            eye = Inception(device) if self.extractor == "inception" else judge_for(dataset, device, progress)
            options = (self.n, self.floor_draws, self.neighbours, seed, device, progress)
            self._real[dataset.fingerprint] = RealImages(eye, dataset, *options)
        return self._real[dataset.fingerprint]

    def table(self, report: dict[str, Any]) -> str:
        return images_table(report)


@dataclass(frozen=True)
class MixtureEvaluation(PointEvaluation):
    """`PointEvaluation`, and of a mixture also weight, mean and width of each mode, and points in a wrong mode.

    Adds the entries of `metrics.mixture.compare`, each beside the floor that true samples of the same size have, and
    `modes`, a list with what `metrics.mixture.describe` tells of each.
    """

    def __call__(self, subject: Subject) -> dict[str, Any]:
        density = subject.dataset.density
        if not isinstance(density, Points):
            raise UserError(
                "evaluation", "mixture", "is for data of points or Gaussians; take evaluation=points"
            )
        batches = [subject.draw(k) for k in range(self.draws)]
        report = super().__call__(subject._replace(draw=batches.__getitem__))
        g = generator(subject.seed, TRUE)
        ours = [mixture.compare(density, *batch) for batch in batches]
        true = [mixture.compare(density, *density.sample(self.n, g)) for _ in range(self.floor_draws)]
        for name in ours[0]:
            values, floors = ([result[name] for result in results] for results in (ours, true))
            report[name] = beside_floor(values, floors, self.n)
        report["modes"] = mixture.describe(density, [batch.x0 for batch in batches])
        return report

    def table(self, report: dict[str, Any]) -> str:
        numbers = {name: entry for name, entry in report.items() if name != "modes"}
        return f"{points_table(numbers)}\n{mixture.modes_table(report['modes'])}"


@dataclass(frozen=True)
class LikelihoodEvaluation:
    """Log-likelihood of fresh data under the model, by the probability-flow ODE and by the variational bound.

    n: points. steps: of the ODE's solver. probes: 0 for the exact divergence, else random signs per point (see
    `metrics.likelihood`). Given labels, all is conditional on them. Bits are per dimension.
    """

    n: int = 2_000
    steps: int = 100
    probes: int = 0

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """Plain values: flow (log-likelihood of clean points) and flow_error, that of noised ones at t = 1 less the
        truth, in nats with standard errors; bound, its terms L_0..L_T and the data's entropy, in bits; bound_gap, by how
        much the bound on these points exceeds their true -log p, in nats. None: not known."""
        denoiser, dataset, seed, device = subject.denoiser, subject.dataset, subject.seed, subject.device
        x0, label = dataset.draw(self.n, generator(seed, TRUE, device=device))
        noise = NoiseStream(seed, self.n, dataset.shape, device)
        options = {"steps": self.steps, "probes": self.probes, "generator": generator(seed, device=device)}
        flow = likelihood.Estimate.of(likelihood.log_likelihood(denoiser, x0, label, **options))
        terms = likelihood.variational_terms(denoiser, x0, noise, label)
        report: dict[str, Any] = {
            "n": self.n,
            "flow": flow._asdict(),
            "flow_error": None,
            "bound_gap": None,
            "entropy": None,
        }
        report["bound"] = likelihood.bits(float(terms.sum(0).mean()), dataset.shape)
        report["terms"] = [likelihood.bits(float(term), dataset.shape) for term in terms.mean(1)]
        report["flow_bits"] = -likelihood.bits(flow.value, dataset.shape)
        if dataset.density is not None:
            level = denoiser.schedule.level(1.0, like=x0)
            x_1 = level.alpha * x0 + level.sigma * noise()
            ours = likelihood.flow_log_prob(denoiser, x_1, 1.0, label, **options).cpu()
            true = dataset.density.log_prob(x_1.double(), level.alpha, level.sigma, label).cpu()
            report["flow_error"] = likelihood.Estimate.of(ours - true)._asdict()
            known = likelihood.entropy(dataset.density, 50 * self.n, generator(seed, TRUE, 1))
            if known is not None:
                report["entropy"] = likelihood.bits(known.value, dataset.shape)
                gap = terms.sum(0).cpu() + dataset.density.log_prob(x0.double(), 1.0, 0.0, label).cpu()
                report["bound_gap"] = likelihood.Estimate.of(gap)._asdict()
        return report

    def table(self, report: dict[str, Any]) -> str:
        def text(estimate: dict[str, float] | None, unit: str) -> str:
            return (
                "not known"
                if estimate is None
                else f"{estimate['value']:.5f} ± {estimate['error']:.5f} {unit}"
            )

        first, *middle, last = report["terms"]
        entropy = "none" if report["entropy"] is None else f"{report['entropy']:.4f} bits per dimension"
        rows = {
            "log-likelihood": f"{text(report['flow'], 'nats')}, {report['flow_bits']:.4f} bits per dimension",
            "less the truth, at t = 1": text(report["flow_error"], "nats"),
            "variational bound": f"{report['bound']:.4f} bits per dimension",
            "its terms": f"L_0 {first:.4f}, L_1 to L_{len(middle)} {sum(middle):.4f}, L_{len(middle) + 1} {last:.5f}",
            "more than the truth": text(report["bound_gap"], "nats"),
            "entropy of the data": entropy,
        }
        return "\n".join(f"{name:<26}{value}" for name, value in rows.items())


def numbers(report: dict[str, Any]) -> dict[str, float]:
    """The report of any evaluation as one row of a table: each metric, and NAME_floor where it has one.

    nan stands for what is not known; texts, lists and what else is said are left out.
    """
    row = {}
    for name, entry in report.items():
        if name == "n":
            continue
        found = entry if isinstance(entry, dict) else {"value": entry}
        for key, column in (("value", name), ("floor", f"{name}_floor")):
            value = found.get(key, "")
            if value is None or type(value) in (int, float):
                row[column] = math.nan if value is None else float(value)
    return row
