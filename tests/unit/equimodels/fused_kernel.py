"""Checks of the fused kernel on the CPU, by Triton's interpreter: python fused_kernel.py CASE, TRITON_INTERPRET=1."""

import sys
import warnings

import torch
from torch.testing import assert_close

from equimodels.ops import CrossProduct, GauntProduct, trilinear_blocks, trilinear_triton
from equimodels.ops.bracket_grid import bracket
from equimodels.ops.gaunt_grid import pointwise
from equimodels.ops.trilinear import OTHERS

FORMS = {
    "pointwise": (pointwise, (2, 3, 1)),
    "one coefficient": (pointwise, (0, 1, 1)),
    "bracket": (bracket, (2, 2, 3)),
}


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(name):
    make, degrees = FORMS[name]
    return make(*degrees, sum(degrees), fold=False), [(lmax + 1) ** 2 for lmax in degrees]


def forms():
    """Every operand left open, more rows than a block and none."""
    for name in FORMS:
        form, widths = made(name)
        for rows in (0, 1, 45):
            operands = [random(rows, width, seed=seed) for seed, width in enumerate(widths)]
            for role, (i, j) in enumerate(OTHERS):
                found = trilinear_triton.leave_open(form, role, operands[i], operands[j])
                grids = form.sides[i].to_grid(operands[i]), form.sides[j].to_grid(operands[j])
                expected = form.leave_open(role, *grids)
                assert_close(found, expected, rtol=0, atol=3e-6 * float(expected.abs().max()) if rows else 0)


def twice(function, x, y):
    """The value, and all first and second derivatives of the sum of its squares."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    z = function(x, y)
    first = torch.autograd.grad(z.square().sum(), (x, y), create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), (x, y))
    return [z, *first, *second]


def tables():
    """Made once for a form, and again for what it has become elsewhere or in another precision."""
    form, _ = made("bracket")
    before = [trilinear_triton._per_term(form, role) for role in range(3)]
    assert all(trilinear_triton._per_term(form, role) is before[role] for role in range(3))
    form.double()
    assert all(trilinear_triton._per_term(form, role).dtype == torch.float64 for role in range(3))


def derivatives():
    """Forward, backward and double backward by the kernel, called as on a GPU."""
    trilinear_blocks.kernels_of = lambda device: trilinear_triton
    for name in FORMS:
        form, widths = made(name)
        x, y = random(7, 2, widths[0], seed=1), random(7, 2, widths[1], seed=2)
        found = twice(lambda x, y, form=form: trilinear_blocks.product(form, x, y), x, y)
        for one, other in zip(found, twice(form.plain, x, y), strict=True):
            assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def product():
    """Behind the classes that people use."""
    x, y = random(5, 3, 9, seed=1), random(5, 3, 9, seed=2)
    for module in (GauntProduct(2, 2, 2), CrossProduct(2, 2, 2)):
        expected, calls = module(x, y), []
        trilinear_blocks.kernels_of = lambda device, calls=calls: calls.append(device) or trilinear_triton
        found = module(x, y)
        assert calls
        assert_close(found, expected, rtol=0, atol=1e-5)


def refused():
    """What the kernel cannot do is done by torch, and a GPU without Triton says so."""
    form, widths = made("pointwise")
    operands = [random(3, width, seed=1).double() for width in widths[:2]]
    assert not trilinear_triton.fits(form, *operands)
    assert not trilinear_triton.fits(pointwise(8, 8, 8, 24, fold=True), random(3, 81, seed=1))
    trilinear_blocks.kernels_of = lambda device: trilinear_triton
    assert_close(trilinear_blocks.product(form.double(), *operands), form.plain(*operands))
    sys.modules["equimodels.ops.trilinear_triton"] = None
    del sys.modules["equimodels.ops"].trilinear_triton
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trilinear_blocks._triton.cache_clear()
        assert trilinear_blocks._triton() is None
    assert "without their fused kernel" in str(told[0].message)


if __name__ == "__main__":
    {each.__name__: each for each in (forms, tables, derivatives, product, refused)}[sys.argv[1]]()
    sys.stdout.write(f"{sys.argv[1]}: ok\n")
