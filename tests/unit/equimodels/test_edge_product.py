"""The blocked edge product is the plain one, to the third derivative, whatever the size of its blocks."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch.testing import assert_close

from equimodels.ops import edge_blocks
from equimodels.ops.edge_blocks import zonal_of
from equimodels.ops.edge_product import edge_product, edge_product_plain

# The first dual tensor makes torch compile rules with its own deprecated compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


def operands(dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    x, radial, zonal = (
        torch.randn(*shape, dtype=torch.float64, generator=random).to(dtype).requires_grad_()
        for shape in ((4, 2, 5), (9, 2, 3), (9, 3, 5))
    )
    sender, receiver = torch.randint(0, 4, (2, 9), generator=random)
    return x, radial, zonal, sender, receiver


@pytest.fixture(params=[1, 40, 1 << 16], ids=["one edge a block", "several blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(edge_blocks, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
def test_the_product_is_the_plain_one():
    for dtype in (torch.float32, torch.float64):
        assert_close(edge_product(*operands(dtype)), edge_product_plain(*operands(dtype)))


@pytest.mark.usefixtures("block")
def test_the_first_two_derivatives_are_right():
    assert torch.autograd.gradcheck(edge_product, operands())
    assert torch.autograd.gradgradcheck(edge_product, operands())


@pytest.mark.usefixtures("block")
def test_the_third_derivative_is_that_of_the_plain_product():
    results = []
    for function in (edge_product, edge_product_plain):
        x, radial, zonal, sender, receiver = operands()
        value = function(x, radial, zonal, sender, receiver).pow(3).sum()
        for _ in range(2):
            first = torch.autograd.grad(value, (x, radial, zonal), create_graph=True)
            value = sum(gradient.pow(2).sum() for gradient in first)
        results.append(torch.autograd.grad(value, (x, radial, zonal)))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)


TABLE = torch.randn(4, 3 * 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def made_in_blocks(x, radial, numbers, sender, receiver):
    return edge_product(x, radial, numbers, sender, receiver, TABLE.to(x.dtype))


def made_before(x, radial, numbers, sender, receiver):
    return edge_product_plain(x, radial, zonal_of(numbers, TABLE.to(x.dtype), 5), sender, receiver)


def operands_with_table():
    x, radial, zonal, sender, receiver = operands()
    return x, radial, zonal[:, 0, :4].detach().clone().requires_grad_(), sender, receiver


@pytest.mark.usefixtures("block")
def test_zonal_functions_that_are_made_in_each_block_are_right_to_the_third_derivative():
    results = []
    for function in (made_in_blocks, made_before):
        *given, sender, receiver = operands_with_table()
        found = [function(*given, sender, receiver)]
        value = found[0].pow(2).sum()
        for order in (1, 2, 3):
            gradients = torch.autograd.grad(value, given, create_graph=order < 3)
            found += gradients
            value = sum(gradient.pow(2).sum() for gradient in gradients)
        results.append(found)
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)


@pytest.mark.usefixtures("block")
def test_rates_of_zonal_functions_that_are_made_in_each_block_are_right():
    results = []
    for function in (made_in_blocks, made_before):
        *given, sender, receiver = operands_with_table()
        rates = [tensor.detach().cos().requires_grad_() for tensor in given]
        with forward_ad.dual_level():
            duals = map(forward_ad.make_dual, given, rates)
            value, rate = forward_ad.unpack_dual(function(*duals, sender, receiver))
        results.append((value, rate, *torch.autograd.grad((value.pow(2) + rate.pow(2)).sum(), [*given, *rates])))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)


def test_no_edges_make_no_messages():
    x, radial, zonal, sender, receiver = operands()
    out = edge_product(x, radial[:0], zonal[:0], sender[:0], receiver[:0])
    assert torch.equal(out, torch.zeros_like(x))
    assert torch.autograd.grad(out.sum(), x)[0].eq(0).all()
