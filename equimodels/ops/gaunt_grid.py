"""The grid of a product of two functions on the sphere: what its trilinear form is made of.

Shapes: n_i = (lmax_i + 1)^2 coefficients, P grid points.
"""

import math

from torch import Tensor

from equimodels.ops.quadrature import half_sphere, lebedev
from equimodels.ops.spherical_harmonics import degree_of_each, spherical_harmonics
from equimodels.ops.trilinear import Trilinear
from equimodels.ops.trilinear_sides import FoldedSide, Side

# Below, the gather of even and odd degrees costs what half of the points save; forward, 1,000 rows on one thread:
# 0.9 at lmax 7, 1.15 at lmax 8, 1.3 to 1.5 at lmax 12 (of 1: as fast without).
FOLD_FROM = 24  # degree of the rule, 3 lmax


def grid_tables(degree: int, lmax_in: int, lmax_out: int) -> tuple[Tensor, Tensor]:
    """To-grid (n_in, P) and from-grid (P, n_out) matrices of a Lebedev rule exact to `degree`, float64.

    Coefficients are those of component-normalized harmonics divided by 4 pi in the integral, so that from-grid after
    to-grid is the identity, and unit-variance coefficients give grid values of variance n_in.
    """
    points, weights = lebedev(degree)
    to_grid = spherical_harmonics(lmax_in, points, normalization="component").mT.contiguous()
    back = spherical_harmonics(lmax_out, points, normalization="component")
    return to_grid, (weights[:, None] / (4 * math.pi) * back).contiguous()


def pointwise(lmax1: int, lmax2: int, lmax_out: int, degree: int, *, fold: bool | None = None) -> Trilinear:
    """The form of the pointwise product, by a Lebedev rule exact to `degree`; folded where faster, or as said."""
    to_grid, from_grid = grid_tables(degree, max(lmax1, lmax2), lmax_out)
    tables = to_grid[: (lmax1 + 1) ** 2], to_grid[: (lmax2 + 1) ** 2], from_grid.mT
    if not (degree >= FOLD_FROM if fold is None else fold):
        return Trilinear([Side(table[None]) for table in tables], [(0, 0, 0)])
    # Y_l(-p) = (-1)^l Y_l(p), and the rule maps to itself: the even part of a product comes from two even or two odd
    # factors, the odd part from one of each, and half of the points with twice their weights tell both.
    half = half_sphere(lebedev(degree)[0])
    sides = [
        FoldedSide(table[None, :, half] * factor, degree_of_each(lmax) % 2 == 0)
        for table, lmax, factor in zip(tables, (lmax1, lmax2, lmax_out), (1, 1, 2), strict=True)
    ]
    return Trilinear(sides, [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)])
