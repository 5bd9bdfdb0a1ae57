"""Linear layers by oneDNN: what float64 gives, derivatives of them, and who takes that way."""

import pytest
import torch
from torch.nn import functional as F

from diffusion_cli.model import linear as module
from diffusion_cli.model.linear import Linear, linear_product

onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this torch has no oneDNN",
)


@pytest.fixture
def taken(monkeypatch):
    """Every product goes by oneDNN, whatever its size and the processor; the list counts them."""
    calls = []
    product = module.product_by_onednn
    monkeypatch.setattr(module, "WORK", 1)
    monkeypatch.setattr(module, "onednn_pays", lambda: True)
    monkeypatch.setattr(module, "product_by_onednn", lambda *given: calls.append(given) or product(*given))
    return calls


def arguments(shape, bias, dtype):
    g = torch.Generator().manual_seed(0)
    x, weight, b = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((*shape, 24), (40, 24), (40,)))
    return [a.to(dtype).requires_grad_() for a in (x, weight, *([b] if bias else []))]


def derivatives(function, given):
    """Value, first derivatives, and derivatives of their sum of squares, which mixes all second ones."""
    value = function(*given)
    first = torch.autograd.grad(value.sin().sum(), given, create_graph=True)
    second = torch.autograd.grad(sum(d.square().sum() for d in first), given)
    return [value, *first, *second]


@onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4)])
def test_value_and_two_derivatives_are_those_of_double_precision(shape, bias, taken):
    ours = derivatives(linear_product, arguments(shape, bias, torch.float32))
    assert len(taken) > 3  # forward and backward
    exact = derivatives(F.linear, arguments(shape, bias, torch.float64))
    for a, b in ((a.detach(), b.detach()) for a, b in zip(ours, exact, strict=True)):
        assert a.shape == b.shape
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@onednn
def test_only_what_needs_a_gradient_is_multiplied(taken):
    x, weight = arguments((9,), False, torch.float32)
    linear_product(x.detach(), weight).sum().backward()
    assert len(taken) == 2  # forward, and the gradient of the weight
    assert weight.grad is not None


@onednn
def test_views_that_are_not_contiguous(taken):
    x, weight, bias = arguments((6,), True, torch.float32)
    turned = linear_product(x.t().contiguous().t(), weight.t().contiguous().t(), bias)
    assert torch.allclose(turned, F.linear(x, weight, bias), atol=1e-5)


def test_other_types_and_small_products_go_the_usual_way(monkeypatch):
    monkeypatch.setattr(module, "onednn_pays", lambda: True)
    monkeypatch.setattr(module, "product_by_onednn", lambda *given: pytest.fail("not this way"))
    layer = Linear(128, 128)
    assert torch.equal(layer(torch.ones(8, 128)), F.linear(torch.ones(8, 128), layer.weight, layer.bias))
    many = torch.ones(512, 128)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(many).dtype == torch.bfloat16
    assert layer.double()(many.double()).dtype == torch.float64


@onednn
def test_compiled_it_is_left_to_the_compiler(taken):
    layer = Linear(24, 40)
    x = torch.randn(9, 24)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), F.linear(x, layer.weight, layer.bias))
    assert not taken
