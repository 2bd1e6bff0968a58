"""Gaunt products against their definition, under O(3), and with grids that are too coarse."""

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.ops import (
    GauntConvolution,
    GauntPower,
    GauntProduct,
    gaunt_coefficients,
    gaunt_convolution,
    spherical_harmonics,
)
from equimodels.symmetry import Harmonic, Invariant, Vector, equivariance_error
from equimodels.testing import DTYPES, EQUIVARIANCE

DEGREES = [(1, 1, 1), (2, 2, 2), (3, 1, 2), (2, 3, 0), (5, 5, 5), (8, 8, 8)]


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("degrees", DEGREES)
def test_the_product_commutes_with_rotations_and_reflections(degrees, dtype):
    l1, l2, l3 = degrees
    inputs = [random(5, 2, (l1 + 1) ** 2, dtype=dtype), random(5, 2, (l2 + 1) ** 2, seed=1, dtype=dtype)]
    error = equivariance_error(GauntProduct(*degrees).to(dtype), inputs, [Harmonic(l1), Harmonic(l2)], Harmonic(l3))
    assert error < EQUIVARIANCE[dtype]


@pytest.mark.parametrize("lmax", [2, 3, 4])
def test_an_under_resolved_product_is_not_equivariant(lmax):
    inputs = [random(5, 2, (lmax + 1) ** 2), random(5, 2, (lmax + 1) ** 2, seed=1)]
    product = GauntProduct(lmax, lmax, lmax, degree=2 * lmax).double()
    assert equivariance_error(product, inputs, [Harmonic(lmax)] * 2, Harmonic(lmax)) > 0.01


def test_the_product_is_that_of_the_functions():
    x, y = random(3, 9), random(3, 9, seed=1)
    z = GauntProduct(2, 2, 4).double()(x, y)
    points = random(20, 3, seed=2)
    at = [spherical_harmonics(lmax, points).mT for lmax in (2, 2, 4)]
    assert_close(z @ at[2], (x @ at[0]) * (y @ at[1]), rtol=0, atol=1e-12)


def test_the_scales_weight_degrees():
    x, y = random(3, 2, 9), random(3, 2, 9, seed=1)
    product, table = GauntProduct(2, 2, 2).double(), gaunt_coefficients(2, 2, 2)
    scales = [random(2, 3, seed=seed) for seed in (3, 4, 5)]
    spread = [scale[:, [0, 1, 1, 1, 2, 2, 2, 2, 2]] for scale in scales]
    expected = torch.einsum("nci,ncj,ijk->nck", x * spread[0], y * spread[1], table) * spread[2]
    found = product(x, y, scale1=scales[0], scale2=scales[1], scale_out=scales[2])
    assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_product_can_be_differentiated_twice():
    x, y = random(2, 1, 9).requires_grad_(), random(2, 1, 9, seed=1).requires_grad_()
    product = GauntProduct(2, 2, 2).double()
    assert torch.autograd.gradcheck(product, (x, y))
    assert torch.autograd.gradgradcheck(product, (x, y))


def test_a_trip_through_float32_leaves_no_trace():
    x, y = random(3, 2, 9), random(3, 2, 9, seed=1)
    assert torch.equal(GauntProduct(2, 2, 2).float().half().double()(x, y), GauntProduct(2, 2, 2).double()(x, y))


def test_the_tables_are_not_part_of_a_checkpoint():
    assert not GauntProduct(2, 2, 2).state_dict()


def test_a_degree_out_of_range_is_refused_by_name():
    with pytest.raises(SettingError, match="lmax2 is 13"):
        GauntProduct(1, 13, 1)


def edges(atoms=4):
    pairs = [(i, j) for i in range(atoms) for j in range(atoms) if i != j]
    return torch.tensor(pairs).T


@pytest.mark.parametrize(("lmax_in", "lmax"), [(0, 2), (2, 2), (1, 3)])
def test_the_convolution_is_a_sum_of_products_over_edges(lmax_in, lmax):
    sender, receiver = edges()
    x, radial = random(4, 3, (lmax_in + 1) ** 2), random(12, 3, lmax + 1, seed=1)
    harmonics = spherical_harmonics(lmax, random(12, 3, seed=2))
    product, expected = GauntProduct(lmax_in, lmax, lmax).double(), torch.zeros(4, 3, (lmax + 1) ** 2).double()
    for edge in range(12):
        contribution = product(x[sender[edge]], harmonics[edge].expand(3, -1), scale2=radial[edge])
        expected[receiver[edge]] += contribution
    found = GauntConvolution(lmax_in, lmax, lmax).double()(x, radial, harmonics, sender, receiver)
    assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_convolution_of_many_edges_is_that_of_few(monkeypatch):
    sender, receiver = edges()
    found = []
    for whole in (1 << 22, 0):
        monkeypatch.setattr(gaunt_convolution, "WHOLE", whole)
        for lmax_in, lmax in ((0, 2), (1, 2), (1, 6)):
            x, radial = random(4, 3, (lmax_in + 1) ** 2), random(12, 3, lmax + 1, seed=1)
            given = [x, radial, spherical_harmonics(lmax, random(12, 3, seed=2))]
            out = GauntConvolution(lmax_in, lmax, 2).double()(*[t.requires_grad_() for t in given], sender, receiver)
            found.append((out, *torch.autograd.grad(out.square().sum(), given)))
    for few, many in zip(found[:3], found[3:], strict=True):
        for one, other in zip(few, many, strict=True):
            assert_close(one, other)


@pytest.mark.parametrize("deficit", [0, 4])
def test_the_convolution_is_equivariant_unless_under_resolved(deficit):
    sender, receiver = edges()
    radial = random(12, 2, 3, seed=1)
    convolution = GauntConvolution(2, 2, 2, degree=6 - deficit).double()

    def convolve(x, vectors):
        return convolution(x, radial, spherical_harmonics(2, vectors), sender, receiver)

    inputs = [random(4, 2, 9), random(12, 3, seed=2)]
    error = equivariance_error(convolve, inputs, [Harmonic(2), Vector()], Harmonic(2))
    assert error < 1e-10 if deficit == 0 else error > 0.01


def test_an_atom_without_edges_receives_nothing():
    none = torch.empty(0, dtype=torch.int64)
    found = GauntConvolution(1, 1, 1).double()(random(2, 3, 4), random(0, 3, 2), random(0, 4), none, none)
    assert torch.equal(found, torch.zeros(2, 3, 4).double())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_power_is_repeated_multiplication(order):
    x, weights = random(4, 2, 9), random(4, 2, order, seed=1)
    # Without cutting the intermediate products off, as the grid does not.
    expected, factor = torch.zeros(4, 2, 9).double(), x / 3
    for k in range(1, order + 1):
        expected += weights[..., k - 1 : k] * factor[..., :9]
        factor = GauntProduct(2 * k, 2, 2 * k + 2).double()(factor, x / 3)
    assert_close(GauntPower(2, 2, order).double()(x, weights), expected, rtol=0, atol=1e-12)


def test_an_under_resolved_power_is_not_equivariant():
    x, weights = random(4, 2, 9), random(2, 3, seed=1)
    for degree, exact in ((8, True), (5, False)):
        power = GauntPower(2, 2, 3, degree=degree).double()
        error = equivariance_error(lambda x, power=power: power(x, weights), [x], [Harmonic(2)], Harmonic(2))
        assert (error < 1e-10) == exact


def test_the_measure_of_equivariance_refuses_what_shows_nothing():
    with pytest.raises(ValueError, match="zero everywhere"):
        equivariance_error(torch.zeros_like, [random(3, 3)], [Vector()], Vector())
    with pytest.raises(ValueError, match="2 inputs for 1"):
        equivariance_error(torch.add, [random(3), random(3)], [Vector()], Vector())


def test_a_function_that_is_not_invariant_is_measured_as_such():
    assert equivariance_error(lambda x: x[..., :1], [random(5, 3)], [Vector()], Invariant()) > 0.1
    assert equivariance_error(lambda x: x / 0, [random(5, 3)], [Vector()], Vector()) == float("inf")
