"""Guidance: a denoiser in, a denoiser out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diffusion_cli.denoiser import Denoiser
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
        return Prediction(*(a + self.w * (a - b) for a, b in zip(given, free, strict=True)))
