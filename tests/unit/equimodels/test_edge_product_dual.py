"""The blocked edge product of dual numbers: rates are those of the plain one, derivatives those of differences."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch.testing import assert_close

from equimodels.ops import edge_blocks
from equimodels.ops.edge_product import edge_product, edge_product_plain
from equimodels.ops.edge_product_dual import edge_product_dual

# The first dual tensor makes torch compile rules with its own deprecated compiler.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
CHANGING = [(0, 1, 2), (1, 2), (0, 2), (2,), (1,), (0,)]


def operands(dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    shapes = ((4, 2, 5), (9, 2, 3), (9, 3, 5))
    values, rates = (
        [torch.randn(*shape, dtype=torch.float64, generator=random).to(dtype).requires_grad_() for shape in shapes]
        for _ in range(2)
    )
    sender, receiver = torch.randint(0, 4, (2, 9), generator=random)
    return values, rates, sender, receiver


@pytest.fixture(params=[1, 40, 1 << 16], ids=["one edge a block", "several blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(edge_blocks, "BLOCK", request.param)


def dual(function, changing, dtype=torch.float64):
    """Value, rate, and the gradients of a function of both by values and rates."""
    values, rates, sender, receiver = operands(dtype)
    with forward_ad.dual_level():
        given = [
            forward_ad.make_dual(v, r) if k in changing else v
            for k, (v, r) in enumerate(zip(values, rates, strict=True))
        ]
        value, rate = forward_ad.unpack_dual(function(*given, sender, receiver))
    leaves = values + [rates[k] for k in changing]
    return value, rate, *torch.autograd.grad((value.pow(3) + rate.pow(2)).sum(), leaves, allow_unused=True)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("changing", CHANGING)
def test_values_rates_and_gradients_are_those_of_the_plain_product(changing):
    for dtype in (torch.float32, torch.float64):
        results = (dual(function, changing, dtype) for function in (edge_product, edge_product_plain))
        for found, expected in zip(*results, strict=True):
            assert_close(found, expected)


@pytest.mark.usefixtures("block")
def test_gradients_are_right():
    values, rates, sender, receiver = operands()

    def function(*both):
        return edge_product_dual(*both[:3], both[3:], sender, receiver)

    assert torch.autograd.gradcheck(function, (*values, *rates))


def test_gradients_that_nobody_wants_are_not_computed():
    values, rates, sender, receiver = operands()
    constant = [tensor.detach() for tensor in (values[2], rates[2])]
    out = edge_product_dual(values[0], values[1], constant[0], (rates[0], rates[1], constant[1]), sender, receiver)
    gradients = torch.autograd.grad(out[0].sum() + out[1].sum(), [*values[:2], *rates[:2]])
    full = edge_product_dual(*values, tuple(rates), sender, receiver)
    expected = torch.autograd.grad(full[0].sum() + full[1].sum(), [*values[:2], *rates[:2]])
    for found, wanted in zip(gradients, expected, strict=True):
        assert torch.equal(found, wanted)
