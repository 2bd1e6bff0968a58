"""The polynomial of dual numbers in blocks: rates are those torch finds, derivatives those of differences."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch.testing import assert_close

from equimodels.ops import edge_blocks
from equimodels.ops.gaunt_power import GauntPower
from equimodels.ops.gaunt_power_dual import gaunt_power_dual

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture(params=[1, 300, 1 << 16], ids=["one atom a block", "several blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(edge_blocks, "BLOCK", request.param)


def operands(lmax_in, order, dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    n = (lmax_in + 1) ** 2
    return [
        torch.randn(5, 2, size, dtype=torch.float64, generator=random).to(dtype).requires_grad_()
        for size in (n, order, n)
    ]


def plain(power, x, weights):
    """The powers one by one: the slow twin."""
    grid = x @ power.to_grid
    return sum(weights[..., k : k + 1] * grid ** (k + 1) for k in range(power.order)) @ power.from_grid


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(("lmax_in", "lmax_out", "order"), [(1, 0, 1), (1, 1, 2), (2, 2, 3), (2, 0, 4)])
def test_value_rate_and_gradients_are_those_of_the_plain_polynomial(lmax_in, lmax_out, order):
    for dtype in (torch.float32, torch.float64):
        power, results = GauntPower(lmax_in, lmax_out, order).to(dtype), []
        for function in (power, lambda x, w, power=power: plain(power, x, w)):
            x, weights, x_dot = operands(lmax_in, order, dtype)
            with forward_ad.dual_level():
                value, rate = forward_ad.unpack_dual(function(forward_ad.make_dual(x, x_dot), weights))
            gradients = torch.autograd.grad((value.pow(3) + rate.pow(2)).sum(), (x, weights, x_dot))
            results.append((value, rate, *gradients))
        for found, expected in zip(*results, strict=True):
            scale = 1e-5 if dtype == torch.float32 else 1e-12
            assert_close(found, expected, rtol=scale, atol=scale * float(expected.detach().abs().max()))


@pytest.mark.usefixtures("block")
def test_gradients_are_right():
    power = GauntPower(1, 1, 3).double()

    def function(x, weights, x_dot):
        return gaunt_power_dual(x, weights, x_dot, power.to_grid, power.from_grid)

    assert torch.autograd.gradcheck(function, operands(1, 3))


def test_weights_may_be_the_same_for_all_atoms():
    power = GauntPower(1, 1, 2).double()
    x, _, x_dot = operands(1, 2)
    weights = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    found = []
    for given in (weights, weights.expand(5, -1, -1)):
        with forward_ad.dual_level():
            value, rate = forward_ad.unpack_dual(power(forward_ad.make_dual(x, x_dot), given))
        found.append((value, rate, torch.autograd.grad((value * rate).sum(), weights)[0]))
    for one, other in zip(*found, strict=True):
        assert_close(one, other)
