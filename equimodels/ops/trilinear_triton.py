"""A trilinear form in one kernel on a GPU: to the grid, the product, and back, without the grid in memory.

Bytes moved are those of the operands and the result alone, 6 to 7 times fewer than with three matrix products. Shapes:
R rows, n_i coefficients of operand i, P grid points, K terms.
"""

from collections.abc import MutableMapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from equimodels.ops.trilinear import OTHERS, Trilinear
from equimodels.ops.trilinear_sides import Side

LEAST = 16  # rows and columns of a matrix that tensor cores multiply
POINTS = 16  # the grid is padded to a multiple of the largest block of points
LARGEST_BLOCK = 64
# By the table of a side, of which another device or dtype has another; then by the component for each term.
_MADE: MutableMapping[Tensor, dict[tuple[int, ...], Tensor]] = WeakTensorKeyDictionary()
_CONFIGURATIONS = [
    triton.Config({"ROWS": rows, "POINTS": points}, num_warps=warps)
    for rows in (32, 64, 128)
    for points in (16, 32, LARGEST_BLOCK)
    for warps in (4, 8)
]


def fits(form: Trilinear, *operands: Tensor) -> bool:
    """Whether the kernel can do it: an unfolded form, float32, at most 128 coefficients an operand."""
    sides = [isinstance(side, Side) and side.width <= 128 for side in form.sides]
    return all(sides) and all(operand.dtype == torch.float32 for operand in operands)


def leave_open(form: Trilinear, role: int, first: Tensor, second: Tensor) -> Tensor:
    """The open operand (R, n) from the two others, (R, n_1) and (R, n_2), contiguous, in their order; float32."""
    i, j = OTHERS[role]
    tables = [_per_term(form, which) for which in (i, j, role)]
    rows, width = len(first), form.sides[role].width
    out = first.new_empty(rows, width)
    if rows == 0:
        return out

    def grid(choice: dict[str, Any]) -> tuple[int]:
        return (triton.cdiv(rows, choice["ROWS"]),)

    kernel = _tuned if first.is_cuda else _kernel  # the interpreter has no clock to tune by
    chosen = {} if first.is_cuda else {"ROWS": 32, "POINTS": POINTS}
    kernel[grid](
        first,
        second,
        *tables,
        out,
        rows,
        first.shape[1],
        second.shape[1],
        width,
        tables[0].shape[2],
        len(form.terms),
        N1=_padded(first.shape[1]),
        N2=_padded(second.shape[1]),
        N3=_padded(width),
        PRECISION="tf32x3" if first.is_cuda else "ieee",
        **chosen,
    )
    return out


def _per_term(form: Trilinear, which: int) -> Tensor:
    """(K, n, P padded) of one operand: its table for each term. Made once: making it takes longer than the kernel."""
    side: Any = form.sides[which]
    made = _MADE.setdefault(side.table, {})
    terms = tuple(term[which] for term in form.terms)
    if terms not in made:
        whole = side.table.view(side.width, side.components, side.points).permute(1, 0, 2)
        missing = -side.points % LARGEST_BLOCK  # zeros, which add nothing
        made[terms] = torch.nn.functional.pad(whole[list(terms)], (0, missing)).contiguous()
    return made[terms]


def _padded(width: int) -> int:
    power: int = triton.next_power_of_2(width)
    return max(LEAST, power)


@triton.jit
def _kernel(
    first, second, table_1, table_2, table_3, out,
    rows, n1, n2, n3, points, terms,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    one, two, three, point = tl.arange(0, N1), tl.arange(0, N2), tl.arange(0, N3), tl.arange(0, POINTS)
    inside = row[:, None] < rows
    at = row[:, None].to(tl.int64)
    x = tl.load(first + at * n1 + one[None, :], mask=inside & (one[None, :] < n1), other=0.0)
    y = tl.load(second + at * n2 + two[None, :], mask=inside & (two[None, :] < n2), other=0.0)
    total = tl.zeros((ROWS, N3), dtype=tl.float32)
    for term in range(terms):
        for start in range(0, points, POINTS):
            place = start + point[None, :]
            a = tl.load(table_1 + (term * n1 + one[:, None]) * points + place, mask=one[:, None] < n1, other=0.0)
            b = tl.load(table_2 + (term * n2 + two[:, None]) * points + place, mask=two[:, None] < n2, other=0.0)
            grid = tl.dot(x, a, input_precision=PRECISION) * tl.dot(y, b, input_precision=PRECISION)
            back = start + point[:, None]
            c = tl.load(table_3 + (term * n3 + three[None, :]) * points + back, mask=three[None, :] < n3, other=0.0)
            total += tl.dot(grid, c, input_precision=PRECISION)
    tl.store(out + at * n3 + three[None, :], total, mask=inside & (three[None, :] < n3))


_tuned = triton.autotune(configs=_CONFIGURATIONS, key=["n1", "n2", "n3", "points", "terms"])(_kernel)
