"""The antisymmetric product: its definition, its paths against e3nn, O(3), grids that are too coarse."""

import math

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.ops import CrossProduct, trilinear_blocks
from equimodels.ops.bracket_grid import bracket
from equimodels.symmetry import Harmonic, Pseudo, equivariance_error
from equimodels.testing import DTYPES, EQUIVARIANCE

DEGREES = [(1, 1, 1), (2, 2, 2), (3, 1, 2), (4, 4, 4), (2, 5, 6)]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def operands(degrees, *rows, dtype=torch.float64):
    return [random(*rows, (lmax + 1) ** 2, seed=seed, dtype=dtype) for seed, lmax in enumerate(degrees[:2])]


def table(degrees, degree=None):
    """(n1, n2, n_out): the product of all pairs of unit vectors."""
    one, two = (torch.eye((lmax + 1) ** 2, dtype=torch.float64) for lmax in degrees[:2])
    return CrossProduct(*degrees, degree=degree).double()(one[:, None, :], two[None, :, :])


@pytest.mark.parametrize("degrees", DEGREES)
def test_every_odd_path_is_a_multiple_of_a_3j_symbol_and_every_even_one_is_zero(o3, degrees):
    found, paths = table(degrees), 0
    for a in range(degrees[0] + 1):
        for b in range(degrees[1] + 1):
            for c in range(degrees[2] + 1):
                block = found[a * a : (a + 1) ** 2, b * b : (b + 1) ** 2, c * c : (c + 1) ** 2]
                if abs(a - b) <= c <= a + b and (a + b + c) % 2:
                    symbol = o3.wigner_3j(a, b, c)
                    number = (symbol * block).sum()
                    paths += 1
                    assert abs(number) > 0.1
                    assert_close(block, number * symbol, rtol=0, atol=1e-12)
                else:
                    assert block.abs().max() < 1e-12
    if degrees in ((2, 2, 2), (4, 4, 4)):
        assert paths == {2: 4, 4: 23}[degrees[0]]


# Of odd sum, since Lebedev rules have odd degrees: any other degree is rounded up to the next rule, which may be exact.
@pytest.mark.parametrize("degrees", [(2, 1, 2), (2, 2, 3), (4, 4, 5), (8, 8, 7)])
def test_a_rule_two_degrees_lower_fails(degrees):
    inputs = operands(degrees, 5)
    reps = [Harmonic(degrees[0]), Harmonic(degrees[1])], Pseudo(Harmonic(degrees[2]))
    errors = [
        equivariance_error(CrossProduct(*degrees, degree=sum(degrees) - less).double(), inputs, *reps)
        for less in (0, 2)
    ]
    assert errors[0] < 1e-12
    assert errors[1] > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("degrees", [*DEGREES, (8, 8, 8)])
def test_the_product_commutes_with_rotations_and_reflections(degrees, dtype):
    inputs = operands(degrees, 5, 2, dtype=dtype)
    reps = [Harmonic(degrees[0]), Harmonic(degrees[1])]
    product = CrossProduct(*degrees).to(dtype)
    assert equivariance_error(product, inputs, reps, Pseudo(Harmonic(degrees[2]))) < min(EQUIVARIANCE[dtype], 1e-5)
    assert equivariance_error(product, inputs, reps, Harmonic(degrees[2])) > 0.5  # of natural parity it is not


def test_of_degree_one_it_is_the_cross_product_of_vectors():
    x, y = operands((1, 1), 7)
    found = CrossProduct(1, 1, 1).double()(x, y)
    assert_close(found[:, 1:], math.sqrt(3) * torch.linalg.cross(x[:, 1:], y[:, 1:]))
    assert_close(found[:, 0], torch.zeros(7, dtype=torch.float64))


def test_it_is_antisymmetric():
    x, y = operands((3, 3), 4, 2)
    product = CrossProduct(3, 3, 3).double()
    assert_close(product(x, y), -product(y, x), rtol=0, atol=1e-12)
    assert product(x, x).abs().max() < 1e-12


def test_folded_and_in_blocks_it_is_the_same(monkeypatch):
    monkeypatch.setattr(trilinear_blocks, "BLOCK", 1 << 11)
    x, y = operands((3, 2), 50, 2)
    forms = [bracket(3, 2, 4, 9, fold=fold).double() for fold in (False, True)]
    expected = forms[0].plain(x, y)
    for form in forms:
        assert_close(form.plain(x, y), expected)
        assert_close(trilinear_blocks.in_blocks(form, x, y), expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("fold", [False, True])
def test_it_can_be_differentiated_twice_in_blocks_too(fold):
    x, y = (tensor.requires_grad_() for tensor in operands((1, 2), 2))
    form = bracket(1, 2, 2, 5, fold=fold).double()
    for function in (form.plain, lambda x, y: trilinear_blocks.in_blocks(form, x, y)):
        assert torch.autograd.gradcheck(function, (x, y), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, (x, y))


def test_it_compiles_as_one_graph_and_is_exported_for_any_number_of_rows():
    product, given = CrossProduct(2, 2, 2).double(), tuple(operands((2, 2), 6, 2))
    compiled = torch.compile(product, fullgraph=True, backend="aot_eager")
    assert_close(compiled(*given), product(*given))
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(product, given, dynamic_shapes={"x": {0: rows}, "y": {0: rows}})
    given = operands((2, 2), 11, 2)
    assert_close(exported.module()(*given), product(*given))


def test_autocast_no_rows_scales_and_mixing():
    product = CrossProduct(2, 2, 2)
    x, y = operands((2, 2), 6, 2, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(product(x, y).float(), product(x, y).float(), rtol=0.05, atol=0.3)
    assert product(x[:0], y[:0]).shape == (0, 2, 9)
    scale, mix = random(3, dtype=torch.float32), random(2, 3, dtype=torch.float32)
    each = scale[[0, 1, 1, 1, 2, 2, 2, 2, 2]]
    assert_close(product(x, y, scale1=scale), product(x * each, y))
    assert_close(product(x, y, scale_out=scale, mix=mix), mix.mT @ (product(x, y) * each))


def test_a_degree_out_of_range_is_refused_by_name():
    with pytest.raises(SettingError, match="lmax_out is 13"):
        CrossProduct(1, 1, 13)
