"""Linear layers in single precision on a CPU whose AVX-512 instructions torch's BLAS leaves unused.

MKL multiplies with AVX2 on processors that are not Intel's. oneDNN, which torch has for convolutions, uses AVX-512 on
all that have it, and takes 0.55 times as long on such a machine (256 x 128 by 128 x 128, Zen 5).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

# multiplications below which the call of oneDNN costs more than it saves
WORK = 2**21


class Linear(nn.Linear):
    """nn.Linear, by whichever library is faster here: (..., in_features) -> (..., out_features)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear_product(x, self.weight, self.bias)


def linear_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear: x (..., n), weight (m, n), bias (m,) -> x weight^T + bias, (..., m)."""
    return _by_onednn(x, weight, bias) if onednn_suits(x, weight) else F.linear(x, weight, bias)


def onednn_suits(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies factors of this size faster here."""
    return (
        x.numel() * weight.shape[0] >= WORK
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        # A compiler has kernels of its own, and does not know this one's backward pass.
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and onednn_pays()
    )


@cache
def onednn_pays() -> bool:
    """Whether this is such a CPU: the same in every run on it, so that a resumed one rounds as before."""
    # Neither is in every version of torch.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    available = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return bool(available and capabilities.get("avx512_f") and "AMD" in str(capabilities.get("cpu_name")))


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product, as a Function only where gradients may be needed: that costs ten microseconds more."""
    return (_OneDNN.apply if torch.is_grad_enabled() else product_by_onednn)(x, weight, bias)


def product_by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


def add_by_onednn(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b, for matrices, without a gradient."""
    total += product_by_onednn(a, b.t())


class _OneDNN(torch.autograd.Function):
    """x weight^T + bias. Its backward pass is made of such products, so that it can be differentiated again."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product_by_onednn(x, weight, bias)

    @staticmethod
    # Of any type: torch's own stubs have tuples of one for both of its fields.
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _by_onednn(gradient, weight.t()) if of_x else None,
            _by_onednn(rows.t(), x.flatten(0, -2).t()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )
