"""Real spherical harmonics, their derivatives at the poles, and the quadrature that integrates them."""

import math
from importlib import import_module

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.ops.quadrature import DEGREES, gauss_legendre, lebedev
from equimodels.ops.spherical_harmonics import MAX_DEGREE, spherical_harmonics
from equimodels.ops.wigner import block_wigner_D, wigner_D
from equimodels.symmetry import Orthogonal, random_rotations
from equimodels.testing import DTYPES


def vectors(count=40, dtype=torch.float64):
    return torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_harmonics_keep_the_dtype_to_its_precision(dtype):
    found = spherical_harmonics(MAX_DEGREE, vectors(dtype=dtype))
    assert found.dtype == dtype
    expected = spherical_harmonics(MAX_DEGREE, vectors(dtype=dtype).double())
    assert_close(found.double(), expected, rtol=0, atol=2000 * torch.finfo(dtype).eps)


def test_harmonics_are_orthonormal_under_quadrature_up_to_the_highest_degree():
    points, weights = lebedev(2 * MAX_DEGREE)
    values = spherical_harmonics(MAX_DEGREE, points, normalization="integral")
    assert_close(values.mT @ (weights[:, None] * values), torch.eye(169, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_rule_of_too_low_a_degree_does_not_integrate_exactly():
    points, weights = lebedev(2 * MAX_DEGREE - 6)
    values = spherical_harmonics(MAX_DEGREE, points, normalization="integral")
    assert (values.mT @ (weights[:, None] * values) - torch.eye(169, dtype=torch.float64)).abs().max() > 0.1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_harmonics_can_be_differentiated_twice_on_the_axes(axis, sign):
    x = torch.zeros(1, 3, dtype=torch.float64)
    x[0, axis] = sign
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: spherical_harmonics(4, v), x)
    assert torch.autograd.gradgradcheck(lambda v: spherical_harmonics(4, v), x)


def test_degree_zero_of_a_zero_vector_is_finite_without_normalization():
    assert_close(
        spherical_harmonics(2, torch.zeros(1, 3), normalize=False),
        torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0, 0]]),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vector_of_length_zero_has_no_direction_and_finite_derivatives(dtype):
    given = torch.tensor([[0.0, 0, 0], [0, -1, 0]], dtype=dtype, requires_grad=True)
    values = spherical_harmonics(3, given)
    assert_close(values[0], torch.tensor([1.0] + [0.0] * 15, dtype=dtype))
    assert not values[0, 1:].any()
    assert values[1].abs().sum() > 2
    (first,) = torch.autograd.grad(values.sum(), given, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), given)
    assert not first[0].any()
    assert not second[0].any()
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_degrees_and_normalizations_that_do_not_exist_are_refused():
    with pytest.raises(SettingError, match="0 to 12"):
        spherical_harmonics(13, vectors())
    with pytest.raises(SettingError, match="integral, component, norm"):
        spherical_harmonics(2, vectors(), normalization="racah")


def test_many_vectors_are_as_few_in_all_derivatives(monkeypatch):
    given = vectors(12).view(3, 4, 3)
    found = []
    for block in (1 << 20, 50):
        monkeypatch.setattr(import_module("equimodels.ops.spherical_harmonics"), "BLOCK", block)
        for options in ({}, {"normalize": False}):
            leaf = given.clone().requires_grad_()
            values = spherical_harmonics(3, leaf, **options)
            (first,) = torch.autograd.grad(values.pow(3).sum(), leaf, create_graph=True)
            found.append((values, first, torch.autograd.grad(first.pow(2).sum(), leaf)[0]))
    for few, many in zip(found[:2], found[2:], strict=True):
        for one, other in zip(few, many, strict=True):
            assert_close(one, other)


def test_lebedev_weights_sum_to_the_area_of_the_sphere():
    for degree in (0, 3, 13, 25, 41, DEGREES[-1]):
        points, weights = lebedev(degree)
        assert_close(weights.sum(), torch.tensor(4 * math.pi, dtype=torch.float64))
        assert_close(points.norm(dim=1), torch.ones(len(points), dtype=torch.float64))


def test_a_degree_without_a_rule_is_refused():
    with pytest.raises(SettingError, match="0 to 131"):
        lebedev(132)


@pytest.mark.parametrize("degree", [0, 1, 2, 7, 24])
def test_circles_of_latitude_integrate_exactly_and_one_degree_more_does_not(degree):
    points, weights = gauss_legendre(degree)
    assert len(points) == (degree // 2 + 1) * (degree + 1)
    assert_close(weights.sum(), torch.tensor(4 * math.pi, dtype=torch.float64))
    assert (weights > 0).all()
    lmax = min(degree, MAX_DEGREE)
    integral = weights @ spherical_harmonics(lmax, points, normalization="integral")
    assert_close(integral[0], torch.tensor(math.sqrt(4 * math.pi), dtype=torch.float64))
    assert integral[1:].abs().max() < 1e-12 if degree else True
    if degree < MAX_DEGREE:  # cos((degree + 1) phi) is 1 on all degree + 1 points of a circle
        beyond = weights @ spherical_harmonics(degree + 1, points, normalization="integral")
        assert beyond[1:].abs().max() > 1e-2


def test_one_degree_is_its_block():
    rotation = Orthogonal().sample(3, torch.Generator().manual_seed(4))
    whole = block_wigner_D(4, rotation)
    for degree in range(5):
        where = slice(degree**2, (degree + 1) ** 2)
        assert_close(wigner_D(degree, rotation), whole[..., where, where], rtol=0, atol=1e-13)
    with pytest.raises(SettingError):
        wigner_D(-1, rotation)


def test_wigner_d_is_an_orthogonal_representation_of_rotations_and_reflections():
    group = Orthogonal()
    first, second = group.sample(2, torch.Generator().manual_seed(0))
    d_first, d_second = block_wigner_D(8, first), block_wigner_D(8, second)
    assert_close(block_wigner_D(8, group.compose(first, second)), d_first @ d_second, rtol=0, atol=1e-12)
    assert_close(block_wigner_D(8, group.inverse(first)), d_first.mT, rtol=0, atol=1e-12)
    assert_close(block_wigner_D(8, group.identity()), torch.eye(81, dtype=torch.float64), rtol=0, atol=1e-12)


def test_harmonics_turn_by_block_wigner_D():
    rotation = Orthogonal().sample(1, torch.Generator().manual_seed(2))[0]
    turned = spherical_harmonics(7, vectors() @ rotation.mT)
    assert_close(turned, spherical_harmonics(7, vectors()) @ block_wigner_D(7, rotation).mT, rtol=0, atol=1e-12)


def test_random_rotations_are_rotations_and_their_mean_is_zero():
    rotations = random_rotations(4000, torch.Generator().manual_seed(0))
    assert_close(rotations @ rotations.mT, torch.eye(3, dtype=torch.float64).expand(4000, 3, 3), rtol=0, atol=1e-14)
    assert_close(torch.linalg.det(rotations), torch.ones(4000, dtype=torch.float64))
    assert rotations.mean(dim=0).abs().max() < 5 / math.sqrt(3 * 4000)  # five standard errors
