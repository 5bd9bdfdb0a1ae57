"""What a network's output means: n maps to the one `Prediction(x0, eps)`, not n^2 between conventions.

Each parameterization knows
  target(x0, eps, level)          what the network should put out,
  decode(output, x_t, level)      the same read back as a Prediction,
  scale(level)                    the factor on x_t that gives the network inputs of unit variance,
  gain(level)                     |error of the output| / |error of eps|, which turns loss weights of one into another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffusion_cli.forward import posterior
from diffusion_cli.schedule import Level


class Prediction(NamedTuple):
    """A denoiser's answer, each like x_t: x_t = alpha x0 + sigma eps holds for it by construction.

    variance: of a coordinate of x0 given x_t, where the denoiser knows it (broadcastable to x_t); else None.
    """

    x0: Tensor
    eps: Tensor
    variance: Tensor | None = None

    @classmethod
    def from_x0(cls, x0: Tensor, x_t: Tensor, level: Level) -> Prediction:
        return cls(x0, (x_t - level.alpha * x0) / level.sigma)

    @classmethod
    def from_eps(cls, eps: Tensor, x_t: Tensor, level: Level) -> Prediction:
        return cls((x_t - level.sigma * eps) / level.alpha, eps)


class Parameterization(Protocol):
    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor: ...
    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction: ...
    def scale(self, level: Level) -> Tensor | float: ...
    def gain(self, level: Level) -> Tensor | float: ...


@dataclass(frozen=True)
class Eps:
    """The noise itself (Ho et al. 2020, eq. 12)."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        return eps

    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction:
        return Prediction.from_eps(output, x_t, level)

    def scale(self, level: Level) -> float:
        return 1.0

    def gain(self, level: Level) -> float:
        return 1.0


@dataclass(frozen=True)
class X0:
    """The clean point."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        return x0

    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction:
        return Prediction.from_x0(output, x_t, level)

    def scale(self, level: Level) -> float:
        return 1.0

    def gain(self, level: Level) -> Tensor:
        return level.sigma / level.alpha


@dataclass(frozen=True)
class V:
    """The velocity v = a eps - b x0/s on the unit circle of data and noise (Salimans & Ho 2022, appendix D).

    s = sigma_data, a = alpha s / n, b = sigma / n, n = sqrt(alpha^2 s^2 + sigma^2): (x0/s, eps) turned by the angle of
    the noise level. At s = 1 it is v = alpha eps - sigma x0; at any s it is EDM's preconditioning, output = -v
    (Karras et al. 2022, table 1), so plain MSE on v is EDM's loss with weight 1/c_out^2.
    """

    sigma_data: float = 1.0

    def _turn(self, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        a = level.alpha * self.sigma_data
        norm = torch.sqrt(a**2 + level.sigma**2)
        return a / norm, level.sigma / norm, norm

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        a, b, _ = self._turn(level)
        return a * eps - b / self.sigma_data * x0

    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction:
        a, b, norm = self._turn(level)
        unit = x_t / norm
        return Prediction(self.sigma_data * (a * unit - b * output), b * unit + a * output)

    def scale(self, level: Level) -> Tensor:
        return 1 / self._turn(level)[2]

    def gain(self, level: Level) -> Tensor:
        return 1 / self._turn(level)[0]


@dataclass(frozen=True)
class Mean:
    """The posterior mean mu-tilde(x_t, x0) of q(x_{t-1} | x_t, x0) (Ho et al. 2020, eq. 7), the paper's first choice."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        of_x0, of_x_t, _ = posterior(level, level.before)
        return of_x0 * x0 + of_x_t * (level.alpha * x0 + level.sigma * eps)

    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction:
        of_x0, of_x_t, _ = posterior(level, level.before)
        return Prediction.from_x0((output - of_x_t * x_t) / of_x0, x_t, level)

    def scale(self, level: Level) -> float:
        return 1.0

    def gain(self, level: Level) -> Tensor:
        return posterior(level, level.before).of_x0 * level.sigma / level.alpha
