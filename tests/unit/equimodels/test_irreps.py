"""Irreps of O(3): names, products, matrices, and the layout of e3nn."""

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.ops.irreps import Irrep, Irreps, pack, unpack
from equimodels.symmetry import Harmonic, Orthogonal, Pseudo, Vector, equivariance_error


def test_what_is_written_is_read_again():
    irreps = Irreps.parse("8x0e + 4x1o+2e")
    assert str(irreps) == "8x0e+4x1o+1x2e"
    assert Irreps.parse(str(irreps)) == irreps
    assert irreps.dim == 8 + 12 + 5
    assert [(where.start, where.stop) for where in irreps.slices()] == [(0, 8), (8, 20), (20, 25)]
    assert Irreps.parse("").dim == 0


@pytest.mark.parametrize("text", ["8y0e", "1x0", "0x", "-1x0e", "1x13e"])
def test_what_is_no_irrep_is_refused_by_name(text):
    with pytest.raises(SettingError):
        Irreps.parse(text)


@pytest.mark.parametrize("pair", [("0e", "1o"), ("1o", "1o"), ("1e", "2o"), ("2e", "3o")])
def test_products_are_those_of_e3nn(o3, pair):
    one, two = ((irrep for _, irrep in Irreps.parse(text).terms) for text in pair)
    found = [str(irrep) for irrep in next(one) * next(two)]
    assert found == [str(irrep) for irrep in o3.Irrep(pair[0]) * o3.Irrep(pair[1])]


def test_matrices_are_those_of_e3nn_with_reflections(o3):
    text = "2x0e+1x0o+2x1o+1x1e+3x2e+1x3e"
    elements = Orthogonal().sample(4, torch.Generator().manual_seed(0))
    found = Irreps.parse(text).matrix(elements)
    for element, matrix in zip(elements, found, strict=True):
        # Its Euler angles lose some digits.
        assert_close(matrix, o3.Irreps(text).D_from_matrix(element), rtol=0, atol=1e-9)


def test_packed_features_turn_as_irreps_say():
    x = torch.randn(5, 3, 9, dtype=torch.float64)
    assert_close(unpack(pack(x), 3), x, rtol=0, atol=0)
    assert equivariance_error(pack, [x], [Harmonic(2)], Irreps.natural(2, 3)) < 1e-12
    assert pack(x)[0, 3:6].tolist() == x[0, 0, 1:4].tolist()  # after the scalars, the vector of the first channel


def test_an_axial_vector_is_not_a_vector():
    axial, element = Irreps(((1, Irrep(1, 1)),)), -torch.eye(3, dtype=torch.float64)
    assert_close(axial.matrix(element), Pseudo(Vector()).matrix(element))
    assert not axial.terms[0][1].is_natural


@pytest.mark.parametrize(("width", "channels"), [(12, 5), (10, 2)])
def test_a_width_that_does_not_fit_is_refused(width, channels):
    with pytest.raises(SettingError):
        unpack(torch.zeros(2, width), channels)
