"""Any product of rows in blocks of rows, in bounded memory: for the references, which need no speed."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK = 1 << 22  # numbers in one block


def rows_of(x: Tensor, y: Tensor) -> torch.Size:
    """The shape of the rows of x (..., n1) and y (..., n2), broadcast against each other."""
    return torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])  # type: ignore[no-untyped-call, no-any-return]


def in_row_blocks(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, row: int) -> Tensor:
    """product(x, y) with x (..., n1), y (..., n2) broadcast, where a row needs `row` numbers of memory meanwhile.

    Blocks are computed again on the backward passes, instead of kept.
    """
    step = max(1, BLOCK // row)
    if torch.compiler.is_compiling() or rows_of(x, y).numel() <= step:
        return product(x, y)
    shape = rows_of(x, y)
    x, y = (tensor.expand(*shape, tensor.shape[-1]).reshape(-1, tensor.shape[-1]) for tensor in (x, y))
    parts = [
        checkpoint(product, *block, use_reentrant=False)
        for block in zip(torch.split(x, step), torch.split(y, step), strict=True)
    ]
    return torch.cat(parts).view(*shape, -1)
