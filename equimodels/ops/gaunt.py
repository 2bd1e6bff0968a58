"""The Gaunt product: coefficients of the pointwise product of two functions on the sphere.

Shapes: `...` any, C channels, n_i = (lmax_i + 1)^2 coefficients of spherical harmonics, P grid points.
Source: Luo, Chen and Krishnapriyan 2024 (arXiv 2401.10216) for the operation; evaluated by exact quadrature on the
sphere instead of their Fourier transform, as Xie et al. 2025 (arXiv 2506.13523) recommend.
"""

import math

import torch
from torch import Tensor

from equimodels.errors import require
from equimodels.ops.exact import ExactTables
from equimodels.ops.quadrature import lebedev
from equimodels.ops.spherical_harmonics import MAX_DEGREE, degree_of_each, spherical_harmonics


def grid_tables(degree: int, lmax_in: int, lmax_out: int) -> tuple[Tensor, Tensor]:
    """To-grid (n_in, P) and from-grid (P, n_out) matrices of a Lebedev rule exact to `degree`, float64.

    Coefficients are those of component-normalised harmonics divided by 4 pi in the integral, so that from-grid after
    to-grid is the identity, and unit-variance coefficients give grid values of variance n_in.
    """
    points, weights = lebedev(degree)
    to_grid = spherical_harmonics(lmax_in, points, normalisation="component").mT.contiguous()
    back = spherical_harmonics(lmax_out, points, normalisation="component")
    return to_grid, (weights[:, None] / (4 * math.pi) * back).contiguous()


class GauntProduct(ExactTables):
    """z = x * y as functions on the sphere, cut off at degree `lmax_out`: every path (l1, l2, l3) with l1+l2+l3 even.

    The harmonics are component-normalised (mean square 1 on the sphere), so the coefficient of Y_00 is the mean of a
    function. The weights of the paths are tied: `scale` of each degree of x, y and z, a choice of rank one over the
    paths, not free weights. `degree` is that of the quadrature rule; lmax1 + lmax2 + lmax_out (the default) is exact
    and a lower one is not equivariant. Raises SettingError for an lmax outside 0..12 or a degree without a rule.
    """

    to_grid_1: Tensor
    to_grid_2: Tensor
    from_grid: Tensor

    def __init__(self, lmax1: int, lmax2: int, lmax_out: int, degree: int | None = None) -> None:
        super().__init__()
        for name, lmax in (("lmax1", lmax1), ("lmax2", lmax2), ("lmax_out", lmax_out)):
            require(0 <= lmax <= MAX_DEGREE, name, lmax, f"0 to {MAX_DEGREE}")
        self.lmax1, self.lmax2, self.lmax_out = lmax1, lmax2, lmax_out
        self.degree = lmax1 + lmax2 + lmax_out if degree is None else degree
        to_grid, from_grid = grid_tables(self.degree, max(lmax1, lmax2), lmax_out)
        self.add_table("to_grid_1", to_grid[: (lmax1 + 1) ** 2])
        self.add_table("to_grid_2", to_grid[: (lmax2 + 1) ** 2])
        self.add_table("from_grid", from_grid)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        scale1: Tensor | None = None,
        scale2: Tensor | None = None,
        scale_out: Tensor | None = None,
    ) -> Tensor:
        """x: (..., C, n1), y: (..., C, n2), broadcast against each other. Returns (..., C, n_out).

        scale1, scale2, scale_out: weights per degree, (lmax + 1,) or (C, lmax + 1) with the lmax of x, y and z.
        """
        grid_1 = per_degree(x, scale1) @ self.to_grid_1
        grid_2 = per_degree(y, scale2) @ self.to_grid_2
        return per_degree((grid_1 * grid_2) @ self.from_grid, scale_out)


def per_degree(x: Tensor, scale: Tensor | None) -> Tensor:
    """Multiply each degree of x (..., n) by its entry of scale (..., lmax + 1); None leaves x as it is."""
    if scale is None:
        return x
    lmax = scale.shape[-1] - 1
    return x * scale.index_select(-1, degree_of_each(lmax).to(scale.device))


def gaunt_coefficients(lmax1: int, lmax2: int, lmax_out: int) -> Tensor:
    """(n1, n2, n_out) float64: z_k = sum_ij G_ijk x_i y_j, the slow twin of `GauntProduct`."""
    to_grid, from_grid = grid_tables(lmax1 + lmax2 + lmax_out, max(lmax1, lmax2), lmax_out)
    return torch.einsum("ip,jp,pk->ijk", to_grid[: (lmax1 + 1) ** 2], to_grid[: (lmax2 + 1) ** 2], from_grid)
