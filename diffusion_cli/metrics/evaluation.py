"""Evaluations, as a config chooses them: what is measured, on how many samples, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_cli.dataset.point_sets import SetDataset
from diffusion_cli.dataset.points import Points
from diffusion_cli.dataset.protocol import Batch, Dataset
from diffusion_cli.errors import UserError
from diffusion_cli.metrics import likelihood, mixture
from diffusion_cli.metrics.points import beside_floor, evaluate_points, points_table
from diffusion_cli.metrics.set_report import Progress, evaluate_sets, sets_table, silent
from diffusion_cli.noise import NoiseStream, generator
from diffusion_cli.schedule import Schedule

TRUE = 7  # stream of the seed for the true samples beside ours


class Subject(NamedTuple):
    """What is evaluated. draw(k): the k-th set of n samples, on the CPU; denoiser: the one they were drawn with."""

    draw: Callable[[int], Batch]
    denoiser: likelihood.Denoiser
    dataset: Dataset
    seed: int
    device: torch.device | str = "cpu"

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

    def __call__(self, subject: Subject, progress: Progress = silent) -> dict[str, Any]:
        """name -> value, floor and ratio; {} for a dataset that holds no sets, or too few."""
        dataset = subject.dataset
        if not isinstance(dataset, SetDataset) or min(len(dataset.train), len(dataset.test), self.n) < 2:
            return {}
        train, test = dataset.train.cpu(), dataset.test.cpu()
        family = getattr(dataset, "family", None)
        return evaluate_sets(subject.points, train, test, self.n, self.points, self.draws, self.floor_draws, self.emd_points,
                             family, subject.seed, progress)  # fmt: skip

    def table(self, report: dict[str, Any]) -> str:
        return sets_table(report)


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
        _, denoiser, dataset, seed, device = subject
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


@dataclass(frozen=True)
class ClassifierEvaluation:
    """A noise-aware classifier on n fresh noised points: accuracy, and where the law is known the mean absolute error
    of p(label | x_t) against the exact posterior, averaged over all times."""

    n: int = 20_000

    @torch.no_grad()
    def __call__(self, net: nn.Module, dataset: Dataset, schedule: Schedule, seed: int) -> dict[str, Any]:
        device = next(net.parameters()).device
        g = generator(seed, self.n, device=device)
        x0, label = dataset.draw(self.n, g)
        t = torch.randint(1, schedule.T + 1, (self.n,), generator=g, device=device)
        level = schedule.level(t, like=x0)
        x_t = level.alpha * x0 + level.sigma * torch.randn(x0.shape, generator=g, device=device)
        p = net(x_t, level.noise).softmax(1)
        report = {"accuracy": float((p.argmax(1) == label).double().mean()), "n": self.n}
        if isinstance(dataset.density, Points):
            exact = dataset.density.class_posterior(x_t, level.alpha, level.sigma).exp()
            report["best_accuracy"] = float(exact.argmax(1).eq(label).double().mean())
            report["posterior_error"] = float((p - exact).abs().mean())
        return report

    def table(self, report: dict[str, Any]) -> str:
        return "\n".join(f"{key:16} {value:.4g}" for key, value in report.items())
