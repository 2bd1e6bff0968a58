"""Blocks of rows change nothing but memory: values, derivatives of any order and kind, shapes, dtypes."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from equimodels.ops import trilinear_blocks
from equimodels.ops.gaunt_grid import pointwise
from equimodels.ops.trilinear_blocks import in_blocks, product

# The first dual tensor makes torch compile rules with its own deprecated compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

DEGREES = (1, 1, 2)


@pytest.fixture(params=[False, True], ids=["whole sphere", "folded"])
def form(request):
    return pointwise(*DEGREES, degree=4, fold=request.param).double()


@pytest.fixture(autouse=True, params=[1, 300, 1 << 19], ids=["one row a block", "several blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(trilinear_blocks, "BLOCK", request.param)


SHAPES = [
    ((3, 4), (3, 4)),
    ((3, 4), (3, 1)),
    ((5, 1, 2), (3, 1)),
    ((1, 1), (5, 3)),
    ((4,), (1,)),
    ((), (3, 2)),
    ((), ()),
]


def operands(first=(3, 4), second=(3, 1), dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    sizes = (DEGREES[0] + 1) ** 2, (DEGREES[1] + 1) ** 2
    return tuple(
        torch.randn(*shape, size, dtype=torch.float64, generator=random).to(dtype).requires_grad_()
        for shape, size in zip((first, second), sizes, strict=True)
    )


@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_the_product_and_its_gradients_are_the_plain_ones(form, first, second):
    x, y = operands(first, second)
    found, expected = in_blocks(form, x, y), form.plain(x, y)
    assert_close(found, expected)
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, y), weight), torch.autograd.grad(expected, (x, y), weight), strict=True
    ):
        assert_close(ours, theirs)


def test_the_first_two_derivatives_are_right(form):
    x, y = operands((2, 1), (1,))
    assert torch.autograd.gradcheck(lambda *given: in_blocks(form, *given), (x, y), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(
        lambda *given: in_blocks(form, *given), (x, y), check_fwd_over_rev=True, check_rev_over_rev=True
    )


def test_a_gradient_by_one_operand_alone_is_right(form):
    x, y = operands((2, 1), (2, 1))
    for function, operand in (
        (lambda v: in_blocks(form, v, y.detach()), x),
        (lambda v: in_blocks(form, x.detach(), v), y),
    ):
        assert torch.autograd.gradcheck(function, operand)


def test_the_third_derivative_is_that_of_the_plain_product(form):
    results = []
    for function in (lambda *given: in_blocks(form, *given), form.plain):
        given = operands()
        value = function(*given).pow(3).sum()
        for _ in range(2):
            value = sum(part.pow(2).sum() for part in torch.autograd.grad(value, given, create_graph=True))
        results.append(torch.autograd.grad(value, given))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)


def test_a_rate_of_one_operand_alone_is_right(form):
    x, y = (tensor.detach() for tensor in operands())
    with forward_ad.dual_level():
        rate = forward_ad.unpack_dual(in_blocks(form, forward_ad.make_dual(x, x.sin()), y)).tangent
    assert_close(rate, form.plain(x.sin(), y))


def test_it_can_be_mapped_over_a_batch(form):
    x, y = (tensor.detach() for tensor in operands((5, 3, 2), (3, 1)))
    found = torch.func.vmap(lambda v: in_blocks(form, v, y))(x)
    assert_close(found, form.plain(x, y))


def test_no_rows_have_no_product(form):
    x, y = operands((0, 3), (0, 1))
    out = in_blocks(form, x, y)
    assert out.shape == (0, 3, 9)
    assert [part.shape for part in torch.autograd.grad(out.sum(), (x, y))] == [x.shape, y.shape]


def test_operands_that_do_not_fit_are_refused(form):
    with pytest.raises(RuntimeError):
        in_blocks(form, torch.zeros(3, 9, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64))


def test_inference_mode_and_training_share_the_memory(form):
    x, y = operands()
    with torch.inference_mode():
        first = in_blocks(form, x, y)
    assert_close(in_blocks(form, x, y), first.clone())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_autocast_the_result_has_the_dtype_of_the_plain_one(dtype):
    form = pointwise(*DEGREES, degree=4).to(dtype)
    x, y = operands(dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = in_blocks(form, x, y), form.plain(x, y)
    assert found.dtype == expected.dtype
    assert_close(found, expected, rtol=0.05, atol=0.05)
    assert all(part.dtype == dtype for part in torch.autograd.grad(found.sum(), (x, y)))


class Largest(TorchDispatchMode):
    """The most numbers that any one tensor had."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_many_rows_need_no_more_memory_than_one_block_beside_operands_and_result(monkeypatch):
    monkeypatch.setattr(trilinear_blocks, "BLOCK", 1 << 12)
    form = pointwise(*DEGREES, degree=4)
    x, y = operands((5000, 2), (5000, 1), dtype=torch.float32)
    for function, bounded in ((product, True), (lambda form, x, y: form.plain(x, y), False)):
        with Largest() as largest:
            torch.autograd.grad(function(form, x, y).pow(2).sum(), (x, y))
        assert (largest.numbers <= 5000 * 2 * 9) == bounded
