"""Blocks that are computed again: a function of rows, edges between atoms, and derivatives of every kind of both."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.testing import assert_close

from equimodels.ops.recomputed import Atoms, recomputed
from equimodels.testing.memory import PeakMemory

# The first dual tensor makes torch compile rules with its own deprecated compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

SENDER, RECEIVER = torch.tensor([[0, 1, 1, 3, 2, 0, 3], [1, 0, 3, 0, 0, 1, 3]])


def two_results(x, y):
    """Of rows: one result that depends on both operands, one on the first alone."""
    return x.sin() * y[:, :1] ** 2, x.sum(dim=1, keepdim=True).exp()


def message(x, w):
    return ((x * w).sin() * w,)


def rows_in_blocks(step):
    return lambda x, y: recomputed(two_results, (x, y), step=step, given=(None, None))


def edges_in_blocks(step):
    return lambda x, w: recomputed(
        message, (x, w), step=step, taken=(Atoms(SENDER, 4), None), given=(Atoms(RECEIVER, 4),)
    )


def edges_at_once(x, w):
    return (torch.zeros_like(x).index_add(0, RECEIVER, message(x[SENDER], w)[0]),)


STEPS = [1, 3, 100]
FUNCTIONS = [(rows_in_blocks, two_results, (5, 1), (5, 2)), (edges_in_blocks, edges_at_once, (4, 1), (7, 1))]
IDS = ["rows", "edges"]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("blocked", "whole", "first", "second"), FUNCTIONS, ids=IDS)
def test_three_derivatives_are_those_of_the_function(blocked, whole, first, second, step):
    results = []
    for function in (blocked(step), whole):
        given = random(*first).requires_grad_(), random(*second, seed=1).requires_grad_()
        found = [*function(*given)]
        scalar = sum(part.square().sum() for part in found)
        for order in (1, 2, 3):
            gradients = torch.autograd.grad(scalar, given, create_graph=order < 3)
            found += gradients
            scalar = sum(part.square().sum() for part in gradients)
        results.append(found)
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("blocked", "whole", "first", "second"), FUNCTIONS, ids=IDS)
def test_derivatives_are_those_of_differences(blocked, whole, first, second):
    given = random(*first).requires_grad_(), random(*second, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(blocked(3), given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(blocked(3), given, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_what_a_result_does_not_depend_on_has_gradient_zero():
    x, y = random(5, 2).requires_grad_(), random(5, 3).requires_grad_()
    found = torch.autograd.grad(rows_in_blocks(2)(x, y)[1].sum(), (x, y))
    assert found[0].any()
    assert not found[1].any()
    constant = recomputed(lambda x: (torch.ones_like(x),), (x,), step=2)[0]
    assert not torch.autograd.grad(constant.sum(), x)[0].any()
    with forward_ad.dual_level():
        rate = forward_ad.unpack_dual(recomputed(lambda x: (x * 0 + 1,), (forward_ad.make_dual(x, x),), step=2)[0])
        assert not rate.tangent.any()


def test_a_function_of_rows_can_be_mapped_over_a_batch():
    x, y = random(3, 5, 2), random(3, 5, 3, seed=1)
    for ours, theirs in zip(torch.func.vmap(rows_in_blocks(4))(x, y), torch.func.vmap(two_results)(x, y), strict=True):
        assert_close(ours, theirs)
    with pytest.raises(NotImplementedError, match="vmap over many edges"):
        torch.func.vmap(edges_in_blocks(3), in_dims=(0, None))(random(3, 4, 2), random(7, 2))


def test_no_rows_have_results_of_the_right_shape():
    x, y = random(0, 2).requires_grad_(), random(0, 3)
    found = rows_in_blocks(4)(x, y)
    assert [part.shape for part in found] == [(0, 2), (0, 1)]
    assert torch.autograd.grad(found[0].sum(), x)[0].shape == (0, 2)


def test_derivatives_are_in_the_precision_of_the_value():
    x, weight = random(6, 4).float().requires_grad_(), random(4, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = recomputed(lambda x: (x @ weight,), (x,), step=4)
        expected = x @ weight
    assert found.dtype == expected.dtype == torch.bfloat16
    ours, theirs = (torch.autograd.grad(part.float().square().sum(), x)[0] for part in (found, expected))
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)


def test_memory_is_that_of_a_block_beside_operands_and_results():
    def many_arrays(x):
        for _ in range(20):
            x = x.sin() + 1
        return (x,)

    needed = []
    for function in (lambda x: recomputed(many_arrays, (x,), step=5), many_arrays):
        x = random(200, 10).requires_grad_()
        with PeakMemory() as memory:
            (gradient,) = torch.autograd.grad(function(x)[0].sum(), x, create_graph=True)
            torch.autograd.grad(gradient.sum(), x)
        needed.append(memory.peak / (8 * x.numel()))
    assert needed[0] < 8 < 20 < needed[1]
