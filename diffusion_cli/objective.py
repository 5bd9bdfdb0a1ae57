"""The training objective: a loss per sample, a pure function of (x0, t, eps)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_cli.denoiser import Denoiser, NetworkDenoiser
from diffusion_cli.errors import ArgumentError
from diffusion_cli.forward import learned_variance, step_bound
from diffusion_cli.prediction import Parameterization
from diffusion_cli.ranges import Finite, Many, NonNegative, Positive, checked
from diffusion_cli.schedule import Level, Schedule, widest

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}
PSEUDO_HUBER = "pseudo_huber"


class TrainingBatch(NamedTuple):
    """What an objective compares: x0, eps (B, *shape); t (B,); label (B,) int64, numbers (B, k), or None."""

    x0: Tensor
    t: Tensor
    eps: Tensor
    label: Tensor | None = None
    numbers: Tensor | None = None

    def noised(self, schedule: Schedule) -> tuple[Level, Tensor]:
        """The noise levels of the times, and x_t (B, *shape)."""
        level = schedule.level(self.t, like=self.x0)
        return level, level.alpha * self.x0 + level.sigma * self.eps


@dataclass(frozen=True)
class Loss(ABC):
    """What is trained, and at which times.

    times: how training times are drawn: uniform over 1..T, stratified or lognormal. stratified: the same as uniform with
        one draw from each of B equal parts, for less noise in the loss. lognormal: log(sigma/alpha) ~ N(mean, std^2),
        kept within the schedule (Karras et al. 2022, table 1); mean 0 and std 1 are the logit-normal times of flow
        matching (Esser et al. 2024), for there log(sigma/alpha) is the logit of time.
    mean: mean of log(sigma/alpha), for times=lognormal.
    std: standard deviation of log(sigma/alpha), for times=lognormal.
    coupling: which noise goes with which point of a batch: independent or optimal. optimal: the assignment of least
        transport, within classes where there are labels (Tong et al. 2024; Cheng & Schwing 2025), which straightens paths.
    """

    # Outputs of the network for each coordinate.
    outputs: ClassVar[int] = 1
    # Whether what is trained is a denoiser.
    generates: ClassVar[bool] = True

    times: Literal["uniform", "stratified", "lognormal"] = "stratified"
    mean: Finite = -1.2
    std: Positive = 1.2
    coupling: Literal["independent", "optimal"] = "independent"

    @property
    def targets(self) -> Literal["sample", "stable", "exact"]:
        """What x0 and eps of a training batch are: the draw itself, or its mean given x_t (see `Objective`)."""
        return "sample"

    @property
    def references(self) -> int:
        """Fresh points over which stable targets are means."""
        return 0

    @abstractmethod
    def __call__(self, denoiser: NetworkDenoiser, batch: TrainingBatch) -> Tensor:
        """The loss of each sample, (B,)."""

    def draw_times(
        self, schedule: Schedule, n: int, generator: torch.Generator, first: int = 0, of: int | None = None
    ) -> Tensor:
        """(n,) times in [1, T]: int64, or real for lognormal.

        first, of: they are those from number `first` on of `of`, which are stratified together; None: of n.
        """
        device = generator.device
        if self.times == "uniform":
            return torch.randint(1, schedule.T + 1, (n,), generator=generator, device=device)
        if self.times == "stratified":
            part = torch.arange(first, first + n, device=device)
            u = (part + torch.rand(n, generator=generator, device=device)) / (of or n)
            return (u * schedule.T).long().clamp(max=schedule.T - 1) + 1
        noise_level = self.mean + self.std * torch.randn(n, generator=generator, device=device)
        return schedule.time_of(-2 * noise_level).to(device, widest(device))


@checked
@dataclass(frozen=True)
class Objective(Loss):
    """loss(output - target), weighted by the noise level, at random times.

    loss: mse, l1 or huber (delta = 1), the mean over the coordinates of a sample; or pseudo_huber, sqrt(e^2 + c^2) - c of
        the root mean square e over them (Song & Dhariwal 2023, eq. 7).
    c: where pseudo_huber turns from the square of an error to its size.
    weighting: factor on the squared error of eps, for loss=mse: simple, vlb or min_snr. simple: none, on the network's
        own output (Ho et al. 2020, eq. 14, for eps). vlb: beta^2 / (2 sigma_q^2 alpha_t (1 - alpha_bar)), the variational
        bound with sigma_q^2 = beta (eq. 12). min_snr: min(SNR, gamma) / SNR (Hang et al. 2023, eq. 5).
    gamma: bound on the signal-to-noise ratio, for weighting=min_snr.
    targets: what stands for x0 in the loss of x_t, for loss=mse: sample, stable or exact. The best denoiser is the same,
        the noise in the loss is not. sample: the point that was noised. stable: its mean given x_t over reference
        points, fresh ones of the data and the batch, or of sets of points the whole set (Xu et al. 2023, Stable Target
        Field). exact: the posterior mean of the data's density, where that is known; a study of what is lost by
        estimating it.
    references: fresh points that stable targets average over beside the batch. Sets of points need none.
    """

    loss: Literal["mse", "l1", "huber", "pseudo_huber"] = "mse"
    c: Positive = 0.01
    weighting: Literal["simple", "vlb", "min_snr"] = "simple"
    gamma: Positive = 5.0
    targets: Literal["sample", "stable", "exact"] = "sample"
    references: Many = 256

    def __post_init__(self) -> None:
        if self.loss != "mse" and self.weighting != "simple":
            raise ArgumentError("weighting", self.weighting, f"is defined for loss=mse, not {self.loss}")
        if self.targets != "sample" and (self.loss != "mse" or self.outputs > 1):
            reason = "is for the loss mse alone: only there a mean serves as well as what it is the mean of"
            raise ArgumentError("targets", self.targets, reason)
        if self.targets != "sample" and self.coupling != "independent":
            reason = (
                "is for targets=sample: means over references take the noise for independent of the point"
            )
            raise ArgumentError("coupling", self.coupling, reason)

    def __call__(self, denoiser: NetworkDenoiser, batch: TrainingBatch) -> Tensor:
        level, x_t = batch.noised(denoiser.schedule)
        output, _ = denoiser.split(denoiser.output(x_t, level, batch.label, batch.numbers))
        target = denoiser.parameterization.target(batch.x0, batch.eps, level)
        return self.compare(output, target, level, denoiser.parameterization)

    def irreducible(
        self, exact: Denoiser, parameterization: Parameterization, batch: TrainingBatch
    ) -> Tensor:
        """The loss, (B,), of the exact denoiser: for mse no network can have less in expectation."""
        level, x_t = batch.noised(exact.schedule)
        best = exact(x_t, batch.t, batch.label)
        output = parameterization.target(best.x0, best.eps, level)
        target = parameterization.target(batch.x0, batch.eps, level)
        return self.compare(output, target, level, parameterization)

    def compare(
        self, output: Tensor, target: Tensor, level: Level, parameterization: Parameterization
    ) -> Tensor:
        """The weighted loss, (B,), of an output."""
        if self.loss == PSEUDO_HUBER:
            square = (output - target).square().flatten(1).mean(1)
            return (square + self.c**2).sqrt() - self.c
        loss = LOSSES[self.loss](output, target, reduction="none").flatten(1).mean(1)
        return loss if self.weighting == "simple" else loss * self._weight(level, parameterization)

    def _weight(self, level: Level, parameterization: Parameterization) -> Tensor:
        """The weight on eps' squared error, carried over to the output's: divided by gain^2."""
        if self.weighting == "vlb":
            of_eps = level.beta / (2 * (1 - level.beta) * level.sigma**2)
        else:
            of_eps = ((level.sigma / level.alpha) ** 2 * self.gamma).clamp(max=1)
        return (of_eps / torch.as_tensor(parameterization.gain(level)) ** 2).flatten()


@checked
@dataclass(frozen=True)
class Hybrid(Objective):
    """L_simple + vlb L_vlb, where the second term learns the variance alone.

    Nichol & Dhariwal 2021, eq. 16. The network has two outputs; the variance of each step lies between the posterior's
    and beta (`learned_variance`).

    vlb: weight of L_vlb, >= 0.
    """

    outputs: ClassVar[int] = 2

    vlb: NonNegative = 0.001

    def __call__(self, denoiser: NetworkDenoiser, batch: TrainingBatch) -> Tensor:
        level, x_t = batch.noised(denoiser.schedule)
        output, weight = denoiser.split(denoiser.output(x_t, level, batch.label))
        if weight is None:
            raise ArgumentError("outputs", 1, "the hybrid objective needs a network with two outputs")
        parameterization = denoiser.parameterization
        simple = self.compare(
            output, parameterization.target(batch.x0, batch.eps, level), level, parameterization
        )
        error = batch.x0 - parameterization.decode(output.detach(), x_t, level).x0
        bound = step_bound(error, learned_variance(weight, level, level.before), level)
        return simple + self.vlb * bound.flatten(1).mean(1)


@checked
@dataclass(frozen=True)
class Classification(Loss):
    """Cross entropy of a noise-aware classifier, -log p(label | x_t).

    Dhariwal & Nichol 2021, section 4.
    """

    generates: ClassVar[bool] = False

    def __call__(self, denoiser: NetworkDenoiser, batch: TrainingBatch) -> Tensor:
        if batch.label is None:
            raise ArgumentError("label", None, "a classifier is trained on labelled data")
        level, x_t = batch.noised(denoiser.schedule)
        logits = denoiser.run(x_t, level.noise_level)
        return F.cross_entropy(logits, batch.label, reduction="none")
