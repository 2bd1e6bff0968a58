"""The Gaunt product by contraction with its table: the definition, and for the smallest degrees a way to compute it.

Shapes: `...` any, n_i = (lmax_i + 1)^2 coefficients.
"""

import torch
from torch import Tensor

from equimodels.ops.exact import ExactTables
from equimodels.ops.gaunt_grid import grid_tables
from equimodels.ops.row_blocks import in_row_blocks


def gaunt_coefficients(lmax1: int, lmax2: int, lmax_out: int) -> Tensor:
    """(n1, n2, n_out) float64: z_k = sum_ij G_ijk x_i y_j, the slow twin of `GauntProduct`."""
    to_grid, from_grid = grid_tables(lmax1 + lmax2 + lmax_out, max(lmax1, lmax2), lmax_out)
    return torch.einsum("ip,jp,pk->ijk", to_grid[: (lmax1 + 1) ** 2], to_grid[: (lmax2 + 1) ** 2], from_grid)


class DenseProduct(ExactTables):
    """z_k = sum_ij G_ijk x_i y_j for a given table G, in O(n1 n2 n_out) a row."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        """table: (n1, n2, n_out) float64."""
        super().__init__()
        self.add_table("table", table.flatten(0, 1).contiguous())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x: (..., n1), y: (..., n2), broadcast against each other. Returns (..., n_out)."""
        return in_row_blocks(self.contract, x, y, len(self.table))

    def contract(self, x: Tensor, y: Tensor) -> Tensor:
        """The same, all rows at once."""
        return (x[..., :, None] * y[..., None, :]).flatten(-2) @ self.table
