"""Many-body products: a polynomial of a function on the sphere, evaluated on the grid.

Shapes: N atoms, C channels, n_i = (lmax_i + 1)^2, P grid points.
"""

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from equimodels.errors import require
from equimodels.ops.edge_blocks import edges_of_block
from equimodels.ops.exact import ExactTables
from equimodels.ops.gaunt_grid import grid_tables
from equimodels.ops.gaunt_power_blocks import power_in_blocks
from equimodels.ops.gaunt_power_dual import gaunt_power_dual
from equimodels.ops.spherical_harmonics import MAX_DEGREE
from equimodels.ops.tracing import is_traced

# Blocks of rows up to which the grid is made whole, and kept for the backward passes. Time whole over time in blocks at
# degree 2 and order 3, one thread of a busy machine, forward and backward: 0.87 with 2 blocks, 1.08 with 4, 1.23 with
# 48; with second derivatives 0.87, 0.96, 1.28.
WHOLE = 4


class GauntPower(ExactTables):
    """sum_k w_k f^k for k = 1..order, as a function on the sphere, cut off at degree `lmax_out`.

    f is x / sqrt(n_in), which has unit variance on the grid when the coefficients have. All orders share one transform
    back. The exact quadrature degree, the default, is order * lmax_in + lmax_out. Any number of rows needs bounded
    memory beside operands and result, in derivatives of every order.
    Raises SettingError for an lmax outside 0..12, an order below 1 or a degree without a rule.
    """

    to_grid: Tensor
    from_grid: Tensor

    def __init__(self, lmax_in: int, lmax_out: int, order: int, degree: int | None = None) -> None:
        super().__init__()
        for name, lmax in (("lmax_in", lmax_in), ("lmax_out", lmax_out)):
            require(0 <= lmax <= MAX_DEGREE, name, lmax, f"0 to {MAX_DEGREE}")
        require(order >= 1, "order", order, "at least 1")
        self.lmax_in, self.lmax_out, self.order = lmax_in, lmax_out, order
        self.degree = order * lmax_in + lmax_out if degree is None else degree
        to_grid, from_grid = grid_tables(self.degree, lmax_in, lmax_out)
        self.add_table("to_grid", to_grid / (lmax_in + 1))
        self.add_table("from_grid", from_grid)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x: (N, C, n_in); weights: (N, C, order), or (C, order), of f, f^2, ... Returns (N, C, n_out)."""
        if is_traced():  # who records operations would record each block
            return self.plain(x, weights)
        (value, rate), (_, changing) = map(forward_ad.unpack_dual, (x, weights))
        if rate is not None and changing is None:
            each = weights.expand(len(x), -1, -1)
            both = gaunt_power_dual(value, each, rate, self.to_grid, self.from_grid)
            dual: Tensor = forward_ad.make_dual(*both)  # type: ignore[no-untyped-call]
            return dual
        if x.shape[:-1].numel() <= WHOLE * edges_of_block(self.to_grid.shape[1], x.device):
            return self.plain(x, weights)
        return power_in_blocks(x, weights, self.to_grid, self.from_grid)

    def plain(self, x: Tensor, weights: Tensor) -> Tensor:
        """The same with everything on the grid at once, where autograd keeps it: the slow twin for many rows."""
        grid = x @ self.to_grid
        total = weights[..., -1:]
        for k in reversed(range(self.order - 1)):  # Horner
            total = torch.addcmul(weights[..., k : k + 1], total, grid)
        return (total * grid) @ self.from_grid
