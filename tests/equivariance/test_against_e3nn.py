"""Harmonics, Wigner D and the Gaunt product against e3nn, an independent implementation of the same conventions."""

import pytest
import torch
from torch.testing import assert_close

from equimodels.ops import GauntProduct, block_wigner_D, gaunt_coefficients, spherical_harmonics
from equimodels.symmetry import random_rotations

HIGHEST = 11  # where e3nn's harmonics end


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("normalization", ["integral", "component", "norm"])
def test_harmonics_agree_with_e3nn(o3, normalization, normalize):
    x = random(40, 3)
    found = spherical_harmonics(HIGHEST, x, normalization=normalization, normalize=normalize)
    expected = o3.spherical_harmonics(list(range(HIGHEST + 1)), x, normalize, normalization)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_wigner_d_agrees_with_e3nn(o3):
    rotation = random_rotations(1, torch.Generator().manual_seed(1))[0]
    expected = torch.block_diag(*[o3.Irrep(degree, 1).D_from_matrix(rotation) for degree in range(6)])
    assert_close(block_wigner_D(5, rotation), expected, rtol=0, atol=1e-12)


def from_3j_symbols(o3, l1, l2, l3):
    """The Gaunt table, block by block: each even path is its 3j symbol times one number, each odd path is zero.

    The number is sum_ijk W_ijk Y_i(p) Y_j(p) Y_k(p), the same at every point p because it is invariant.
    """
    table = torch.zeros((l1 + 1) ** 2, (l2 + 1) ** 2, (l3 + 1) ** 2)
    values = o3.spherical_harmonics(list(range(HIGHEST)), torch.tensor([0.6, 0.0, 0.8]), True, "component")
    block_of = [slice(degree**2, (degree + 1) ** 2) for degree in range(HIGHEST)]
    for a in range(l1 + 1):
        for b in range(l2 + 1):
            for c in range(abs(a - b), min(a + b, l3) + 1, 2):
                symbol = o3.wigner_3j(a, b, c)
                number = torch.einsum("i,j,k,ijk", *(values[block_of[degree]] for degree in (a, b, c)), symbol)
                table[block_of[a], block_of[b], block_of[c]] = symbol * number
    return table


@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 2, 2), (3, 1, 2), (2, 3, 4), (4, 4, 4)])
def test_the_gaunt_product_is_the_sum_of_the_even_paths_of_e3nn(o3, degrees):
    l1, l2, _ = degrees
    expected = from_3j_symbols(o3, *degrees)
    assert_close(gaunt_coefficients(*degrees), expected, rtol=0, atol=1e-12)
    x, y = random(6, 3, (l1 + 1) ** 2), random(6, 3, (l2 + 1) ** 2, seed=1)
    assert_close(GauntProduct(*degrees)(x, y), torch.einsum("nci,ncj,ijk->nck", x, y, expected), rtol=0, atol=1e-11)


def test_a_path_that_is_left_out_is_caught(o3):
    table = from_3j_symbols(o3, 2, 2, 2)
    table[4:, 4:, 4:] = 0
    assert (gaunt_coefficients(2, 2, 2) - table).abs().max() > 0.1
