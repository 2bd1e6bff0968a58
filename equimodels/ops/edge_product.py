"""The inner loop of the edge convolution: gather, multiply, sum at the receivers, in blocks that stay in cache.

Shapes: N atoms, E edges, C channels, L filter degrees, P grid points, K numbers that zonal functions are made of.
"""

from typing import Any

import torch
import torch.autograd.forward_ad as forward
from torch import Tensor
from torch.autograd import Function

from equimodels.ops.edge_blocks import edge_blocks, filters_of, from_zonal, zonal_of
from equimodels.ops.edge_product_dual import edge_product_dual
from equimodels.ops.tracing import is_traced


def edge_product(
    x: Tensor, radial: Tensor, zonal: Tensor, sender: Tensor, receiver: Tensor, table: Tensor | None = None
) -> Tensor:
    """out_i = sum over edges j -> i of x_j * (radial @ zonal), pointwise on the grid.

    x: (N, C, P); radial: (E, C, L); zonal: (E, L, P), or (E, K) where that is zonal @ table, with table (K, L P) and no
    derivatives by it; sender, receiver: (E,) int64. Returns (N, C, P). Nothing of the size (E, C, P), or (E, L, P) with
    a table, is ever made whole or kept for the backward passes. Derivatives of any order are right; the first two are
    blocked like the product itself, and so is the product of dual numbers (`torch.autograd.forward_ad`).
    """
    if is_traced():  # who records operations would record each block
        whole = zonal if table is None else zonal_of(zonal, table, x.shape[2])
        return edge_product_plain(x, radial, whole, sender, receiver)
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        to = torch.get_autocast_dtype(kind)
        x, radial, zonal = (each if each.dtype == torch.float64 else each.to(to) for each in (x, radial, zonal))
    table = None if table is None else table.to(zonal.dtype)
    with torch.autocast(kind, enabled=False):  # on the backward passes too, which are in no such context
        (x, x_dot), (radial, radial_dot), (zonal, zonal_dot) = map(forward.unpack_dual, (x, radial, zonal))
        rates = x_dot, radial_dot, zonal_dot
        if any(rate is not None for rate in rates):
            value, rate = edge_product_dual(x, radial, zonal, rates, sender, receiver, table)
            dual: Tensor = forward.make_dual(value, rate)  # type: ignore[no-untyped-call]
            return dual
        out: Tensor = _Product.apply(x, radial, zonal, sender, receiver, table)  # type: ignore[no-untyped-call]
        return out


def edge_product_plain(x: Tensor, radial: Tensor, zonal: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
    """The same in four operations of torch: the slow twin."""
    messages = x.index_select(0, sender) * torch.bmm(radial, zonal)
    return torch.zeros_like(x).index_add(0, receiver, messages)


class _Product(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, radial: Tensor, zonal: Tensor, sender: Tensor, receiver: Tensor, table: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, radial, zonal, sender, receiver, table)
        out = torch.zeros_like(x)
        for block in edge_blocks(len(sender), x[:1].numel(), x.device):
            messages = filters_of(radial[block], zonal_of(zonal[block], table, x.shape[2]))
            messages.mul_(x.index_select(0, sender[block]))
            out.index_add_(0, receiver[block], messages)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, radial, zonal, sender, receiver, table = ctx.saved_tensors
        gradient = gradient.contiguous()
        if not torch.is_grad_enabled():
            found = _gradients(gradient, x, radial, zonal, sender, receiver, table, ctx.needs_input_grad)
            return *found, None, None, None
        # What a receiver feels flows back to its senders: the same product with the edges turned round.
        to_x = _Product.apply(gradient, radial, zonal, receiver, sender, table) if ctx.needs_input_grad[0] else None  # type: ignore[no-untyped-call]
        to_radial, to_zonal = _FilterGradient.apply(x, gradient, radial, zonal, sender, receiver, table)  # type: ignore[no-untyped-call]
        return to_x, to_radial, to_zonal, None, None, None


def _gradients(
    y: Tensor,
    x: Tensor,
    radial: Tensor,
    zonal: Tensor,
    sender: Tensor,
    receiver: Tensor,
    table: Tensor | None,
    wanted: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """What `_Product.backward` makes of two operations that autograd can follow, in one: edges are gathered once."""
    to_x = torch.zeros_like(x) if wanted[0] else None
    to_radial = torch.empty_like(radial) if wanted[1] else None
    to_zonal = torch.empty_like(zonal) if wanted[2] else None
    for block in edge_blocks(len(sender), x[:1].numel(), x.device):
        there, here = sender[block], zonal_of(zonal[block], table, x.shape[2])
        felt = y.index_select(0, receiver[block])
        if to_x is not None:
            to_x.index_add_(0, there, filters_of(radial[block], here).mul_(felt))
        if to_radial is None and to_zonal is None:
            continue
        felt.mul_(x.index_select(0, there))
        if to_radial is not None:
            torch.bmm(felt, here.mT, out=to_radial[block])
        if to_zonal is not None:
            to_zonal[block] = from_zonal(torch.bmm(radial[block].mT, felt), table)
    return to_x, to_radial, to_zonal


class _FilterGradient(Function):
    """With q = x_j * y_i on every edge: (q zonal^T, radial^T q), the gradients of <y, product> by radial and zonal."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        radial: Tensor,
        zonal: Tensor,
        sender: Tensor,
        receiver: Tensor,
        table: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, y, radial, zonal, sender, receiver, table)
        to_radial, to_zonal = torch.empty_like(radial), torch.empty_like(zonal)
        for block in edge_blocks(len(sender), x[:1].numel(), x.device):
            both = x.index_select(0, sender[block]).mul_(y.index_select(0, receiver[block]))
            to_radial[block] = torch.bmm(both, zonal_of(zonal[block], table, x.shape[2]).mT)
            to_zonal[block] = from_zonal(torch.bmm(radial[block].mT, both), table)
        return to_radial, to_zonal

    @staticmethod
    def backward(ctx: Any, by_radial: Tensor, by_zonal: Tensor) -> Any:
        x, y, radial, zonal, sender, receiver, table = ctx.saved_tensors
        points = x.shape[2]
        if torch.is_grad_enabled():  # a third derivative is wanted: every step must be one autograd can follow
            whole = zonal_of(by_zonal, table, points), x, y, radial, zonal_of(zonal, table, points)
            *back, to_zonal = _second_plain(by_radial, *whole, sender, receiver)
            return *back, from_zonal(to_zonal, table), None, None, None
        to_x, to_y = torch.zeros_like(x), torch.zeros_like(y)
        to_radial, to_zonal = torch.empty_like(radial), torch.empty_like(zonal)
        for block in edge_blocks(len(sender), x[:1].numel(), x.device):
            at_sender, at_receiver = x.index_select(0, sender[block]), y.index_select(0, receiver[block])
            here, by_here = (zonal_of(each[block], table, points) for each in (zonal, by_zonal))
            to_both = torch.baddbmm(torch.bmm(by_radial[block], here), radial[block], by_here)
            both = at_sender * at_receiver
            to_radial[block] = torch.bmm(both, by_here.mT)
            to_zonal[block] = from_zonal(torch.bmm(by_radial[block].mT, both), table)
            to_x.index_add_(0, sender[block], at_receiver.mul_(to_both))
            to_y.index_add_(0, receiver[block], at_sender.mul_(to_both))
        return to_x, to_y, to_radial, to_zonal, None, None, None


def _second_plain(
    by_radial: Tensor,
    by_zonal: Tensor,
    x: Tensor,
    y: Tensor,
    radial: Tensor,
    zonal: Tensor,
    sender: Tensor,
    receiver: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `_FilterGradient` in plain operations."""
    at_sender, at_receiver = x.index_select(0, sender), y.index_select(0, receiver)
    both = at_sender * at_receiver
    to_both = torch.bmm(by_radial, zonal) + torch.bmm(radial, by_zonal)
    to_x = torch.zeros_like(x).index_add(0, sender, at_receiver * to_both)
    to_y = torch.zeros_like(y).index_add(0, receiver, at_sender * to_both)
    return to_x, to_y, torch.bmm(both, by_zonal.mT), torch.bmm(by_radial.mT, both)
