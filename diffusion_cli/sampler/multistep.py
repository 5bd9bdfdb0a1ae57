"""Multistep samplers: exponential integrators of order 1 to 3 on the probability-flow ODE, with an optional corrector.

With lambda = log(alpha/sigma), the ODE from t to s is solved by either of

    x_s = sigma_s/sigma_t x_t + alpha_s int e^(lambda - lambda_s) x0(lambda) dlambda,
    x_s = alpha_s/alpha_t x_t - sigma_s int e^(lambda_s - lambda) eps(lambda) dlambda,

of which each is the other with the parts of alpha and sigma exchanged. A step replaces x0 or eps by the polynomial in
lambda through the last `order` predictions, and its integral is exact. Settings of this one family are

    DDIM (eta = 0)          order 1, either form                    Song et al. 2021, eq. 12
    DPM-Solver++(2M), (3M)  order 2 and 3 in x0                     Lu et al. 2022, algorithm 2
    DEIS (rho-Adams)        in eps                                  Zhang & Chen 2023, eq. 15
    UniPC                   in x0 with the corrector                Zhao et al. 2023, algorithm 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from diffusion_cli.ranges import checked
from diffusion_cli.sampler.protocol import Sampler
from diffusion_cli.sampler.walk import Move, Visit
from diffusion_cli.schedule import Level


@checked
@dataclass(frozen=True)
class Multistep(Sampler):
    """Deterministic steps from the last few predictions, by default DPM-Solver++(2M).

    The first steps use the predictions that there are, the last one is of first order.

    order: predictions that a step uses, 1, 2 or 3. Order 3 amplifies the error of a trained network.
    form: what is interpolated between the predictions, x0 or eps.
    corrector: whether x_t is improved by the prediction at t before the next step, for one more order at no more calls.
    """

    memory: ClassVar[int] = 3

    order: Literal[1, 2, 3] = 2
    form: Literal["x0", "eps"] = "x0"
    corrector: bool = False

    @property
    def noisy(self) -> bool:
        return False

    def step(self, move: Move) -> Tensor:
        if move.s == 0:
            return move.prediction.x0
        x, now, then = move.x, move.now, move.then
        visits = (Visit(now, move.prediction), *move.past)
        if self.corrector and move.past:
            # The step that led here, with the prediction here among its nodes: the part of x_t before it is the same.
            used = move.past[: self.order]
            before = used[0].level
            x = x + self.integral(before, now, visits[: len(used) + 1]) - self.integral(before, now, used)
        kept = then.sigma / now.sigma if self.form == "x0" else then.alpha / now.alpha
        return kept * x + self.integral(now, then, visits[: self.order])

    def integral(self, start: Level, end: Level, visits: Sequence[Visit]) -> Tensor:
        """The second term of the solution from one level to another, with the polynomial through these visits."""
        place = torch.stack([self._place(visit.level) for visit in visits])
        begin = self._place(start)
        h = self._place(end) - begin
        powers = torch.stack([((place - begin) / h) ** n for n in range(len(visits))])
        # The moments of the weight on [0, 1]: int h e^((u - 1) h) u^n du, by parts.
        moments = [-torch.expm1(-h)]
        for n in range(1, len(visits)):
            moments.append(1 - n * moments[-1] / h)
        if self.form == "x0" and len(visits) == 2:
            # The midpoint rule of the published methods, of the same order.
            moments[1] = moments[0] / 2
        weights = torch.linalg.solve(powers, torch.stack(moments))
        factor = end.alpha if self.form == "x0" else end.sigma
        terms = [
            factor * weight * (visit.prediction.x0 if self.form == "x0" else visit.prediction.eps)
            for weight, visit in zip(weights, visits, strict=True)
        ]
        return torch.stack(terms).sum(0)

    def _place(self, level: Level) -> Tensor:
        """lambda, or -lambda for eps."""
        place = (level.alpha / level.sigma).log()
        return place if self.form == "x0" else -place
