"""Any product of rows in blocks of rows, in bounded memory: for the references, which need no speed."""

from collections.abc import Callable

import torch
from torch import Tensor

from equimodels.ops.recomputed import recomputed
from equimodels.ops.tracing import is_traced

BLOCK = 1 << 22  # numbers in one block


def rows_of(x: Tensor, y: Tensor) -> torch.Size:
    """The shape of the rows of x (..., n1) and y (..., n2), broadcast against each other."""
    one, other = x.shape[:-1], y.shape[:-1]
    if one == other:  # torch takes 50 microseconds to find that out, a tenth of a product of 1,000 rows of degree 6
        return one
    return torch.broadcast_shapes(one, other)  # type: ignore[no-untyped-call, no-any-return]


def in_row_blocks(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, row: int) -> Tensor:
    """product(x, y) with x (..., n1), y (..., n2) broadcast, where a row needs `row` numbers of memory meanwhile.

    Many rows are done in blocks, which are computed again for derivatives, instead of kept.
    """
    if is_traced():  # who records operations would record each block
        return product(x, y)
    shape, step = rows_of(x, y), max(1, BLOCK // row)
    if shape.numel() <= step:
        return product(x, y)
    flat = [tensor.expand(*shape, tensor.shape[-1]).reshape(-1, tensor.shape[-1]) for tensor in (x, y)]
    (out,) = recomputed(lambda *block: (product(*block),), flat, step=step)
    return out.view(*shape, out.shape[-1])
