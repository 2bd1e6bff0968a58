"""The polynomial of many rows goes in blocks: it is the plain one in derivatives of every order, and keeps no grid."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.testing import assert_close

from equimodels.ops import GauntPower, edge_blocks, gaunt_power
from equimodels.testing.memory import PeakMemory

# The first dual tensor makes torch compile rules with its own deprecated compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")


@pytest.fixture(params=[1, 100, 1 << 17], ids=["one row a block", "several blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(edge_blocks, "BLOCK", request.param)
    monkeypatch.setattr(gaunt_power, "WHOLE", 0)


def power_of(lmax_in=1, lmax_out=2, order=3):
    return GauntPower(lmax_in, lmax_out, order).double()


def operands(power, rows=(4, 2), dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    return [
        torch.randn(*rows, size, dtype=torch.float64, generator=random).to(dtype).requires_grad_()
        for size in ((power.lmax_in + 1) ** 2, power.order)
    ]


def derivatives(function, given, highest):
    """The value, and the gradients of a scalar that depends on all gradients of lower order, up to the highest."""
    value = function(*given)
    found, scalar = [value], value.square().sum()
    for order in range(1, highest + 1):
        gradients = torch.autograd.grad(scalar, given, create_graph=order < highest)
        found += gradients
        scalar = sum(gradient.square().sum() for gradient in gradients)
    return found


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(("lmax_in", "lmax_out", "order"), [(0, 0, 1), (1, 1, 1), (1, 2, 2), (2, 1, 3), (1, 0, 4)])
def test_the_value_and_three_derivatives_are_those_of_the_plain_polynomial(lmax_in, lmax_out, order):
    power = power_of(lmax_in, lmax_out, order)
    results = [derivatives(function, operands(power), 3) for function in (power, power.plain)]
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected, rtol=1e-11, atol=1e-11 * float(expected.detach().abs().max()))


@pytest.mark.usefixtures("block")
def test_the_first_two_derivatives_are_right():
    power = power_of(1, 1, 3)
    given = operands(power, (2, 1))
    assert torch.autograd.gradcheck(power, given)
    assert torch.autograd.gradgradcheck(power, given)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("rows", [(7, 3), (1, 1), (1, 5), (5, 1), (0, 2), (3, 0)])
def test_rows_that_do_not_fill_the_last_block_are_right(rows):
    power = power_of()
    found, expected = (derivatives(f, operands(power, rows), 2) for f in (power, power.plain))
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)


@pytest.mark.usefixtures("block")
def test_weights_may_be_the_same_for_all_atoms():
    power = power_of()
    x, weights = operands(power)[0], operands(power)[1][0].detach().requires_grad_()
    found, expected = (derivatives(function, (x, weights), 2) for function in (power, power.plain))
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs)


@pytest.mark.usefixtures("block")
def test_a_rate_of_the_weights_too_is_right():
    power = power_of()
    x, weights = (tensor.detach() for tensor in operands(power))
    rates = []
    for function in (power, power.plain):
        with forward_ad.dual_level():
            duals = forward_ad.make_dual(x, x.sin()), forward_ad.make_dual(weights, weights.cos())
            rates.append(forward_ad.unpack_dual(function(*duals)).tangent)
    assert_close(*rates)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_autocast_it_is_the_plain_one(dtype):
    power = GauntPower(1, 2, 3).to(dtype)
    results = []
    for function in (power, power.plain):
        x, weights = operands(power, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16):
            value = function(x, weights)
        results.append((value, *torch.autograd.grad(value.sum(), (x, weights))))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.detach().abs().max()))


def test_what_is_compiled_or_exported_has_no_blocks(monkeypatch):
    monkeypatch.setattr(edge_blocks, "BLOCK", 1)
    power = power_of()
    x, weights = (tensor.detach() for tensor in operands(power, (50, 2)))
    exported = torch.export.export(power, (x, weights))
    assert len(exported.graph.nodes) < 20
    compiled = torch.compile(power, fullgraph=True, backend="eager")
    for found in (exported.module()(x, weights), compiled(x, weights), power(x, weights)):
        assert_close(found, power.plain(x, weights))


@pytest.mark.parametrize("order", [1, 2])
def test_memory_is_that_of_a_block_beside_operands_and_results(order, monkeypatch):
    monkeypatch.setattr(edge_blocks, "BLOCK", 1 << 9)
    power = GauntPower(2, 0, 3)
    needed = []
    for function in (power, power.plain):
        given = operands(power, (1000, 2), torch.float32)
        with PeakMemory() as memory:
            derivatives(function, given, order)
        needed.append(memory.peak / sum(4 * tensor.numel() for tensor in given))
    # One array on the grid is twice as large as x and the weights, and plain operations keep many.
    assert needed[0] < 4 < 10 < needed[1]
