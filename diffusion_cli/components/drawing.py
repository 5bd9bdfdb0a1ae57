"""What is drawn from the objects of a run, and measured, by all processes of a command."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor

from diffusion_cli.components.composed import Composed
from diffusion_cli.components.labels import Requested
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.protocol import NO_LABEL
from diffusion_cli.dataset.remembered import Remembered
from diffusion_cli.dataset.units import Units
from diffusion_cli.device import ALONE, ProcessGroup, free_memory
from diffusion_cli.errors import UserError, in_group
from diffusion_cli.metrics.measurement import Report, in_units, of_classes
from diffusion_cli.metrics.progress import Multiplied, NoBar, Progress, ProgressBar, silent
from diffusion_cli.metrics.protocol import EvaluationInput, Work
from diffusion_cli.noise import ROWS, Stream, mix
from diffusion_cli.options.groups import GROUPS
from diffusion_cli.ranges import Config
from diffusion_cli.sampler import State, chain

if TYPE_CHECKING:
    from diffusion_cli.runs.directory import Arrays

Item = TypeVar("Item")
Made = TypeVar("Made")

# Numbers of the samples whose chains run at once where there are more.
LOT = 320_000
# How often samples are in memory at most: as they are drawn, joined, turned to numpy and written.
COPIES = 6
# The same of samples that go to the disk lot by lot: once, and once more, by whoever reads them.
READ = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Components(Composed):
    """All objects of one run, and the samples that they mean.

    drawn: the first samples, where they have been drawn already: see `samples`.
    group: the processes that draw samples and evaluate together.
    """

    drawn: Arrays | None = field(default=None, repr=False)
    group: ProcessGroup = field(default=ALONE, repr=False)

    @property
    def units(self) -> Units:
        """What leaves the run goes through these: samples, stages, figures and metrics are in the units of the data's file."""
        return self.dataset.units

    def walk(
        self, n: int, seed: int | None = None, label: Tensor | None = None, first: int = 0
    ) -> Iterator[State]:
        """The chains of n samples: states from x_T to x_0. label: of each; None: see `labels`. first: see `chain`."""
        seed = self.seed if seed is None else seed
        label = self.labels(n, seed) if label is None else label
        shape, device = self.dataset.shape, self.device
        with in_group("sampler"):
            for state in chain(self.walking, self.denoiser, n, shape, seed, label, device, first):
                self.tick()
                yield state

    @property
    def lot(self) -> int:
        """How many chains run at once: whole batches of the network and whole blocks of noise, so that no bit depends on
        it."""
        whole = math.lcm(self.config["sample_batch"], ROWS)
        return whole * max(1, LOT // (whole * math.prod(self.dataset.shape)))

    def lots(self, n: int, seed: int | None = None, progress: Progress = silent) -> Iterator[Batch]:
        """n samples as `draw` gives them, one lot after the other: but for the labels, the memory that they need does not
        grow with n."""
        label, seed = self.labels(n, seed), self.seed if seed is None else seed
        lots = [range(first, min(first + self.lot, n)) for first in range(0, n, self.lot)]
        with progress(sum(len(self.pieces(rows)) for rows in lots) * len(self.times)) as bar:
            for rows in lots:
                part = None if label is None else label[rows.start : rows.stop]
                drawn = self.each(Draw(rows, seed, part), self.pieces(rows), bar)
                yield Batch(_joined([x0.to(self.device) for x0 in drawn]), part)

    def pieces(self, rows: range) -> list[range]:
        """These rows of samples in the pieces that are drawn by themselves. They follow from the shards of the run, so that
        the bits of samples are the same however many processes there are."""
        count = math.lcm(self.config.get("shards") or 1, self.group.size)
        return [rows[k * len(rows) // count : (k + 1) * len(rows) // count] for k in range(count)]

    def each(self, work: Work[Item, Made], items: Sequence[Item], bar: ProgressBar) -> list[Made]:
        """work(components, item, bar) of each item, in their order: each process of the group does a part of them, with its
        own data and on its own device. What is sent to and fro, `work`, items and results, must pickle."""
        own = len(self.group.own(len(items)))
        order = Order(work, items, self.config, self.label, self.net is None)
        counted = Multiplied(bar, len(items) / max(1, own))
        parts = self.group.call(order, lambda: order.part(self, counted))
        return [result for part in parts for result in part]

    def draw(self, n: int, seed: int | None = None, progress: Progress = silent) -> Batch:
        """n samples x0 (n, *shape) and their labels, on the device."""
        self.refuse_too_many("n", n)
        lots = list(self.lots(n, seed, progress))
        label = [lot.label for lot in lots if lot.label is not None]
        return Batch(_joined([lot.x0 for lot in lots]), _joined(label) if label else None)

    def refuse_too_many(self, key: str, n: int, copies: int = COPIES) -> None:
        """UserError for `key` where n samples do not fit into memory so many times; it names the number that does."""
        labels = 8 if self.classes.num_classes else 0
        each = copies * (4 * math.prod(self.dataset.shape) + labels)
        most = free_memory() // each
        if n > most:
            raise UserError(key, n, f"needs {n * each / 1e9:.3g} GB of memory; at most {most} fit now")

    def stream(self, progress: Progress = silent) -> Iterator[Arrays]:
        """The `n` samples of this config, lot by lot: x0 in the file's units and label, as numpy arrays."""
        n = self.config["n"]
        self.refuse_too_many("n", n, READ)
        for x0, label, _ in self.lots(n, progress=progress):
            yield self.units.array(x0), None if label is None else label.cpu().numpy()

    @cached_property
    def samples(self) -> Arrays:
        """The `n` samples of this config, or what was drawn of them already, as numpy arrays."""
        if self.drawn is not None:
            return self.drawn
        x0, label, _ = self.draw(self.config["n"])
        return self.units.array(x0), None if label is None else label.cpu().numpy()

    def evaluation_input(self, progress: Progress = silent) -> EvaluationInput:
        """What is evaluated: independent sets of samples of the evaluation's own size; or a classifier."""

        def draw(k: int) -> Batch:
            x0, label, _ = self.draw(self.evaluation.n, mix(self.seed, Stream.EVALUATION, k), progress)
            return Batch(x0.cpu(), None if label is None else label.cpu())

        generates, net = self.objective.generates, self.net
        return EvaluationInput(
            self.dataset,
            self.schedule,
            self.seed,
            draw,
            denoiser=self.denoiser if generates else None,
            classifier=None if generates or net is None else net.eval(),
            device=self.device,
            progress=progress,
            group=self.each,
        )

    def evaluate(self, progress: Progress = silent) -> Report:
        """The metrics of fresh samples, in the file's units; of a classifier, its own."""
        if isinstance(self.dataset, Remembered):
            raise self.dataset.missing()
        with in_group("evaluation"):
            report = in_units(self.evaluation(self.evaluation_input(progress)), self.units.scale)
        return report if self.label in (None, NO_LABEL) else of_classes(report)


@dataclass(frozen=True)
class Order(Generic[Item, Made]):
    """What process 0 orders the others to do: order(components) is the part of some work that a process does.

    work, items: see `Components.each`.
    config, label: of process 0's components, which may be a variation of those that another process has.
    exact: whether these are the exact denoiser's.
    """

    work: Work[Item, Made]
    items: Sequence[Item]
    config: Config
    label: Requested
    exact: bool

    def part(self, components: Components, bar: ProgressBar) -> list[Made]:
        """The results of the items that are this process's."""
        own = components.group.own(len(self.items))
        return [self.work(components, self.items[k], bar) for k in own]

    def __call__(self, components: Components) -> list[Any]:
        before = components.config
        changed = {k: v for k, v in self.config.items() if k in GROUPS and k != "figure" and v != before[k]}
        net = None if self.exact else components.net
        varied = replace(components.varied(**changed), config=self.config, label=self.label, net=net)
        results = self.part(varied, NoBar())
        return [result.cpu() if isinstance(result, Tensor) else result for result in results]


@dataclass(frozen=True)
class Draw:
    """The work of drawing samples: x0 of each of these rows.

    rows: the numbers of all samples.
    seed: of the chains.
    label: of each of them, or None.
    """

    rows: range
    seed: int
    label: Tensor | None

    def __call__(self, components: Components, rows: range, bar: ProgressBar) -> Tensor:
        x0, label = torch.empty(0, *components.dataset.shape, device=components.device), None
        if self.label is not None:
            first = self.rows.start
            label = self.label[rows.start - first : rows.stop - first].to(components.device)
        if rows:
            for state in components.walk(len(rows), self.seed, label, rows.start):
                x0 = state.x
                bar.update()
        return x0


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]
