"""Invariant coordinates do not change under motions, keep distances, and tell different shapes apart."""

import pytest
import torch
from torch.testing import assert_close

from equimodels.symmetry import (
    Euclidean,
    Invariant,
    Items,
    Orthogonal,
    Permutations,
    Point,
    equivariance_error,
    invariant_coordinates,
)

RIGID = Euclidean(Orthogonal(reflections=False))
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def points(batch=4, seed=0, dtype=torch.float64):
    """Skewed clouds: no third moment is zero."""
    x = torch.randn(batch, 12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return ((x + 0.4 * x.square()) * torch.tensor([1.0, 2.0, 3.0])).to(dtype)


def coordinates(reflections=True):
    return lambda x: invariant_coordinates(x, reflections=reflections).coordinates


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reflections", [True, False])
def test_coordinates_do_not_change_when_the_points_are_moved(dtype, reflections):
    x = points(dtype=dtype)
    assert not invariant_coordinates(x, reflections=reflections).ambiguous.any()
    group = Euclidean() if reflections else RIGID
    assert equivariance_error(coordinates(reflections), [x], [Point()], Invariant(3), group=group) < TOLERANCE[dtype]
    assert (
        equivariance_error(coordinates(reflections), [x], [Items()], Items(), group=Permutations(12)) < TOLERANCE[dtype]
    )


def test_without_reflections_a_shape_and_its_mirror_image_differ():
    x = points()
    for reflections in (True, False):
        here, there = (invariant_coordinates(y, reflections=reflections).coordinates for y in (x, -x))
        assert ((here - there).abs().amax(dim=(1, 2)) < 1e-10).all() == reflections
        assert reflections or ((here - there).abs().amax(dim=(1, 2)) > 0.1).all()


def test_distances_stay_so_that_different_shapes_have_different_coordinates():
    x = points()
    found = invariant_coordinates(x).coordinates
    assert_close(torch.cdist(found, found), torch.cdist(x, x), rtol=0, atol=1e-10)
    apart = (found[:, None] - found[None, :]).abs().amax(dim=(2, 3))
    assert (apart[~torch.eye(4, dtype=torch.bool)] > 0.1).all()
    changed = x.clone()
    changed[:, 0, 0] += 1e-3
    assert ((invariant_coordinates(changed).coordinates - found).abs().amax(dim=(1, 2)) > 1e-5).all()


def test_they_are_those_of_classical_multidimensional_scaling_up_to_signs():
    x = points(1)[0]
    squares = torch.cdist(x, x).square()
    centring = torch.eye(12, dtype=torch.float64) - 1 / 12
    values, vectors = torch.linalg.eigh(-0.5 * centring @ squares @ centring)
    expected = vectors[:, -3:] * values[-3:].sqrt()
    assert_close(invariant_coordinates(x[None]).coordinates[0].abs(), expected.abs(), rtol=0, atol=1e-9)


def test_a_choice_that_is_not_determined_is_reported():
    x = points()
    x[0] = torch.cat([x[0, :6], -x[0, :6]])  # an inversion centre: no third moment
    x[1] = torch.nn.functional.normalize(x[1], dim=1)
    x[1, 6:], x[1, :6] = torch.eye(3).repeat(2, 1), -torch.eye(3).repeat(2, 1)  # two spreads agree
    assert invariant_coordinates(x).ambiguous.tolist() == [True, True, False, False]


def test_a_flat_cloud_is_fine():
    x = points()
    x[..., 0] = 0
    for reflections, group in ((True, Euclidean()), (False, RIGID)):
        assert not invariant_coordinates(x, reflections=reflections).ambiguous.any()
        assert equivariance_error(coordinates(reflections), [x], [Point()], Invariant(3), group=group) < 1e-7


def test_padding_gets_zeros_and_changes_nothing():
    x = points()
    mask = torch.ones(4, 14, dtype=torch.bool)
    mask[:, 12:] = False
    padded = torch.cat([x, torch.full((4, 2, 3), 9.0)], dim=1)
    found = invariant_coordinates(padded, mask).coordinates
    assert_close(found[:, :12], invariant_coordinates(x).coordinates, rtol=0, atol=1e-12)
    assert not found[:, 12:].any()


def test_coordinates_can_be_differentiated():
    assert torch.autograd.gradcheck(coordinates(), points(1).requires_grad_())
    assert torch.autograd.gradcheck(coordinates(False), points(1).requires_grad_())
