"""The likelihood of fresh data under a model, beside what is exact where the density is."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.denoiser import Denoiser
from diffusion_cli.metrics.catalogue import BOUND, BOUND_GAP, FLOW, FLOW_BITS, FLOW_ERROR, Metric
from diffusion_cli.metrics.likelihood import (
    Estimate,
    bits,
    entropy,
    flow_log_prob,
    log_likelihood,
    variational_terms,
)
from diffusion_cli.metrics.measurement import Measurement, Note, Report, measured, measurements
from diffusion_cli.noise import NoiseStream, Stream, generator


def evaluate_likelihood(
    denoiser: Denoiser,
    dataset: Dataset,
    n: int = 2_000,
    steps: int = 100,
    probes: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Measurement | Note]:
    """Measure the log-likelihood of n fresh points of the data, given their labels where there are any.

    steps, probes: of the flow, see `likelihood.flow_log_prob`.

    Returns the `Measurement` flow, of clean points, in nats; flow_bits, the same in bits per dimension; bound, the
    variational bound, and its terms L_0..L_T, in bits per dimension; and where the density of the data is exact
    flow_error, the log-density of noised points at t = 1 less the true one, in nats, entropy, in bits per dimension, and
    bound_gap, by how much the bound on these points exceeds their true -log p, in nats; elsewhere None.
    """
    batch = dataset.draw(n, generator(seed, Stream.LIKELIHOOD, device=device))
    x0, label, shape, density = batch.x0, batch.label, dataset.shape, dataset.density
    noise = NoiseStream(seed, n, shape, device, Stream.BOUND)
    signs = generator(seed, Stream.SIGNS, device=device)
    flow = log_likelihood(denoiser, x0, label, steps, probes, signs)
    terms = variational_terms(denoiser, x0, noise, label)
    bound = terms.sum(0)
    report: dict[str, Measurement | Note] = {
        "n": n,
        FLOW.name: _estimate(FLOW, flow),
        FLOW_ERROR.name: None,
        BOUND_GAP.name: None,
        "entropy": None,
        BOUND.name: measured(BOUND, bits(float(bound.mean()), shape)),
        "terms": [bits(float(term), shape) for term in terms.mean(1)],
        FLOW_BITS.name: measured(FLOW_BITS, -bits(float(flow.mean()), shape)),
    }
    if density is not None:
        level = denoiser.schedule.level(1.0, like=x0)
        x_1 = level.alpha * x0 + level.sigma * noise()
        ours = flow_log_prob(denoiser, x_1, 1.0, label, steps, probes, signs).cpu()
        true = density.log_prob(x_1.double(), level.alpha, level.sigma, label).cpu()
        report[FLOW_ERROR.name] = _estimate(FLOW_ERROR, ours - true)
        exact = entropy(density, 50 * n, generator(seed, Stream.ENTROPY))
        if exact is not None:
            report["entropy"] = bits(exact.value, shape)
            gap = bound.cpu() + density.log_prob(x0.double(), 1.0, 0.0, label).cpu()
            report[BOUND_GAP.name] = _estimate(BOUND_GAP, gap)
    return report


def _estimate(metric: Metric, values: Tensor) -> Measurement:
    value, error = Estimate.of(values)
    return {**measured(metric, value), "error": error}


def likelihood_table(report: Report) -> str:
    """The report of `evaluate_likelihood` as lines of text."""
    found = measurements(report)

    def nats(name: str) -> str:
        return f"{found[name]['value']:.5f} ± {found[name]['error']:.5f} nats" if name in found else "unknown"

    def in_bits(value: object) -> str:
        return "none" if value is None else f"{value:.4f} bits per dimension"

    first, *middle, last = cast(list[float], report["terms"])
    rows = {
        "log-likelihood": f"{nats('flow')}, {in_bits(found['flow_bits']['value'])}",
        "less the truth, at t = 1": nats("flow_error"),
        "variational bound": in_bits(found["bound"]["value"]),
        "its terms": f"L_0 {first:.4f}, L_1 to L_{len(middle)} {sum(middle):.4f}, L_{len(middle) + 1} {last:.5f}",
        "more than the truth": nats("bound_gap"),
        "entropy of the data": in_bits(report["entropy"]),
    }
    return "\n".join(f"{name:<26}{value}" for name, value in rows.items())
