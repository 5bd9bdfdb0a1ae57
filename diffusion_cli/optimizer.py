"""The optimizer and its learning rate, a pure function of the step, on all weights as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from diffusion_cli.errors import ArgumentError
from diffusion_cli.ranges import BelowOne, NonNegative, Positive, Whole, checked


@checked
@dataclass(frozen=True)
class Optimizer:
    """Adam, AdamW or Muon, and its learning rate.

    kind: adam, with weight decay as a part of the gradient; adamw, with weight decay beside it; muon, for networks whose
        work is large matrices: these move by the orthogonal factor of their gradient, all else as with adamw.
    lr: peak learning rate, reached after `warmup` steps.
    betas: decay rates of the averages of the gradient and of its square.
    weight_decay: pull of the weights towards 0.
    warmup: steps in which the learning rate rises from 0 to its peak, linearly.
    decay: course of the learning rate after that: constant, or as a cosine down to 0 at the last step.
    clip: bound on the norm of the gradient; null: none.
    momentum: decay rate of the average of a matrix's gradient, for kind=muon.
    """

    kind: Literal["adam", "adamw", "muon"] = "adamw"
    lr: Positive = 4e-3
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.99)
    weight_decay: NonNegative = 0.0
    warmup: Whole = 100
    decay: Literal["cosine", "constant"] = "cosine"
    clip: Positive | None = 1.0
    momentum: BelowOne = 0.95

    def build(self, weights: Flat, matrices: Iterable[Tensor] = ()) -> Adam:
        """The optimizer of these weights, at its start. matrices: those of the network's layers, for Muon."""
        return Muon(self, weights, matrices) if self.kind == "muon" else Adam(self, weights)

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of the update that leads from `step` to `step` + 1, of `steps` in all."""
        ramp = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "constant":
            return self.lr * ramp
        done = max(0, step - self.warmup) / max(1, steps - self.warmup)
        return self.lr * ramp * (1 + math.cos(math.pi * min(done, 1.0))) / 2


class Flat:
    """The parameters of a network as one vector, of which they become views: one kernel call serves them all.

    values: (n,).
    parameters: all of one type, on one device; else ArgumentError.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        parameters = list(parameters)
        kinds = {(p.dtype, p.device) for p in parameters}
        if len(kinds) != 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "no parameters"
            raise ArgumentError("parameters", found, "must be of one type, on one device")
        dtype, device = kinds.pop()
        self.values = torch.empty(sum(p.numel() for p in parameters), dtype=dtype, device=device)
        self.parameters = parameters
        for p, view in zip(parameters, self.views(self.values), strict=True):
            p.data = view.copy_(p.data)

    def views(self, vector: Tensor) -> Iterator[Tensor]:
        """`vector` (n,) in the shapes of the parameters."""
        start = 0
        for p in self.parameters:
            # With the strides it has: a convolution's weight may lie in memory with its channels last.
            yield vector.as_strided(p.size(), p.stride(), start)
            start += p.numel()


class Adam:
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) by torch's fused kernel.

    By its functional form: the first object of a torch.optim class imports a compiler, two seconds of every start.
    grad: (n,), in which the gradients of the parameters accumulate.
    """

    def __init__(self, options: Optimizer, weights: Flat) -> None:
        self.options, self.values = options, weights.values
        self.grad, self.exp_avg, self.exp_avg_sq = (torch.zeros_like(weights.values) for _ in range(3))
        self.steps = torch.zeros((), device=weights.values.device)
        for p, view in zip(weights.parameters, weights.views(self.grad), strict=True):
            p.grad = view

    @torch.no_grad()
    def step(self, lr: float) -> Tensor:
        """One update by the gradient, scaled down to at most the Euclidean norm `clip`; it is zero afterwards.

        Returns the norm that it had, 0-d.
        """
        o, (beta1, beta2) = self.options, self.options.betas
        norm = torch.linalg.vector_norm(self.grad)
        # The kernel divides the gradient by it.
        excess = None if o.clip is None else (norm / o.clip).clamp_(min=1.0)
        KINDS[o.kind](
            [self.values], [self.grad], [self.exp_avg], [self.exp_avg_sq], [], [self.steps],
            fused=True, amsgrad=False, maximize=False, grad_scale=excess,
            beta1=beta1, beta2=beta2, lr=lr, weight_decay=o.weight_decay, eps=1e-8,
        )  # fmt: skip
        self.grad.zero_()
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        return {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq, "steps": self.steps}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(saved[name])


class Muon(Adam):
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for all else.

    A matrix W (rows, columns) moves by

        m <- momentum m + (1 - momentum) G
        W <- W - lr 0.2 sqrt(max(rows, columns)) orthogonal((1 - momentum) G + momentum m)

    whose elements are about as large as AdamW's (Liu et al. 2025, eq. 4), so that `lr` serves both. A convolution's weight
    is a matrix of its output channels by all that one of them reads. Matrices with fewer than 16 rows or columns, such as
    the last layer's, stay with AdamW.
    """

    def __init__(self, options: Optimizer, weights: Flat, matrices: Iterable[Tensor]) -> None:
        super().__init__(options, weights)
        self.average = torch.zeros_like(weights.values)
        chosen = {id(p) for p in matrices if min(_as_matrix(p).shape) >= LEAST}
        views = zip(weights.parameters, *(weights.views(v) for v in (self.grad, self.average)), strict=True)
        self.matrices = [(p.data, grad, average) for p, grad, average in views if id(p) in chosen]

    @torch.no_grad()
    def step(self, lr: float) -> Tensor:
        norm, momentum = torch.linalg.vector_norm(self.grad), self.options.momentum
        moves = []
        for _, grad, average in self.matrices:
            average.lerp_(grad, 1 - momentum)
            G = _as_matrix(grad.lerp(average, momentum))
            moves.append(orthogonal(G).mul_(0.2 * max(G.shape) ** 0.5 * lr))
            # Nothing is left to AdamW but the decay of the weights.
            grad.zero_()
        super().step(lr)
        for (weight, *_), move in zip(self.matrices, moves, strict=True):
            weight.sub_(_as_weight(move, weight))
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "average": self.average}


def orthogonal(G: Tensor) -> Tensor:
    """About U V^T of a matrix G = U S V^T (rows, columns), its singular values between 0.5 and 1.5.

    Five steps of the quintic Newton-Schulz iteration in bfloat16, with the coefficients of Jordan et al. 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = G.shape[0] <= G.shape[1]
    X = (G if wide else G.T).bfloat16()
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = X @ X.T
        X = torch.addmm(X, torch.addmm(gram, gram, gram, beta=b, alpha=c), X, beta=a)
    return (X if wide else X.T).to(G.dtype)


def _as_matrix(weight: Tensor) -> Tensor:
    """(rows, columns) of a layer's weight; a convolution's columns are in the order of memory of channels_last."""
    return weight.movedim(1, -1).flatten(1)


def _as_weight(matrix: Tensor, like: Tensor) -> Tensor:
    """The other way around."""
    return matrix.view(like.movedim(1, -1).shape).movedim(-1, 1)


# Rows and columns from which a weight counts as a matrix.
LEAST = 16
KINDS = {"adam": adam, "adamw": adamw, "muon": adamw}
