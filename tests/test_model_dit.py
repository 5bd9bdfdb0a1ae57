"""The transformer against torch's own attention and against its formulas, written out for one image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from diffusion_cli.errors import ArgumentError
from diffusion_cli.model.dit import DiT, DiTBlock, positions


def randomised(net: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.double()


def normed(h: torch.Tensor) -> torch.Tensor:
    return (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def test_a_block_is_the_papers() -> None:
    block = randomised(DiTBlock(12, heads=3, expansion=2, dropout=0.0))
    peer = nn.MultiheadAttention(12, 3, batch_first=True).double()
    peer.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight,
            "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
    )
    h, context = torch.randn(4, 7, 12).double(), torch.randn(4, 12).double()
    scale, shift, gate, scale_mlp, shift_mlp, gate_mlp = block.modulation(context)[:, None].chunk(6, -1)
    seen = (1 + scale) * normed(h) + shift
    expected = h + gate * peer(seen, seen, seen)[0]
    inner = block.up((1 + scale_mlp) * normed(expected) + shift_mlp)
    expected = expected + gate_mlp * block.down(inner * inner.sigmoid())
    torch.testing.assert_close(block(h, context), expected)


def test_the_network_is_its_blocks_between_patches() -> None:
    net = randomised(DiT((2, 4, 6), 3, width=8, depth=2, heads=2, patch=2, features=4, outputs=2))
    x, level, label = (
        torch.randn(2, 2, 4, 6).double(),
        torch.tensor([0.3, -1.0]).double(),
        torch.tensor([1, 3]),
    )
    context = nn.functional.silu(net.context.from_noise_level(level) + net.context.from_label.weight[label])
    places = [(i, j) for i in range(2) for j in range(3)]
    patches = torch.stack([x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1) for i, j in places], 1)
    h = net.stem(patches) + net.position
    for block in net.blocks:
        h = block(h, context)
    scale, shift = net.modulation(context)[:, None].chunk(2, -1)
    out = net.head((1 + scale) * normed(h) + shift).view(2, 6, 2, 2, 2, 2)
    expected = torch.zeros(2, 2, 2, 4, 6).double()
    for k, (i, j) in enumerate(places):
        expected[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = out[:, k]
    torch.testing.assert_close(net(x, level, label), expected)


def test_positions_are_waves_of_row_and_column() -> None:
    table = positions(3, 5, 16).view(3, 5, 2, 8).numpy()
    for i, j in [(0, 0), (2, 1), (1, 4)]:
        for place, found in zip((i, j), table[i, j], strict=True):
            angles = [place * 10_000 ** (-k / 3) for k in range(4)]
            expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_every_block_starts_as_the_identity() -> None:
    block, h = DiTBlock(8, 2, 4, 0.0), torch.randn(3, 5, 8)
    assert torch.equal(block(h, torch.randn(3, 8)), h)


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        ((2,), {}, "DiT needs images of shape"),
        ((1, 28, 30), {}, "patch=4: must divide the image's 28x30 pixels"),
        ((1, 28, 28), {"width": 10, "heads": 5}, "width=10: must be a multiple of 4 and of the 5 heads"),
        ((1, 28, 28), {"width": 16, "heads": 3}, "width=16: must be a multiple of 4 and of the 3 heads"),
    ],
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], options: dict[str, int], reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        DiT(shape, **options)
