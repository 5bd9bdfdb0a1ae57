"""Noise schedules: each one is a single tensor, alpha_bar[0..T], and everything else follows from it.

x_t = alpha_t x0 + sigma_t eps with alpha_t^2 = alpha_bar_t and sigma_t^2 = 1 - alpha_bar_t (Ho et al. 2020, eq. 4).
Time runs 0..T; 0 is clean. Between the integers log-SNR is interpolated, so that a sampler may place its times freely.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import Inner, NonNegative, Positive, Steps, checked

# alpha_bar[T] above this is not pure noise: a reverse chain started from N(0, 1) is wrong from its first step.
PURE_NOISE = 0.01
# The number of steps for which the betas of the linear, quadratic and sigmoid schedules were published.
PAPER_T = 1000


def widest(device: torch.device) -> torch.dtype:
    """The longest floating-point numbers of a device: Apple's have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def float64(value: float | Tensor) -> Tensor:
    """The value in float64, on its own device or, where that has no float64, on the CPU."""
    value = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64)
    return (value if widest(value.device) == torch.float64 else value.cpu()).double()


class Level(NamedTuple):
    """Signal and noise at some times: 0-d float64 tensors (one time for all) or (B, 1, ..., 1) in the dtype of x.

    alpha: factor of the clean point.
    sigma: standard deviation of the noise.
    beta: variance that the step from t - 1 to t adds, 1 - alpha_bar[t] / alpha_bar[t - 1].
    """

    alpha: Tensor
    sigma: Tensor
    beta: Tensor

    @property
    def before(self) -> Level:
        """The level one step earlier, at t - 1 (without a beta of its own)."""
        kept = 1 - self.beta
        # From sigma, which in float32 has more digits where alpha is nearly 1.
        sigma = torch.sqrt(((self.sigma**2 - self.beta) / kept).clamp(min=0))
        return Level(self.alpha / kept.sqrt(), sigma, torch.full_like(self.beta, torch.nan))

    @property
    def noise_level(self) -> Tensor:
        """log(sigma / alpha) = -log_snr / 2, shape (B,) or (1,): the form in which a network gets the time."""
        return (self.sigma / self.alpha).log().flatten()


@dataclass(frozen=True, eq=False)
class Schedule:
    """A variance-preserving noise schedule.

    name: for messages and figures.
    alpha_bar: (T + 1,) float64, alpha_bar[0] = 1, strictly decreasing, positive; else ArgumentError. Warns, by name,
        where alpha_bar[T] > 0.01.

    >>> linear(T=1000).level(500, like=torch.zeros(1)).sigma
    """

    name: str
    alpha_bar: Tensor
    _tables: dict[tuple[torch.dtype, torch.device], Tensor] = field(
        default_factory=dict, init=False, repr=False
    )
    _curves: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        table = self.alpha_bar
        if table.dtype != torch.float64 or table[0] != 1 or not (table.diff() < 0).all() or not table[-1] > 0:
            reason = f"must fall strictly from 1 and stay above 0 (schedule {self.name}, T = {self.T})"
            raise ArgumentError("alpha_bar", ..., reason)
        if table[-1] > PURE_NOISE:
            warnings.warn(
                f"schedule {self.name}: alpha_bar[T={self.T}] = {table[-1]:.3g} is not noise (above {PURE_NOISE}); "
                "samples will be wrong even with a perfect network",
                stacklevel=2,
            )

    @property
    def T(self) -> int:
        return len(self.alpha_bar) - 1

    @property
    def log_snr(self) -> Tensor:
        """log(alpha^2 / sigma^2), shape (T + 1,); +inf at t = 0."""
        return self.alpha_bar.log() - (1 - self.alpha_bar).log()

    def level(self, t: float | Tensor, like: Tensor) -> Level:
        """alpha, sigma and beta at t, ready to be multiplied with `like` (B, *shape).

        t: a number or 0-d tensor (one time for the whole batch), or (B,); real values in [0, T].
        """
        if not isinstance(t, Tensor) or t.dim() == 0:
            now, before = self._at(torch.as_tensor([float(t), max(float(t) - 1, 0.0)], dtype=torch.float64))
            return Level(now.sqrt(), (1 - now).sqrt(), 1 - now / before)
        columns = (-1,) + (1,) * (like.dim() - 1)
        if not t.is_floating_point():
            return Level(*(row.view(columns) for row in self._table(like).index_select(1, t)))
        t = float64(t)
        now, before = self._at(t), self._at((t - 1).clamp(min=0))
        rows = torch.stack((now.sqrt(), (1 - now).sqrt(), 1 - now / before)).to(like)
        return Level(*(row.view(columns) for row in rows))

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The real t in [1, T] with this log-SNR (the inverse of the interpolation; values outside are the ends'), float64 on
        the device of log_snr where that has it."""
        log_snr = float64(log_snr)
        falling = self._curve(log_snr.device)[1][1:]
        log_snr = log_snr.clamp(falling[-1], falling[0])
        if self.T == 1:
            return torch.ones_like(log_snr)
        right = torch.searchsorted(-falling, -log_snr).clamp(1, max(self.T - 1, 1))
        high, low = falling[right - 1], falling[right]
        return right + (high - log_snr) / (high - low)

    def _at(self, t: Tensor) -> Tensor:
        """alpha_bar at real t: log-SNR is linear between integers (alpha_bar itself below t = 1, where it is infinite)."""
        alpha_bar, log_snr = self._curve(t.device)
        left = t.floor().long().clamp(0, self.T)
        right = (left + 1).clamp(max=self.T)
        fraction = t - left
        a, b = alpha_bar[left], alpha_bar[right]
        log_snr = torch.lerp(log_snr[left.clamp(min=1)], log_snr[right.clamp(min=1)], fraction)
        between = torch.where(left == 0, torch.lerp(a, b, fraction), log_snr.sigmoid())
        return torch.where(fraction == 0, a, between)

    def _curve(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """alpha_bar and log-SNR on a device that has float64, made once for each."""
        if device not in self._curves:
            self._curves[device] = self.alpha_bar.to(device), self.log_snr.to(device)
        return self._curves[device]

    def _table(self, like: Tensor) -> Tensor:
        """(3, T + 1): alpha, sigma, beta in the dtype and on the device of `like`, made once for each."""
        key = (like.dtype, like.device)
        if key not in self._tables:
            before = torch.cat((self.alpha_bar[:1], self.alpha_bar[:-1]))
            rows = (self.alpha_bar.sqrt(), (1 - self.alpha_bar).sqrt(), 1 - self.alpha_bar / before)
            self._tables[key] = torch.stack(rows).to(like)
        return self._tables[key]


def from_betas(name: str, betas: Tensor) -> Schedule:
    """The schedule with these betas: (T,) float64 in (0, 1), beta_1 first."""
    return Schedule(name, torch.cat((torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0))))


def _rescaled(betas: Tensor, rescale: bool) -> Tensor:
    """Betas published for T = 1000, carried to T steps: each step then does the work of 1000 / T of the paper's."""
    return 1 - (1 - betas) ** (PAPER_T / len(betas)) if rescale else betas


def _ramp(start: float, end: float, T: int) -> Tensor:
    """T values from start to end; a schedule of one step is its last."""
    return torch.linspace(start if T > 1 else end, end, T, dtype=torch.float64)


def _check_rising(**ends: float) -> None:
    """Refuses two arguments, low=... and high=..., of which the second is not above the first."""
    (low, a), (high, b) = ends.items()
    if not a < b:
        raise ArgumentError(high, b, f"must be above {low}={a}")


@checked
def constant(T: Steps = 50, beta: Inner = 0.25) -> Schedule:
    """beta_t = beta.

    T: number of time steps.
    beta: variance that each step adds, in (0, 1).
    """
    return from_betas("constant", torch.full((T,), beta, dtype=torch.float64))


@checked
def linear(T: Steps = 50, beta_min: Inner = 1e-4, beta_max: Inner = 0.02, rescale: bool = True) -> Schedule:
    """beta_t from beta_min to beta_max in equal steps.

    Ho et al. 2020, section 4.

    T: number of time steps.
    beta_min: variance that the first step adds, in (0, 1).
    beta_max: variance that the last step adds, above beta_min.
    rescale: whether the betas are those of T = 1000, to be carried to T steps; false takes them as they are.
    """
    _check_rising(beta_min=beta_min, beta_max=beta_max)
    return from_betas("linear", _rescaled(_ramp(beta_min, beta_max, T), rescale))


@checked
def quadratic(
    T: Steps = 50, beta_min: Inner = 1e-4, beta_max: Inner = 0.02, rescale: bool = True
) -> Schedule:
    """sqrt(beta_t) in equal steps.

    The released code of Ho et al. 2020; `scaled_linear` elsewhere.

    T: number of time steps.
    beta_min: variance that the first step adds, in (0, 1).
    beta_max: variance that the last step adds, above beta_min.
    rescale: whether the betas are those of T = 1000, to be carried to T steps; false takes them as they are.
    """
    _check_rising(beta_min=beta_min, beta_max=beta_max)
    return from_betas("quadratic", _rescaled(_ramp(beta_min**0.5, beta_max**0.5, T) ** 2, rescale))


@checked
def sigmoid(T: Steps = 50, beta_min: Inner = 1e-4, beta_max: Inner = 0.02, rescale: bool = True) -> Schedule:
    """beta_t on a logistic curve over [-6, 6] between beta_min and beta_max.

    GeoDiff, Xu et al. 2022.

    T: number of time steps.
    beta_min: lower end of the curve, in (0, 1).
    beta_max: upper end of the curve, above beta_min.
    rescale: whether the betas are those of T = 1000, to be carried to T steps; false takes them as they are.
    """
    _check_rising(beta_min=beta_min, beta_max=beta_max)
    betas = _ramp(-6, 6, T).sigmoid() * (beta_max - beta_min) + beta_min
    return from_betas("sigmoid", _rescaled(betas, rescale))


@checked
def cosine(T: Steps = 50, s: NonNegative = 0.008, alpha_min: Inner = 0.001) -> Schedule:
    """alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) pi/2).

    Nichol & Dhariwal 2021, eq. 17.

    T: number of time steps.
    s: offset that keeps the first steps from being too small.
    alpha_min: lower bound on alpha_bar_t / alpha_bar_{t-1}, in (0, 1).
    """
    f = torch.cos((_ramp(0, 1, T + 1) + s) / (1 + s) * math.pi / 2) ** 2
    return from_betas("cosine", (1 - f[1:] / f[:-1]).clamp(max=1 - alpha_min))


@checked
def loglinear(T: Steps = 50, sigma_min: Positive = 0.01, sigma_max: Positive = 20.0) -> Schedule:
    """sigma/alpha log-uniform in t, so that alpha_bar = 1 / (1 + (sigma/alpha)^2).

    T: number of time steps.
    sigma_min: sigma/alpha at t = 1.
    sigma_max: sigma/alpha at t = T, above sigma_min.
    """
    _check_rising(sigma_min=sigma_min, sigma_max=sigma_max)
    ratio = torch.exp(_ramp(math.log(sigma_min), math.log(sigma_max), T))
    return Schedule("loglinear", torch.cat((torch.ones(1, dtype=torch.float64), 1 / (1 + ratio**2))))


@checked
def flow(T: Steps = 50, sigma_max: Positive = 100.0) -> Schedule:
    """The straight way of flow matching, a x0 + b eps with a = 1 - b and b in equal steps, scaled to unit variance.

    Lipman et al. 2023; alpha_bar = a^2 / (a^2 + b^2). An Euler step of the velocity eps - x0 in b is a step of DDIM in t,
    for any network (parameterization=velocity has it put out that velocity).

    T: number of time steps.
    sigma_max: sigma/alpha = b/a at t = T, where b stops short of 1: at pure noise alpha would be 0.
    """
    b = torch.arange(T + 1, dtype=torch.float64) / T * (sigma_max / (1 + sigma_max))
    return Schedule("flow", (1 - b) ** 2 / ((1 - b) ** 2 + b**2))
