"""A polynomial of a function on the sphere and its rate of change along one direction, in blocks that stay in cache.

Shapes as in `gaunt_power`: N atoms, C channels, n_i coefficients, P grid points. A dot marks the rate.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from equimodels.ops.edge_blocks import edge_blocks


def gaunt_power_dual(
    x: Tensor, weights: Tensor, x_dot: Tensor, to_grid: Tensor, from_grid: Tensor
) -> tuple[Tensor, Tensor]:
    """p(x) = sum_k w_k x^k, the powers taken on the grid, and p'(x) x_dot. Both (N, C, n_out).

    x, x_dot: (N, C, n_in); weights: (N, C, order). Both results have first derivatives by these three. Nothing on the
    grid is kept: the backward pass computes it again, a few atoms at a time.
    """
    kind, precise = x.dtype, torch.promote_types(x.dtype, weights.dtype)
    with torch.autocast(x.device.type, enabled=False):  # powers are pointwise, and so are those that torch would take
        given = (tensor.to(precise) for tensor in (x, weights, x_dot, to_grid, from_grid))
        value, rate = _Dual.apply(*given)  # type: ignore[no-untyped-call]
        return value.to(kind), rate.to(kind)


class _Dual(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, x_dot: Tensor, to_grid: Tensor, from_grid: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weights, x_dot, to_grid, from_grid)
        out, out_dot = (x.new_empty(*x.shape[:2], from_grid.shape[1]) for _ in range(2))
        for block in _atoms(x, to_grid):
            grid, grid_dot = x[block] @ to_grid, x_dot[block] @ to_grid
            value, slope, _ = _polynomial(grid, weights[block], curved=False)
            torch.matmul(value, from_grid, out=out[block])
            torch.matmul(slope.mul_(grid_dot), from_grid, out=out_dot[block])
        return out, out_dot

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y: Tensor, y_dot: Tensor) -> Any:
        x, weights, x_dot, to_grid, from_grid = ctx.saved_tensors
        to_x, to_weights, to_x_dot = torch.empty_like(x), torch.empty_like(weights), torch.empty_like(x_dot)
        for block in _atoms(x, to_grid):
            grid, grid_dot = x[block] @ to_grid, x_dot[block] @ to_grid
            felt, felt_dot = y[block] @ from_grid.mT, y_dot[block] @ from_grid.mT
            _, slope, curve = _polynomial(grid, weights[block], curved=True)
            torch.matmul(slope * felt_dot, to_grid.mT, out=to_x_dot[block])
            felt_dot.mul_(grid_dot)
            torch.matmul(slope.mul_(felt).addcmul_(curve, felt_dot), to_grid.mT, out=to_x[block])
            # By w_k: the mean over the grid of y g^k + y_dot k g^(k-1) g_dot.
            felt.mul_(grid)
            for k in range(weights.shape[2]):
                if k:
                    felt.mul_(grid)
                    felt_dot.mul_(grid)
                to_weights[block, :, k] = felt.sum(2).add_(felt_dot.sum(2), alpha=k + 1)
        return to_x, to_weights, to_x_dot, None, None


def _atoms(x: Tensor, to_grid: Tensor) -> Any:
    return edge_blocks(len(x), x.shape[1] * to_grid.shape[1], x.device)


def _polynomial(grid: Tensor, weights: Tensor, *, curved: bool) -> tuple[Tensor, Tensor, Tensor]:
    """sum_k w_k g^k for k = 1.., its first derivative and, if `curved`, its second, by Horner's rule. All (., C, P)."""
    highest = weights[..., -1:].expand_as(grid)
    value, slope, curve = highest.clone(), torch.zeros_like(grid), torch.zeros_like(grid)
    for k in reversed(range(weights.shape[2])):
        if curved:
            curve.mul_(grid).add_(slope, alpha=2)
        slope.mul_(grid).add_(value)
        value.mul_(grid)
        if k:
            value.add_(weights[..., k - 1 : k])
    return value, slope, curve
