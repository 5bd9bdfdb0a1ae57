"""What a network's output means: n maps to the one `Prediction(x0, eps)`, not n^2 between conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffusion_cli.forward import posterior
from diffusion_cli.ranges import Positive, checked
from diffusion_cli.schedule import Level


class Prediction(NamedTuple):
    """A denoiser's answer: x_t = alpha x0 + sigma eps holds for it by construction.

    x0, eps: like x_t.
    variance: of a coordinate of x0 given x_t, where the denoiser knows it (0-d, or one row for each of x_t); else None.
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

    @classmethod
    def of_jump(cls, x_t: Tensor, x_s: Tensor, now: Level, then: Level) -> Prediction:
        """The prediction at x_t by which DDIM's step leads to x_s (Salimans & Ho 2022, appendix G)."""
        kept = then.sigma / now.sigma
        return cls.from_x0((x_s - kept * x_t) / (then.alpha - kept * now.alpha), x_t, now)

    @classmethod
    def joined(cls, parts: Sequence[Prediction]) -> Prediction:
        """The prediction for all points from those for a part of them each, in order."""
        x0, eps, variance = zip(*parts, strict=True)
        of_all = variance[0] is None or variance[0].dim() == 0
        return cls(torch.cat(x0), torch.cat(eps), variance[0] if of_all else torch.cat(variance))


class Parameterization(Protocol):
    """What a network puts out."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """What it should put out."""
        ...

    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction:
        """The same read back."""
        ...

    def scale(self, level: Level) -> Tensor | float:
        """The factor on x_t that gives the network inputs of unit variance."""
        ...

    def gain(self, level: Level) -> Tensor | float:
        """|error of the output| / |error of eps|, which turns the loss weights of one into another's."""
        ...


@dataclass(frozen=True)
class Eps:
    """The network puts out the noise.

    Ho et al. 2020, eq. 12.
    """

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
    """The network puts out the clean point."""

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        return x0

    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction:
        return Prediction.from_x0(output, x_t, level)

    def scale(self, level: Level) -> float:
        return 1.0

    def gain(self, level: Level) -> Tensor:
        return level.sigma / level.alpha


@checked
@dataclass(frozen=True)
class V:
    """The network puts out the velocity v = a eps - b x0/s, with (a, b) on the unit circle.

    s = sigma_data, a = alpha s / n, b = sigma / n, n = sqrt(alpha^2 s^2 + sigma^2): (x0/s, eps) turned by the angle of
    the noise level (Salimans & Ho 2022, appendix D). At s = 1 it is v = alpha eps - sigma x0; at any s it is EDM's
    preconditioning, output = -v (Karras et al. 2022, table 1), so plain MSE on v is EDM's loss with weight 1/c_out^2.

    sigma_data: standard deviation of the data, > 0.
    """

    sigma_data: Positive = 1.0

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
class Velocity:
    """The network puts out eps - x0, the velocity of flow matching.

    Lipman et al. 2023, eq. 23; Liu et al. 2023, eq. 1. On the straight way a x0 + b eps, a + b = 1, it is the derivative in
    b; here x_t is that point scaled to unit variance, (a, b) = (alpha, sigma) / (alpha + sigma). Its square is that of eps'
    error, weighted by ((alpha + sigma) / alpha)^2.
    """

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        return eps - x0

    def decode(self, output: Tensor, x_t: Tensor, level: Level) -> Prediction:
        total = level.alpha + level.sigma
        return Prediction((x_t - level.sigma * output) / total, (x_t + level.alpha * output) / total)

    def scale(self, level: Level) -> float:
        return 1.0

    def gain(self, level: Level) -> Tensor:
        return (level.alpha + level.sigma) / level.alpha


@dataclass(frozen=True)
class Mean:
    """The network puts out the mean of q(x_{t-1} | x_t, x0).

    Ho et al. 2020, eq. 7, their first choice.
    """

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
