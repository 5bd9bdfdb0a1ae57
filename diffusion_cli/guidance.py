"""Guidance: a denoiser in, a denoiser out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_cli.dataset.density import Density
from diffusion_cli.denoiser import Denoiser
from diffusion_cli.errors import UserError
from diffusion_cli.prediction import Prediction


@dataclass(frozen=True)
class Unguided:
    """The denoiser itself, with the labels it is asked for."""

    label_dropout: float = 0.0

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return denoiser


@dataclass(frozen=True)
class ClassifierFree:
    """eps_hat = (1 + w) eps(x_t, label) - w eps(x_t, none) (Ho & Salimans 2021, eq. 6): w = 0 conditional,
    w = -1 unconditional.

    label_dropout: share of the training labels replaced by "none", from which the network learns eps(x_t, none).
    """

    w: float = 1.0
    label_dropout: float = 0.1

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return Guided(denoiser, self.w)


class Guided:
    """Two answers of one denoiser, extrapolated. Both x0 and eps are affine in eps, so one rule serves both."""

    def __init__(self, denoiser: Denoiser, w: float):
        self.denoiser, self.w, self.schedule = denoiser, w, denoiser.schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        given, free = self.denoiser(x_t, t, label), self.denoiser(x_t, t, None)
        x0, eps = (a + self.w * (a - b) for a, b in ((given.x0, free.x0), (given.eps, free.eps)))
        return Prediction(x0, eps, given.variance)


@dataclass(frozen=True)
class ClassifierGuidance:
    """eps_hat = eps(x_t, none) - s sigma_t grad log p(label | x_t) (Dhariwal & Nichol 2021, algorithm 2).

    classifier(x_t, noise) -> logits (B, num_classes) of noised points, noise = log(sigma / alpha).
    """

    classifier: Callable[[Tensor, Tensor], Tensor]
    s: float = 1.0
    label_dropout: float = 0.0

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        return Steered(denoiser, self.classifier, self.s)


class ExactClassifier:
    """p(label | x_t) of a mixture, in the form of a network: classifier(x_t, noise) -> log-probabilities (B, K)."""

    def __init__(self, density: Density):
        if not hasattr(density, "class_posterior"):
            raise UserError("guidance.run", "exact", "only a mixture has an exact classifier")
        self.density = density
        self.num_classes = density.class_posterior(torch.zeros(1, *density.shape), 0.0, 1.0).shape[1]

    def __call__(self, x_t: Tensor, noise: Tensor) -> Tensor:
        alpha, sigma = (torch.sigmoid(sign * 2 * noise.double()).sqrt() for sign in (-1, 1))
        columns = (-1,) + (1,) * (x_t.dim() - 1)
        return self.density.class_posterior(x_t, alpha.view(columns), sigma.view(columns))


class Steered:
    """A denoiser without labels, moved along the gradient of a classifier."""

    def __init__(self, denoiser: Denoiser, classifier: Callable[[Tensor, Tensor], Tensor], s: float):
        self.denoiser, self.classifier, self.s, self.schedule = denoiser, classifier, s, denoiser.schedule

    def __call__(self, x_t: Tensor, t: float | Tensor, label: Tensor | None = None) -> Prediction:
        free = self.denoiser(x_t, t, None)
        if label is None:
            return free
        level = self.schedule.level(t, like=x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            log_prob = self.classifier(x, level.noise.to(x)).log_softmax(1).gather(1, label[:, None]).sum()
            (slope,) = torch.autograd.grad(log_prob, x)
        return Prediction.from_eps(free.eps - self.s * level.sigma * slope, x_t, level)._replace(
            variance=free.variance
        )
