"""What the commands have in common to show: progress, the evaluation's table, figures, versions."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from diffusion_cli import __version__
from diffusion_cli.options.files import is_default_figure
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs import garbage
from diffusion_cli.runs.comparison import Compared
from diffusion_cli.runs.resume import fingerprint

if TYPE_CHECKING:
    import torch

    from diffusion_cli.components import Components
    from diffusion_cli.figures.graphic import Graphic
    from diffusion_cli.metrics.measurement import Report
    from diffusion_cli.metrics.progress import Progress
    from diffusion_cli.runs.session import Session
    from diffusion_cli.sampler import Sampler

log = logging.getLogger(__name__)


def prepare_process(threads: int | None) -> None:
    """What a command sets for the whole process: torch's threads (None: torch's choice), that freed memory is kept, that
    convolutions repeat their bits, and that Python looks for garbage, among what is made from now on."""
    from diffusion_cli.device import choose_threads, keep_freed_memory, repeat_convolutions

    garbage.look_again()
    keep_freed_memory()
    repeat_convolutions()
    choose_threads(threads)


def components_of(config: Config, session: Session) -> Components:
    """What sample, evaluate and plot work with: the components that `run=` means, which stop where a signal asks for it,
    after a word on which run that is, and on combinations that throw single samples far out."""
    from diffusion_cli.components import of

    prepare_process(config["threads"])
    components = replace(of(config), tick=session.stop.check)
    if components.run is not None:
        log.info("run %s", components.run.path)
        warn_of_outliers(components)
    return components


@contextlib.contextmanager
def joint_components(config: Config, session: Session) -> Iterator[Components]:
    """The same, whose samples are drawn by all processes of the command, which end with the block."""
    from diffusion_cli.runs.meeting import together

    with together(config, session.stop) as group:
        components = components_of(config, session)
        if group:
            group.begin(config, components.device, components.dataset.fingerprint)
            components = replace(components, group=group)
        yield components


class Measured(Facts):
    """Metrics: name -> measurement, with value, spread, floor, ratio, unit (see metrics/measurement.py), and notes; shown as
    a table.

    text: the table.
    """

    def __init__(self, report: Report, text: str) -> None:
        super().__init__(report)
        self.text = text

    def __repr__(self) -> str:
        return self.text


def is_evaluated(config: Config) -> bool:
    """Whether samples are measured at the end."""
    return config["plots"] if config["evaluate"] is None else config["evaluate"]


def evaluate(components: Components, progress: Progress) -> Measured:
    """The metrics of fresh samples; empty where there are none."""
    from diffusion_cli.metrics.measurement import caveats, measurements

    components.refuse_too_many("evaluation.n", components.evaluation.n)
    report = components.evaluate(progress)
    lines = [components.evaluation.table(report)] if measurements(report) else []
    lines = [*lines, *caveats(report)] or ["nothing is measured"]
    return Measured(report, "\n".join(lines))


def log_metrics(components: Components, measured: Measured) -> None:
    """The table of the metrics, as a line of the log and what follows it."""
    if measured:
        log.info("%s, seed %d\n%r", in_short(components.sampler), components.seed, measured)


def in_short(options: Sampler) -> str:
    """What a sampler was built with: its name, and those of its plain values that are not the default."""
    values = {field: getattr(options, field.name) for field in fields(options)}
    plain = {f.name: v for f, v in values.items() if isinstance(v, str | int | float) and v != f.default}
    return " ".join([type(options).__name__, *(f"{name}={value}" for name, value in plain.items())])


def wanted_figures(components: Components) -> Config:
    """The figures to draw at the end of a training, where they draw such data; UserError for one of the user's own that does
    not."""
    config = components.config
    nodes = config["figures"] if config["plots"] else {}
    if not components.objective.generates:
        nodes = {name: node for name, node in nodes.items() if name == "loss"}
    own = {name: node for name, node in nodes.items() if node and not is_default_figure(name, node)}
    if own:
        # Only now, for this imports matplotlib: half a second, which the first step need not wait for.
        from diffusion_cli.figures.draw import drawable

        drawable(own, components.dataset)
    return nodes


def draw_figures(
    nodes: Config, components: Components, results: Compared | None = None
) -> Iterator[tuple[str, Graphic]]:
    """Draws the figures configured in `nodes`, name -> figure: (name, graphic) of each of which there is something.

    components: of the run that they show.
    results: of the many runs that they compare, or None.
    """
    from diffusion_cli.figures.draw import draw
    from diffusion_cli.figures.graphic import Graphic

    for name, node in nodes.items():
        components.tick()
        figure = draw(node, components, results)
        if figure is not None:
            yield name, Graphic(figure, facts(components))


def facts(components: Components) -> dict[str, str]:
    """What a figure file says of itself: version, run, seed, and a hash of the whole config."""
    config = components.config
    many = config.get("sweep") or ",".join(config.get("runs") or ())
    return {
        "Software": f"diffusion_cli {__version__}",
        "run": str(components.run.path) if components.run else many or "exact",
        "seed": str(components.seed),
        "config": fingerprint(config),
    }


def describe(device: torch.device) -> Facts:
    """What a result depends on beside its config."""
    import numpy as np
    import torch

    versions = {"diffusion_cli": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions | {"python": platform.python_version()},
    }


def warn_of_outliers(components: Components) -> None:
    """A warning where single samples are known to land far outside of the data."""
    from diffusion_cli.metrics.diagnosis import amplified_errors

    finding = amplified_errors(components.schedule, components.sampler, components.parameterization)
    if components.objective.generates and not finding.well:
        log.warning("outliers are likely: %s %s; %s", finding.what, finding.value, finding.change)
