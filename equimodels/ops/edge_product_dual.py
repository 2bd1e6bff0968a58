"""The edge product and its rate of change along one direction, in blocks that stay in cache.

Shapes as in `edge_product`: N atoms, E edges, C channels, L filter degrees, P grid points. A dot marks the rate.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from equimodels.ops.edge_blocks import edge_blocks, from_zonal, zonal_of

Rate = Tensor | None  # None: it does not change


def edge_product_dual(
    x: Tensor,
    radial: Tensor,
    zonal: Tensor,
    rates: tuple[Rate, Rate, Rate],
    sender: Tensor,
    receiver: Tensor,
    table: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`edge_product` of (x, radial, zonal), and how fast it changes when they change at these rates. Both (N, C, P).

    Both have first derivatives by all six. Nothing of the size (E, C, P) is ever made whole or kept.
    """
    x_dot, radial_dot, zonal_dot = rates
    # The filter changes in most uses, and one term more costs little where it does not.
    radial_dot = torch.zeros_like(radial) if radial_dot is None else radial_dot
    zonal_dot = torch.zeros_like(zonal) if zonal_dot is None else zonal_dot
    out: tuple[Tensor, Tensor] = _Dual.apply(x, radial, zonal, x_dot, radial_dot, zonal_dot, sender, receiver, table)  # type: ignore[no-untyped-call]
    return out


class _Dual(Function):
    """With the filter f = radial zonal: out = sum x_j f and out_dot = sum x_dot_j f + x_j f_dot."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        radial: Tensor,
        zonal: Tensor,
        x_dot: Rate,
        radial_dot: Tensor,
        zonal_dot: Tensor,
        sender: Tensor,
        receiver: Tensor,
        table: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, radial, zonal, x_dot, radial_dot, zonal_dot, sender, receiver, table)
        out, out_dot = torch.zeros_like(x), torch.zeros_like(x)
        for block in edge_blocks(len(sender), x[:1].numel(), x.device):
            here = receiver[block]
            functions, functions_dot = (zonal_of(each[block], table, x.shape[2]) for each in (zonal, zonal_dot))
            filters = torch.bmm(radial[block], functions)
            at_sender = x.index_select(0, sender[block])
            messages_dot = _rate(radial[block], functions, radial_dot[block], functions_dot).mul_(at_sender)
            if x_dot is not None:
                messages_dot.addcmul_(filters, x_dot.index_select(0, sender[block]))
            out_dot.index_add_(0, here, messages_dot)
            out.index_add_(0, here, at_sender.mul_(filters))
        return out, out_dot

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y: Tensor, y_dot: Tensor) -> Any:
        x, radial, zonal, x_dot, radial_dot, zonal_dot, sender, receiver, table = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        y, y_dot = y.contiguous(), y_dot.contiguous()
        to_x, to_x_dot = (torch.zeros_like(x) if want else None for want in (wanted[0], wanted[3]))
        to_radial, to_radial_dot = (torch.empty_like(radial) if wanted[k] else None for k in (1, 4))
        to_zonal, to_zonal_dot = (torch.empty_like(zonal) if wanted[k] else None for k in (2, 5))
        for block in edge_blocks(len(sender), x[:1].numel(), x.device):
            there = sender[block]
            functions, functions_dot = (zonal_of(each[block], table, x.shape[2]) for each in (zonal, zonal_dot))
            felt, felt_dot = y.index_select(0, receiver[block]), y_dot.index_select(0, receiver[block])
            if to_x is not None or to_x_dot is not None:
                filters = torch.bmm(radial[block], functions)
                if to_x is not None:
                    through = _rate(radial[block], functions, radial_dot[block], functions_dot).mul_(felt_dot)
                    to_x.index_add_(0, there, through.addcmul_(filters, felt))
                if to_x_dot is not None:
                    to_x_dot.index_add_(0, there, filters.mul_(felt_dot))
            at_sender = x.index_select(0, there)
            to_filter = felt.mul_(at_sender)
            if x_dot is not None:
                to_filter.addcmul_(felt_dot, x_dot.index_select(0, there))
            to_filter_dot = felt_dot.mul_(at_sender)
            if to_radial is not None:
                torch.bmm(to_filter, functions.mT, out=to_radial[block])
                to_radial[block].baddbmm_(to_filter_dot, functions_dot.mT)
            if to_radial_dot is not None:
                torch.bmm(to_filter_dot, functions.mT, out=to_radial_dot[block])
            if to_zonal is not None:
                to_here = torch.bmm(radial[block].mT, to_filter).baddbmm_(radial_dot[block].mT, to_filter_dot)
                to_zonal[block] = from_zonal(to_here, table)
            if to_zonal_dot is not None:
                to_zonal_dot[block] = from_zonal(torch.bmm(radial[block].mT, to_filter_dot), table)
        return to_x, to_radial, to_zonal, to_x_dot, to_radial_dot, to_zonal_dot, None, None, None


def _rate(radial: Tensor, zonal: Tensor, radial_dot: Tensor, zonal_dot: Tensor) -> Tensor:
    """How fast the filters of these edges change."""
    return torch.bmm(radial_dot, zonal).baddbmm_(radial, zonal_dot)
