"""The MLP forward and backward, written out: with layers this small, modules and the graph of autograd take as long as
the products themselves. MLP.forward is the reference, of which this has the same bits (tests/test_written_out.py).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.conditioning import NoiseLevels
from diffusion_cli.model.linear import add_by_onednn, onednn_suits, product_by_onednn
from diffusion_cli.model.mlp import ACTIVATIONS, MLP

aten = torch.ops.aten
# gradient of act(z) from that of its result
BACKWARD: dict[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]] = {
    ACTIVATIONS["silu"]: aten.silu_backward.default,
    ACTIVATIONS["gelu"]: aten.gelu_backward.default,
    ACTIVATIONS["relu"]: lambda gradient, z: aten.threshold_backward(gradient, z, 0.0),
}


class WrittenOut:
    """An MLP without classes, in training; to be called without autograd.

        h   = act(W waves + (U level + c)[row])
        h   = h + act(Wk h + bk), for each block k
        out = V h + d

    net: each of its parameters has a `grad`, which stays the same tensor.
    """

    def __init__(self, net: MLP) -> None:
        self.net, self.act, self.act_backward = net, net.activation, BACKWARD[net.activation]
        self.embed_level, from_level = net.context.from_noise_level.children()
        assert isinstance(from_level, nn.Linear)
        linears = [block for block in net.blocks if isinstance(block, nn.Linear)]
        parameters = [from_level.weight, from_level.bias, net.from_x.weight, net.head.weight, net.head.bias]
        self.weights = parameters, [(block.weight, block.bias) for block in linears]
        self.grads = (
            [gradient(p) for p in parameters],
            [(gradient(b.weight), gradient(b.bias)) for b in linears],
        )

    def forward(self, x: Tensor, noise_level: Tensor) -> Tensor:
        """The output, (B, coordinates); what `backward` needs is kept."""
        (U, c, W, V, d), blocks = self.weights
        levels = NoiseLevels(noise_level)
        waves, level = self.net.waves(x, levels), self.embed_level(levels.values)
        product = product_by_onednn if onednn_suits(waves, W) else F.linear
        z = [product(waves, W).add_(levels.spread(F.linear(level, U, c)))]
        h = [self.act(z[0])]
        for weight, bias in blocks:
            z.append(product(h[-1], weight, bias))
            h.append(self.act(z[-1]).add_(h[-1]))
        self.kept = waves, level, levels.row, z, h
        return F.linear(h[-1], V, d)

    def backward(self, of_out: Tensor) -> None:
        """Adds the gradients of the weights to their `grad`. of_out: that of the output, (B, coordinates)."""
        (_, _, W, V, _), blocks = self.weights
        (of_U, of_c, of_W, of_V, of_d), of_blocks = self.grads
        waves, level, row, z, h = self.kept
        add_product = add_by_onednn if onednn_suits(waves, W) else Tensor.addmm_
        of_d += of_out.sum(0)
        of_V.addmm_(of_out.t(), h[-1])
        of_h = of_out.mm(V)
        for k in reversed(range(len(blocks))):
            of_z = self.act_backward(of_h, z[k + 1])
            of_weight, of_bias = of_blocks[k]
            of_bias += of_z.sum(0)
            add_product(of_weight, of_z.t(), h[k])
            add_product(of_h, of_z, blocks[k][0])
        of_z = self.act_backward(of_h, z[0])
        add_product(of_W, of_z.t(), waves)
        if row is not None:
            of_z = of_z.new_zeros(len(level), of_z.shape[1]).index_add_(0, row, of_z)
        of_c += of_z.sum(0)
        of_U.addmm_(of_z.t(), level)


def gradient(parameter: Tensor) -> Tensor:
    """Its `grad`, which must be there."""
    if parameter.grad is None:
        raise ArgumentError("net", ..., "has a parameter without a gradient to add to")
    return parameter.grad
