"""All objects of one run, and the denoiser and the times that they make together."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

from torch import Tensor

from diffusion_cli.batches import Batches
from diffusion_cli.components.guiding import guidance_of
from diffusion_cli.components.labels import Labels, Requested
from diffusion_cli.components.learned import Learned
from diffusion_cli.components.students import jumps_for, learned_weight, student_of
from diffusion_cli.dataset.cache import kept_content
from diffusion_cli.dataset.protocol import Dataset
from diffusion_cli.denoiser import Batched, Denoiser, MeasuredVariance
from diffusion_cli.errors import in_group
from diffusion_cli.guidance import Guidance
from diffusion_cli.metrics.protocol import Evaluation
from diffusion_cli.noise import NoiseStream, Stream
from diffusion_cli.optimizer import Optimizer
from diffusion_cli.options.build import build_component
from diffusion_cli.options.groups import EXACT
from diffusion_cli.ranges import Config, Facts
from diffusion_cli.runs.logger import Logger
from diffusion_cli.sampler import DDPM, Multistep, Sampler
from diffusion_cli.sampler.grid import FITTING, fitted_times

# Chains that a grid is fitted to, of points with at most so many coordinates; of images and sets a thirty-second.
FITTED_ON, SMALL = 512, 16
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Composed(Learned):
    """What is learned, and how it is trained, guided, sampled and judged.

    label: the classes to sample, in turn, by number or name; none: no class; None: as in the data.
    teacher: of a student, to which it leaves the last call.
    """

    optimizer: Optimizer
    guidance: Guidance
    sampler: Sampler
    evaluation: Evaluation
    label: Requested = None
    teacher: Learned | None = None

    def varied(self, **groups: Config) -> Self:
        """The same with some keys of some groups changed, which alone are built anew.

        >>> components.varied(schedule={"T": 10}, sampler={"steps": None})
        """
        config = self.config | {group: self.config[group] | keys for group, keys in groups.items()}
        of_data = {"guidance": guidance_of, "sampler": sampler_for}
        made: dict[str, Any] = {
            g: of_data[g](config, self.dataset) if g in of_data else build_component(config, g)
            for g in groups
        }
        return replace(self, config=config, **made)

    @property
    def times(self) -> list[float]:
        """The times through which the sampler goes, T first; an error where its options do not fit the schedule."""
        return self.walking.times(self.schedule)

    @cached_property
    def walking(self) -> Sampler:
        """The sampler with its grid fitted, where that is wanted; log_snr stands for it while a network is in training."""
        if self.sampler.grid != "fitted" or self.sampler.fitted is not None:
            return self.sampler
        plain = replace(self.sampler, grid="log_snr")
        finished = self.run is not None or self.config.get("run") == EXACT
        if not finished or "calls" in self.config:
            return plain
        n = FITTED_ON if math.prod(self.dataset.shape) <= SMALL else FITTED_ON // 32
        noise = NoiseStream(self.seed, n, self.dataset.shape, self.device, Stream.GRID)()
        label = self.labels(n)
        about = {key: self.config[key] for key in ("dataset", "schedule", "sampler", "guidance")}
        # itself, too: a figure may have replaced the one of the configuration
        about |= {"class": type(self.sampler).__qualname__, "fields": asdict(self.sampler)}
        net = {} if self.net is None else self.net.state_dict()
        about |= {"version": FITTING, "noise": noise, "label": label, "net": net}

        def fit() -> Facts:
            log.info("fitting the times of %d steps to the denoiser", len(plain.times(self.schedule)) - 1)
            return {"times": fitted_times(self.sampler, self.denoiser, noise, label, self.tick)}

        with in_group("sampler"):
            return replace(self.sampler, fitted=tuple(kept_content("grids", about, fit)["times"]))

    @property
    def classes(self) -> Labels:
        """The classes that may be requested, and are."""
        return Labels(self.label, self.dataset, self.guidance, self.net)

    def labels(self, n: int, seed: int | None = None) -> Tensor | None:
        """(n,) labels int64: the requested ones in turn, or drawn as in the data; None for data without labels."""
        return self.classes.draw(n, self.seed if seed is None else seed, self.device)

    @property
    def batches(self) -> Batches:
        """What a network learns from in each step."""
        given = (self.dataset, self.schedule, self.objective, self.config["batch_size"], self.seed)
        # a classifier needs every label
        dropout = self.guidance.label_dropout if self.objective.generates else 0.0
        return Batches(*given, label_dropout=dropout, device=self.device, shards=self.config["shards"])

    @property
    def logger(self) -> Logger:
        """Where the numbers of training go beside metrics.csv."""
        return build_component(self.config, "logger")

    @cached_property
    def denoiser(self) -> Denoiser:
        """The guided denoiser of the network, or without one the exact denoiser, guided."""
        if self.net is not None and self.net.numbers:
            w = learned_weight(self.config["w_max"], self.guidance, self.sampler)
            teacher = self.guidance((self.teacher or replace(self, net=None)).unguided)
            jumps = jumps_for(self.config, self.schedule)
            student = student_of(self.network_denoiser(self.net.eval()), teacher, jumps, w)
            return Batched(student, self.config["sample_batch"], self.tick)
        if isinstance(self.sampler, Multistep) and self.sampler.order == 3 and self.net is not None:
            effect = "third order amplifies the error of a trained network; compare order 2"
            log.warning("sampler.order=3: %s", effect)
        denoiser = self.unguided
        if isinstance(self.sampler, DDPM) and self.sampler.variance == "analytic":
            denoiser = MeasuredVariance(denoiser, self.dataset, self.seed, self.device)
        # In batches once more: the gradient of a classifier takes several times the memory of the network itself.
        return Batched(self.guidance(denoiser), self.config["sample_batch"])


def sampler_for(config: Config, dataset: Dataset) -> Sampler:
    """The sampler; one that clips by the data is given their range."""
    sampler: Sampler = build_component(config, "sampler")
    return replace(sampler, box=dataset.box) if sampler.clip == "data" else sampler
