"""Guidance: a denoiser in, a denoiser out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffusion_cli.dataset.density import Density
from diffusion_cli.dataset.points import Points
from diffusion_cli.denoiser import Denoiser, Label, Time
from diffusion_cli.errors import ArgumentError
from diffusion_cli.prediction import Prediction
from diffusion_cli.ranges import BelowOne, Finite, NonNegative, Positive, checked


class Guidance(Protocol):
    """How labels steer a denoiser. label_dropout: fraction of the training labels replaced by "no label"."""

    @property
    def label_dropout(self) -> float: ...

    def __call__(self, denoiser: Denoiser) -> Denoiser: ...


@checked
@dataclass(frozen=True)
class Unguided:
    """The denoiser itself, with the labels that it is given.

    label_dropout: fraction of the training labels replaced by "no label"; guidance=cfg needs a network trained with some.
    """

    label_dropout: BelowOne = 0.0

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return denoiser


@checked
@dataclass(frozen=True)
class ClassifierFree:
    """eps_hat = (1 + w) eps(x_t, label) - w eps(x_t, none).

    Ho & Salimans 2021, eq. 6.

    w: guidance weight; 0: conditional, -1: unconditional.
    between: noise levels sigma/alpha, low and high, between which it acts (Kynkäänniemi et al. 2024); null: at all of them.
    label_dropout: fraction of the training labels replaced by "no label", from which the network learns eps(x_t, none).
    """

    w: Finite = 1.0
    between: tuple[NonNegative, Positive] | None = None
    label_dropout: BelowOne = 0.1

    def __post_init__(self) -> None:
        check_between(self.between)

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return Extrapolated(denoiser, Unlabelled(denoiser), self.w, self.between)


@checked
@dataclass(frozen=True)
class AutoGuidance:
    """eps_hat = (1 + w) eps(x_t, label) - w eps_weak(x_t, label): away from a worse model of the same data.

    Karras et al. 2024, eq. 4, where w is one more. Unlike the model without labels, it says the same of what there is, and
    so takes no samples from one part of a class to another.

    weak: a smaller network, or one that was trained for less.
    w: guidance weight; 0: the denoiser itself.
    between: noise levels sigma/alpha, low and high, between which it acts (Kynkäänniemi et al. 2024); null: at all of them.
    label_dropout: fraction of the training labels replaced by "no label".
    """

    weak: Denoiser
    w: Finite = 1.0
    between: tuple[NonNegative, Positive] | None = None
    label_dropout: BelowOne = 0.0

    def __post_init__(self) -> None:
        check_between(self.between)

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return Extrapolated(denoiser, self.weak, self.w, self.between)


def check_between(between: tuple[float, float] | None) -> None:
    """Refuses noise levels of which the second is not above the first."""
    if between is not None and not between[0] < between[1]:
        raise ArgumentError("between", between, "the first level must be below the second")


class Unlabelled:
    """Another denoiser without its labels."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        return self.denoiser(x_t, t, None, to)


class Extrapolated:
    """Two denoisers' answers, from the second beyond the first. Both x0 and eps are affine in eps, so one rule serves both.

    w: one weight, or one for each point, (B, 1, ..., 1).
    between: as of `ClassifierFree`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        other: Denoiser,
        w: float | Tensor,
        between: tuple[float, float] | None = None,
    ) -> None:
        self.denoiser, self.other, self.schedule = denoiser, other, denoiser.schedule
        self.w, self.between = w, between

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        given, w = self.denoiser(x_t, t, label, to), self.w
        if self.between is not None:
            level = self.schedule.level(t, like=x_t)
            ratio = (level.sigma / level.alpha).to(x_t)
            inside = (ratio >= self.between[0]) & (ratio <= self.between[1])
            if not inside.any():
                return given
            w = w * inside
        free = self.other(x_t, t, label, to)
        x0, eps = (a + w * (a - b) for a, b in ((given.x0, free.x0), (given.eps, free.eps)))
        return Prediction(x0, eps, given.variance)


class Classifier(Protocol):
    """classifier(x_t, noise_level) -> logits (B, num_classes) of noised points."""

    num_classes: int

    def __call__(self, x_t: Tensor, noise_level: Tensor) -> Tensor: ...


@checked
@dataclass(frozen=True)
class ClassifierGuidance:
    """eps_hat = eps(x_t, none) - s sigma_t grad log p(label | x_t).

    Dhariwal & Nichol 2021, algorithm 2.

    classifier: a network of objective=classifier, or `ExactClassifier`.
    s: scale of the gradient.
    label_dropout: fraction of the training labels replaced by "no label".
    """

    classifier: Classifier
    s: Finite = 1.0
    label_dropout: BelowOne = 0.0

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return ClassifierGuided(denoiser, self.classifier, self.s)


class ExactClassifier:
    """p(label | x_t) of a mixture, in the form of a network: log-probabilities (B, num_classes).

    density: one with labels, or of points, whose index is then the label; ArgumentError for any other.
    """

    def __init__(self, density: Density | None) -> None:
        if density is None or not (density.num_classes or isinstance(density, Points)):
            reason = "only a density with labels, or one of points, has an exact classifier"
            raise ArgumentError("density", type(density).__name__, reason)
        self.density = density
        self.num_classes = density.class_posterior(torch.zeros(1, *density.shape), 0.0, 1.0).shape[1]

    def __call__(self, x_t: Tensor, noise_level: Tensor) -> Tensor:
        alpha, sigma = (torch.sigmoid(sign * 2 * noise_level.double()).sqrt() for sign in (-1, 1))
        columns = (-1,) + (1,) * (x_t.dim() - 1)
        return self.density.class_posterior(x_t, alpha.view(columns), sigma.view(columns))


class ClassifierGuided:
    """A denoiser without labels, moved along the gradient of a classifier."""

    def __init__(self, denoiser: Denoiser, classifier: Classifier, s: float) -> None:
        self.denoiser, self.classifier, self.s, self.schedule = denoiser, classifier, s, denoiser.schedule

    def __call__(self, x_t: Tensor, t: Time, label: Label = None, to: float | None = None) -> Prediction:
        free = self.denoiser(x_t, t, None, to)
        if label is None:
            return free
        level = self.schedule.level(t, like=x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            log_p = self.classifier(x, level.noise_level.to(x)).log_softmax(1)
            (slope,) = torch.autograd.grad(log_p.gather(1, label[:, None]).sum(), x)
        eps = free.eps - self.s * level.sigma * slope
        return Prediction.from_eps(eps, x_t, level)._replace(variance=free.variance)
