"""Edge convolution: the Gaunt product of sender features with a filter on each edge, summed at the receivers.

Shapes: N atoms, E edges, C channels, n_i = (lmax_i + 1)^2, P grid points.
"""

import torch
from torch import Tensor

from equimodels.errors import require
from equimodels.ops.edge_blocks import zonal_of
from equimodels.ops.edge_product import edge_product
from equimodels.ops.exact import ExactTables
from equimodels.ops.gaunt_grid import grid_tables
from equimodels.ops.spherical_harmonics import MAX_DEGREE, degree_of_each
from equimodels.ops.tracing import is_traced

# Numbers of zonal functions that are made whole and kept, 16 MB of float32; of more edges they are made in each block.
WHOLE = 1 << 22


class GauntConvolution(ExactTables):
    """out_i = sum over edges j -> i of x_j * (sum_l radial_l Y_l(edge)), as functions on the sphere.

    The transform to the grid happens before the gather and the one back after the sum, both per atom instead of per
    edge (a factor of E/N fewer), unless there are fewer edges than atoms. On the grid the filter is sum_l radial_l Z_l,
    with Z_l(p) = Y_l(edge) . Y_l(p) the zonal function of the edge, the same for all channels. `degree` as for
    `GauntProduct`.
    """

    to_grid: Tensor
    from_grid: Tensor
    zonal: Tensor

    def __init__(self, lmax_in: int, lmax_filter: int, lmax_out: int, degree: int | None = None) -> None:
        super().__init__()
        for name, lmax in (("lmax_in", lmax_in), ("lmax_filter", lmax_filter), ("lmax_out", lmax_out)):
            require(0 <= lmax <= MAX_DEGREE, name, lmax, f"0 to {MAX_DEGREE}")
        self.lmax_in, self.lmax_filter, self.lmax_out = lmax_in, lmax_filter, lmax_out
        self.degree = lmax_in + lmax_filter + lmax_out if degree is None else degree
        to_grid, from_grid = grid_tables(self.degree, max(lmax_in, lmax_filter), lmax_out)
        width = (lmax_filter + 1) ** 2
        # The product with a constant needs no grid: its points are the coefficients themselves, where a constant is 1.
        self.constant = lmax_in == 0 and lmax_filter == lmax_out
        if self.constant:
            to_grid, from_grid = torch.eye(width, dtype=torch.float64), torch.eye(width, dtype=torch.float64)
            self.add_table("to_grid", torch.ones(1, width, dtype=torch.float64))
        else:
            self.add_table("to_grid", to_grid[: (lmax_in + 1) ** 2].contiguous())
        self.add_table("from_grid", from_grid)
        # One matrix from the harmonics of an edge to the zonal functions of all its degrees.
        mask = degree_of_each(lmax_filter)[:, None] == torch.arange(lmax_filter + 1)[None, :]
        self.add_table("zonal", (mask[:, :, None] * to_grid[:width, None, :]).reshape(width, -1).contiguous())

    def forward(self, features: Tensor, radial: Tensor, harmonics: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        """features: (N, C, n_in); radial: (E, C, lmax_filter + 1); harmonics: (E, n_filter), component-normalized.

        sender, receiver: (E,) int64. Returns (N, C, n_out); an atom without edges gets zeros.
        """
        atoms, traced = features.shape[0], is_traced()
        each = None if traced or sender.shape[0] >= atoms else torch.arange(sender.shape[0], device=sender.device)
        if each is not None:  # fewer edges than atoms: the transforms are done for each edge
            features = features.index_select(0, sender)
        x, points = features @ self.to_grid, self.from_grid.shape[0]
        ends = (sender, receiver) if each is None else (each, each)
        if traced or harmonics.shape[0] * self.zonal.shape[1] <= WHOLE:
            total = edge_product(x, radial, zonal_of(harmonics, self.zonal, points), *ends)
        else:
            total = edge_product(x, radial, harmonics, *ends, self.zonal)
        out = total if self.constant else total @ self.from_grid
        return out if each is None else out.new_zeros(atoms, *out.shape[1:]).index_add(0, receiver, out)
