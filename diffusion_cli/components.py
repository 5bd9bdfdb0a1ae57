"""The objects of one run: built once from its options, and never changed.

components = build(config)                                  # the exact denoiser of the dataset's density
components = trained(config, run)                           # the network of a run
components.varied(sampler={"steps": 10}).draw(5000).x0      # the same with another sampler
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_cli import sampler as samplers
from diffusion_cli.dataset.batch import Batch
from diffusion_cli.dataset.cache import kept_content
from diffusion_cli.dataset.protocol import NO_LABEL
from diffusion_cli.dataset.remembered import Remembered, is_memory
from diffusion_cli.dataset.standardized import in_standard_units
from diffusion_cli.dataset.units import Units
from diffusion_cli.denoiser import (
    Batched,
    Denoiser,
    ExactDenoiser,
    Jump,
    MeasuredVariance,
    NetworkDenoiser,
    Student,
)
from diffusion_cli.device import ALONE, ProcessGroup, device_of, free_memory, precision_of
from diffusion_cli.distillation import jumps_of
from diffusion_cli.errors import ArgumentError, UserError, in_group
from diffusion_cli.grid import fitted_times
from diffusion_cli.guidance import ClassifierFree, ClassifierGuidance, ExactClassifier, Unguided
from diffusion_cli.metrics.classification import ClassifierEvaluation
from diffusion_cli.metrics.measurement import Report, in_units, of_classes
from diffusion_cli.metrics.progress import NoBar, Progress, ProgressBar, silent
from diffusion_cli.metrics.protocol import Evaluation, EvaluationInput
from diffusion_cli.model.classifier import LabelClassifier
from diffusion_cli.model.network import Network, as_network
from diffusion_cli.multistep import Multistep
from diffusion_cli.noise import ROWS, NoiseStream, Stream, generator, mix, seeded
from diffusion_cli.options.build import build_component as make
from diffusion_cli.options.check import check_config
from diffusion_cli.options.groups import EXACT, GROUPS, RUN, WEIGHTS
from diffusion_cli.runs.config import DATA_PLACES
from diffusion_cli.runs.directory import RunDirectory
from diffusion_cli.runs.restore import LAST, chosen, fit_in, newest

# Numbers of the samples whose chains run at once where there are more.
LOT = 320_000
# How often samples are in memory at most: as they are drawn, joined, turned to numpy and written.
COPIES = 6
# The same of samples that go to the disk lot by lot: once, and once more, by whoever reads them.
READ = 2
# Chains that a grid is fitted to, of points with at most so many coordinates; of images and sets a thirty-second.
FITTED_ON, SMALL = 512, 16
log = logging.getLogger(__name__)
Config = dict[str, Any]
Arrays = tuple[NDArray[Any], NDArray[Any] | None]


@dataclass(frozen=True, eq=False)
class Components:
    """All objects of one run.

    config: its options, a plain nested dict.
    label: the classes to sample, in turn, by number or name; none: no class; None: as in the data.
    net: the network with its averaged weights; None: the exact denoiser of the dataset's density stands for it.
    run: where the network comes from, or None.
    teacher: of a student, to which it leaves the last call.
    drawn: the first samples, where they have been drawn already: see `samples`.
    tick: called between the steps of what takes long; it may raise, to stop it.
    group: the processes that draw samples together.
    """

    config: Config = field(repr=False)
    seed: int
    device: torch.device
    dataset: Any
    schedule: Any
    parameterization: Any
    objective: Any
    optimizer: Any
    guidance: Any
    sampler: Any
    evaluation: Evaluation
    label: int | str | list[int | str] | None = None
    net: Network | None = None
    run: RunDirectory | None = None
    teacher: Components | None = None
    drawn: Arrays | None = field(default=None, repr=False)
    tick: Callable[[], None] = field(default=lambda: None, repr=False)
    group: ProcessGroup = field(default=ALONE, repr=False)

    def varied(self, **groups: dict[str, Any]) -> Components:
        """The same with some keys of some groups changed, which alone are built anew.

        >>> components.varied(schedule={"T": 10}, sampler={"steps": None})
        """
        config = self.config | {group: self.config[group] | keys for group, keys in groups.items()}
        of_data = {"guidance": _guidance, "sampler": _sampler}
        made = {g: of_data[g](config, self.dataset) if g in of_data else make(config, g) for g in groups}
        return replace(self, config=config, **made)

    @property
    def times(self) -> list[float]:
        """The times through which the sampler goes, T first; an error where its options do not fit the schedule."""
        return self.walking.times(self.schedule) if isinstance(self.sampler, samplers.Sampler) else []

    @cached_property
    def walking(self) -> Any:
        """The sampler with its grid fitted, where that is wanted; log_snr stands for it while a network is in training."""
        if not isinstance(self.sampler, samplers.Sampler) or self.sampler.grid != "fitted":
            return self.sampler
        finished = self.run is not None or self.config.get("run") == EXACT
        if not finished or "calls" in self.config:
            return replace(self.sampler, grid="log_snr")
        n = FITTED_ON if math.prod(self.dataset.shape) <= SMALL else FITTED_ON // 32
        noise = NoiseStream(self.seed, n, self.dataset.shape, self.device, Stream.GRID)()
        label = self.labels(n)
        about: dict[str, Any] = {
            key: self.config[key] for key in ("dataset", "schedule", "sampler", "guidance")
        }
        about |= {"noise": noise, "label": label, "net": {} if self.net is None else self.net.state_dict()}

        def fit() -> dict[str, Any]:
            log.info("fitting the times of %d steps to the denoiser", len(plain.times(self.schedule)) - 1)
            return {"times": fitted_times(self.sampler, self.denoiser, noise, label, self.tick)}

        plain = replace(self.sampler, grid="log_snr")
        with in_group("sampler"):
            return replace(self.sampler, fitted=tuple(kept_content("grids", about, fit)["times"]))

    @property
    def logger(self) -> Any:
        """Where the numbers of training go beside metrics.csv."""
        return make(self.config, "logger")

    # denoisers

    @cached_property
    def denoiser(self) -> Denoiser:
        """The guided denoiser of the network, or without one the exact denoiser, guided."""
        if self.net is not None and self.net.numbers:
            teacher = self.teacher or replace(self, net=None)
            return Batched(
                self._student(self.net.eval(), teacher.unguided), self.config["sample_batch"], self.tick
            )
        if isinstance(self.sampler, Multistep) and self.sampler.order == 3 and self.net is not None:
            log.warning(
                "sampler.order=3: third order amplifies the error of a trained network; compare order 2"
            )
        return self._guided(self.unguided)

    @property
    def unguided(self) -> Denoiser:
        """The denoiser of the network, or without one the exact denoiser."""
        if self.net is None:
            return self.exact
        if not self.objective.generates:
            raise UserError(
                "run", str(self.run.path if self.run else ...), "is a classifier, which draws no samples"
            )
        return Batched(self.network_denoiser(self.net.eval()), self.config["sample_batch"], self.tick)

    @property
    def exact(self) -> ExactDenoiser:
        if self.dataset.density is None:
            raise UserError("run", "exact", "the exact denoiser of this dataset is not known")
        return ExactDenoiser(self.dataset.density, self.schedule)

    def network_denoiser(self, net: Network) -> NetworkDenoiser:
        """A network, trained or in training, as a denoiser of this run's precision, without guidance."""
        precision = precision_of(self.config["precision"], self.device, net)
        return NetworkDenoiser(net, self.parameterization, self.schedule, precision)

    @cached_property
    def jumps(self) -> list[Jump]:
        """Of a student (config `calls`): those of so many calls, of half as many, and so on down to one."""
        calls = self.config["calls"]
        counts = [n for n in (1, 2, 4) if n == calls or (n < calls and self.config["method"] == "paths")]
        return jumps_of([samplers.DDIM(steps=count).times(self.schedule) for count in counts])

    def _student(self, net: Network, teacher: Denoiser) -> Student:
        """A student's network, under the guidance weight that it takes as an input."""
        if not isinstance(self.sampler, samplers.DDIM) or self.sampler.eta:
            raise UserError("sampler", ..., "a student makes its own jumps, by sampler=ddim alone")
        most, w = self.config["w_max"], 0.0
        if isinstance(self.guidance, ClassifierFree) and most is not None:
            w = self.guidance.w
            if self.guidance.between is not None:
                reason = "a student has learned guidance at all noise levels alone"
                raise UserError("guidance.between", self.guidance.between, reason)
        elif not isinstance(self.guidance, Unguided):
            reason = "this student has learned none; one that is distilled with w_max=3 takes guidance=cfg"
            raise UserError("guidance", ..., reason)
        if most is not None and not 0 <= w <= most:
            raise UserError("guidance.w", w, f"this student has learned weights from 0 to {most:g}")
        plain = self.network_denoiser(net)
        given = (net, plain.parameterization, plain.schedule, plain.precision)
        return Student(*given, self.guidance(teacher), self.jumps, None if most is None else w)

    def _guided(self, denoiser: Denoiser) -> Denoiser:
        if isinstance(self.sampler, samplers.DDPM) and self.sampler.variance == "analytic":
            denoiser = MeasuredVariance(denoiser, self.dataset, self.seed, self.device)
        # In batches once more: the gradient of a classifier takes several times the memory of the network itself.
        return Batched(self.guidance(denoiser), self.config["sample_batch"])

    # samples

    @property
    def units(self) -> Units:
        """What leaves the run goes through these: samples, stages, figures and metrics are in the units of the data's file."""
        return self.dataset.units

    @property
    def num_classes(self) -> int:
        """Classes that may be requested: the data's, or those of the classifier that guides."""
        guided = isinstance(self.guidance, ClassifierGuidance)
        return self.guidance.classifier.num_classes if guided else self.dataset.num_classes

    def labels(self, n: int, seed: int | None = None) -> Tensor | None:
        """(n,) labels int64: the requested ones in turn, or drawn as in the data; None for data without labels."""
        classes = self.num_classes
        if self.label == NO_LABEL:
            self._check_unconditional()
            return None
        if self.label is None:
            if classes > self.dataset.num_classes:
                raise UserError("label", None, f"guidance needs one of 0..{classes - 1}")
            if not classes:
                return None
            g = generator(self.seed if seed is None else seed, Stream.LABELS, device=self.device)
            return self.dataset.draw_labels(n, g)
        if not classes:
            raise UserError("label", self.label, "this model was trained without labels")
        given = self.label if isinstance(self.label, list) else [self.label]
        labels = [self.class_of(label) for label in given]
        return torch.tensor(labels, device=self.device).repeat(-(-n // len(labels)))[:n]

    def _check_unconditional(self) -> None:
        """UserError where there are no unconditional samples to draw."""
        if isinstance(self.guidance, ClassifierGuidance):
            raise UserError("label", NO_LABEL, "guidance=classifier needs a class")
        if self.net is not None and self.net.num_classes and not self.guidance.label_dropout:
            reason = "this model was trained without label dropout; train it with guidance.label_dropout=0.1"
            raise UserError("label", NO_LABEL, reason)

    def class_of(self, label: int | str) -> int:
        """The number of a class, given by its name or number; `none` means no label, which the network knows of label dropout.

        A name goes before a number, so that label=2 is the folder 2 where the folders are 1, 2 and 3.
        """
        classes, names = self.num_classes, self.dataset.class_names
        if str(label) in names and classes == len(names):
            return names.index(str(label))
        if label == NO_LABEL and classes == self.dataset.num_classes and self.guidance.label_dropout > 0:
            return classes
        if isinstance(label, str) or not 0 <= label < classes:
            choices = names if names != tuple(map(str, range(classes))) else ()
            raise UserError("label", label, f"must be one of 0..{classes - 1}", choices)
        return label

    def walk(
        self, n: int, seed: int | None = None, label: Tensor | None = None, first: int = 0
    ) -> Iterator[samplers.State]:
        """The chains of n samples: states from x_T to x_0. label: of each; None: see `labels`. first: see `chain`."""
        seed = self.seed if seed is None else seed
        label = self.labels(n, seed) if label is None else label
        shape, device = self.dataset.shape, self.device
        with in_group("sampler"):
            for state in samplers.chain(self.walking, self.denoiser, n, shape, seed, label, device, first):
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
        pieces = math.lcm(self.config.get("shards") or 1, self.group.size)
        own = len(self.group.own(pieces)) * max(1, len(self.times))
        with progress(own * -(-n // self.lot)) as bar:
            for first in range(0, n, self.lot):
                rows = range(first, min(first + self.lot, n))
                part = None if label is None else label[first : rows.stop]
                order = DrawOrder(rows, seed, part, pieces, self.config, self.net is None)
                drawn = self.group.call(order, partial(self.draw_part, rows, seed, part, pieces, bar))
                yield Batch(_joined([x0.to(self.device) for x0 in drawn]), part)

    def draw_part(
        self, rows: range, seed: int, label: Tensor | None, pieces: int, bar: ProgressBar
    ) -> Tensor:
        """Those of the samples of these numbers that this process draws of so many pieces. The pieces follow from the shards
        of the run, so that the bits of samples are the same however many processes there are."""
        parts = []
        for piece in self.group.own(pieces):
            first, last = (k * len(rows) // pieces for k in (piece, piece + 1))
            x0 = torch.empty(0, *self.dataset.shape, device=self.device)
            if first < last:
                part = None if label is None else label[first:last]
                for state in self.walk(last - first, seed, part, rows.start + first):
                    x0 = state.x
                    bar.update()
            parts.append(x0)
        return _joined(parts)

    def draw(self, n: int, seed: int | None = None, progress: Progress = silent) -> Batch:
        """n samples x0 (n, *shape) and their labels, on the device."""
        self.refuse_too_many("n", n)
        lots = list(self.lots(n, seed, progress))
        if len(lots) == 1:
            return lots[0]
        label = (
            None if lots[0].label is None else torch.cat([lot.label for lot in lots if lot.label is not None])
        )
        return Batch(torch.cat([lot.x0 for lot in lots]), label)

    def refuse_too_many(self, key: str, n: int, copies: int = COPIES) -> None:
        """UserError for `key` where n samples do not fit into memory so many times; it names the number that does."""
        labels = 8 if self.num_classes else 0
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

    # evaluation

    def evaluation_input(self, progress: Progress = silent) -> EvaluationInput:
        """What is evaluated: independent sets of samples of the evaluation's own size; or a classifier."""

        def draw(k: int) -> Batch:
            x0, label, _ = self.draw(self.evaluation.n, mix(self.seed, Stream.EVALUATION, k), progress)
            return Batch(x0.cpu(), None if label is None else label.cpu())

        given = EvaluationInput(
            self.dataset, self.schedule, self.seed, draw, device=self.device, progress=progress
        )
        if self.objective.generates:
            return replace(given, denoiser=self.denoiser)
        return replace(given, classifier=None if self.net is None else self.net.eval())

    def evaluate(self, progress: Progress = silent) -> Report:
        """The metrics of fresh samples, in the file's units; of a classifier, its own."""
        if isinstance(self.dataset, Remembered):
            raise self.dataset.missing()
        with in_group("evaluation"):
            report = in_units(self.evaluation(self.evaluation_input(progress)), self.units.scale)
        return report if self.label in (None, NO_LABEL) else of_classes(report)

    # networks

    def new_net(self) -> Network:
        """The network with its initial weights, which depend on the seed alone."""
        shape, outputs = self.dataset.shape, self.objective.outputs
        classes = self.dataset.num_classes if self.objective.generates else 0
        # A student's network takes the time to which it goes and, where it has learned guidance, the weight.
        numbers = 1 + (self.config["w_max"] is not None) if "calls" in self.config else 0
        extra = {"outputs": outputs} if outputs > 1 else {}
        extra |= {"numbers": numbers} if numbers else {}
        with seeded(self.seed, Stream.WEIGHTS):
            module = make(self.config, "model", shape=shape, num_classes=classes, **extra)
            net = as_network(module, shape, classes, outputs)
            if not self.objective.generates:
                net = self._classifier_on(net)
        return net.to(self.device)

    def _classifier_on(self, net: Network) -> LabelClassifier:
        with in_group("objective"):
            return LabelClassifier(net, self.dataset.num_classes)

    @property
    def remembered(self) -> dict[str, Any]:
        """What a student's checkpoint keeps of its teacher: this config, and the weights of the network."""
        assert self.net is not None
        return {"config": self.config, "ema": self.net.state_dict()}

    def restored(self, run: RunDirectory) -> Components:
        """The same with the network of a trained run (config `weights`: last, best, or a step)."""
        net, saved = self.new_net(), chosen(run, self.config.get("weights", LAST))
        fit_in(net, saved["state"]["ema"], "run", run)
        return replace(self, net=net.eval(), run=run, teacher=self._teacher(saved.get("teacher"), run))

    def _teacher(self, saved: Any, run: RunDirectory) -> Components | None:
        """The teacher that a student's checkpoint, which may be a stranger's, keeps; None: the exact denoiser."""
        if saved is None:
            return None
        theirs = saved["config"]
        check_config(theirs)
        teacher = build(
            theirs | {"device": self.config["device"], "sample_batch": self.config["sample_batch"]},
            self.dataset,
        )
        net = teacher.new_net()
        fit_in(net, saved["ema"], "run", run)
        return replace(teacher, net=net.eval())


@dataclass(frozen=True)
class DrawOrder:
    """What process 0 orders the others to draw: order(components) is their part of it.

    rows: the numbers of the samples.
    seed: of the chains.
    label: of each sample, or None.
    pieces: in which they are drawn.
    config: of the components that they are drawn from, which may be a variation of those that a process has.
    exact: whether the exact denoiser draws them.
    """

    rows: range
    seed: int
    label: Tensor | None
    pieces: int
    config: Config
    exact: bool

    def __call__(self, components: Components) -> Tensor:
        before = components.config
        changed = {k: v for k, v in self.config.items() if k in GROUPS and k != "figure" and v != before[k]}
        varied = replace(components.varied(**changed), config=self.config)
        net, label = None if self.exact else varied.net, self.label
        if label is None:
            # None as a label would mean those of the data
            varied = replace(varied, label=NO_LABEL)
        else:
            label = label.to(varied.device)
        return replace(varied, net=net).draw_part(self.rows, self.seed, label, self.pieces, NoBar()).cpu()


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def build(config: Config, dataset: Any = None) -> Components:
    """The components of a config, without a network. Raises UserError for options that do not fit each other.

    dataset: the one to take, in place of the config's.
    """
    with in_group("dataset"):
        dataset = in_standard_units(dataset or make(config, "dataset"))
    groups = ("schedule", "parameterization", "objective", "optimizer")
    made = {"dataset": dataset, **{group: make(config, group) for group in groups}}
    objective = made["objective"]
    known = dataset.density is not None or isinstance(dataset, Remembered)
    if objective.targets == "exact" and not known:
        raise UserError("objective.targets", "exact", "the exact density of this dataset is not known")
    with in_group(""):
        device = device_of(config["device"])
    return Components(
        config=config,
        seed=config["seed"],
        device=device,
        **made,
        guidance=_guidance(config, dataset),
        sampler=_sampler(config, dataset),
        evaluation=_evaluation(config, dataset) if objective.generates else ClassifierEvaluation(),
        label=config.get("label"),
    )


def of(config: Config) -> Components:
    """The components that `run=` of a config means: with the network of that run, or `exact`."""
    return build(config) if config["run"] == EXACT else trained(config, RunDirectory(config["run"]))


def trained(config: Config, run: RunDirectory) -> Components:
    """The components of a config with the network of a trained run."""
    return build(config, _data_of(config, run)).restored(run)


def _data_of(config: Config, run: RunDirectory) -> Any:
    """The dataset of a trained run; where its files are gone or have changed, what the run remembers of it.

    Raises UserError where the config says of another place than the run's that they are there, and they are not.
    """
    saved = chosen(run, config.get("weights", LAST)).get("data")
    if not is_memory(saved):
        raise UserError("run", str(run.path), "its checkpoint says nothing of its data")
    assert saved is not None
    ours, record = config["dataset"], run.record
    argument = next((key for key in DATA_PLACES if key in ours), None)
    if saved["fingerprint"] is None or argument is None:
        return make(config, "dataset")
    key, place = f"dataset.{argument}", ours[argument]
    anew = place not in (record.config["dataset"].get(argument), record.paths.get(key))
    try:
        dataset = make(config, "dataset")
        if dataset.fingerprint == saved["fingerprint"]:
            return dataset
        reason = "holds other data than those that the run was trained on"
    except UserError as error:
        if anew:
            raise
        reason = error.reason
    if anew:
        raise UserError(key, place, reason)
    log.info("%s=%s: %s; samples do not need the data", key, place, reason)
    return Remembered(saved, (argument, place))


def _guidance(config: Config, dataset: Any) -> Any:
    """Denoiser -> denoiser. For one that names a run, that run's classifier is handed in."""
    node = dict(config["guidance"])
    if RUN in node and WEIGHTS in node:
        weak = _weak(config, dataset, node.pop(RUN), node.pop(WEIGHTS))
        return make({"guidance": node}, "guidance", weak=weak)
    if RUN in node:
        classifier = _classifier(config, dataset, node.pop(RUN))
        return make({"guidance": node}, "guidance", classifier=classifier)
    guidance = make(config, "guidance")
    if isinstance(guidance, ClassifierFree) and not dataset.num_classes:
        raise UserError("guidance", "cfg", "this dataset has no labels, and so its model knows none")
    return guidance


def _sampler(config: Config, dataset: Any) -> Any:
    """The sampler; one that clips by the data is given their range."""
    sampler = make(config, "sampler")
    if isinstance(sampler, samplers.Sampler) and sampler.clip == "data":
        return replace(sampler, box=dataset.box)
    return sampler


def _evaluation(config: Config, dataset: Any) -> Evaluation:
    """The evaluation, if it is for such data."""
    evaluation = make(config, "evaluation")
    if isinstance(dataset, Remembered):
        return evaluation
    with in_group("evaluation"):
        evaluation.check(dataset)
    return evaluation


def _classifier(config: Config, dataset: Any, name: str) -> Any:
    """The classifier of a run of objective=classifier, or `exact`: that of the dataset's density."""
    if name == "exact":
        try:
            return ExactClassifier(dataset.density)
        except ArgumentError as error:
            raise UserError("guidance.run", name, error.reason) from None
    run = RunDirectory.find(name, "guidance.run")
    theirs = newest(run)["config"]
    _check_same_data(config, theirs, name)
    other = build(theirs | {"device": config["device"]})
    if other.objective.generates:
        raise UserError("guidance.run", name, "is no classifier; train one with objective=classifier")
    net = other.restored(run).net
    assert net is not None
    return net.requires_grad_(False)


def _weak(config: Config, dataset: Any, name: str, weights: str | int) -> Denoiser:
    """The denoiser of a run by which guidance=auto is guided, without guidance of its own."""
    run = RunDirectory.find(name, "guidance.run")
    theirs = chosen(run, weights, "guidance.weights")["config"]
    _check_same_data(config, theirs, name)
    if theirs["schedule"] != config["schedule"]:
        raise UserError("guidance.run", name, "was trained with another schedule")
    ours = {key: config[key] for key in ("device", "sample_batch")}
    plain = {"_target_": "diffusion_cli.guidance.Unguided"}
    return build(theirs | ours | {"guidance": plain, "weights": weights}, dataset).restored(run).unguided


def _check_same_data(config: Config, theirs: Config, name: str) -> None:
    """Refuses a run by which samples are guided, which may be a stranger's, where it was trained on other data."""
    check_config(theirs)
    compared = [
        {k: v for k, v in c["dataset"].items() if k not in ("labels", "n", *DATA_PLACES)}
        for c in (config, theirs)
    ]
    if compared[0] != compared[1]:
        raise UserError("guidance.run", name, "was trained on another dataset")
