"""`diffusion doctor`: why the samples of a run look wrong, from what is exactly known of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diffusion_cli.commands.lesson import compared_on, score
from diffusion_cli.commands.output import components_of, describe
from diffusion_cli.errors import UserError
from diffusion_cli.options.groups import EXACT
from diffusion_cli.ranges import Config
from diffusion_cli.runs.atomic import write_json
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.session import Session

if TYPE_CHECKING:
    from diffusion_cli.components import Components
    from diffusion_cli.metrics.diagnosis import Finding

log = logging.getLogger(__name__)
# Samples, and points of the data, that are looked at: as many as take a moment.
LOOKED_AT = 1000
# Noise levels at which the network is compared with the exact denoiser.
LEVELS = 50


def check(config: Config, directory: str | None) -> None:
    """Before anything is written: whether there is a network to look at."""
    if config["run"] == EXACT:
        raise UserError("run", EXACT, "has no network that could be at fault; name a trained run")


def main(config: Config, run: RunDirectory, session: Session) -> None:
    import torch

    components = components_of(config, session)
    if not components.objective.generates:
        raise UserError("run", config["run"], "is a classifier, which makes no samples")
    with torch.no_grad(), session.phase("looking"):
        findings = list(findings_of(components))
    for finding in sorted(findings, key=lambda finding: finding.well):
        log.info("%s", finding)
    ill = sum(not finding.well for finding in findings)
    log.info("%s", f"{ill} of {len(findings)} need a look" if ill else f"all {len(findings)} are well")
    report = {"run": config["run"], "findings": [finding._asdict() for finding in findings]}
    write_json(run.path / "doctor.json", report | describe(components.device))


def findings_of(c: Components) -> Iterator[Finding]:
    """What is known of a trained run, one finding after the other."""
    import math

    from diffusion_cli.metrics import diagnosis
    from diffusion_cli.metrics.network_error import velocity_errors
    from diffusion_cli.noise import NoiseStream, Stream, generator
    from diffusion_cli.runs.restore import chosen

    run = c.run
    assert run is not None and c.net is not None
    small = LOOKED_AT if c.dataset.kind in ("line", "plane", "space") else 64
    batch = c.dataset.draw(small, generator(c.seed, Stream.FIGURE, device=c.device))
    data, times = batch.x0, c.times[:-1]
    yield diagnosis.end_of_schedule(c.schedule)
    yield diagnosis.scale_of_data(data)
    if c.dataset.density is not None:
        noise = NoiseStream(c.seed, small, c.dataset.shape, c.device)
        network = c.walking.clipped(c.network_denoiser(c.net.eval()))
        errors = velocity_errors(network, c.exact, batch, noise, times[:: max(1, len(times) // LEVELS)])
        yield diagnosis.error_of_network(errors, math.prod(c.dataset.shape))
    if run.record.command == "train":
        last = c.new_net()
        last.load_state_dict(chosen(run, c.config["weights"])["state"]["net"])
        batches = compared_on(c.batches)
        yield diagnosis.average(score(c, c.net, batches), score(c, last, batches))
    yield diagnosis.amplified_errors(c.schedule, c.sampler, c.parameterization)
    yield diagnosis.steps(c.sampler, c.schedule.T)
    trained_with = run.record.current["guidance"].get("label_dropout", 0.0)
    of_labels = diagnosis.guidance(c.guidance, trained_with)
    if of_labels is not None:
        yield of_labels
    samples = c.draw(small).x0
    yield diagnosis.finite(samples)
    yield diagnosis.out_of_range(samples, c.dataset.box)
