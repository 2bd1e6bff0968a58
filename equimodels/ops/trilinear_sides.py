"""The operands of a trilinear form: between coefficients and values on the grid.

Shapes: `...` any, n coefficients, P grid points, K components on the grid: one of a function, two of a tangent field.
`space` is memory to write into, of the sizes `space()`, where no derivatives are recorded: one block after the other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from equimodels.ops.exact import ExactTables

Space = list[Tensor]
LOW = (torch.bfloat16, torch.float16)


class Side(ExactTables):
    """One operand: from its coefficients to its components on the grid, and the transpose of that."""

    table: Tensor

    def __init__(self, tables: Tensor) -> None:
        """tables: (K, n, P) float64."""
        super().__init__()
        self.components, self.width, self.points = tables.shape
        self.add_table("table", tables.permute(1, 0, 2).flatten(1).contiguous())

    def space(self, rows: int) -> list[tuple[int, int]]:
        """Sizes of the memory that the components of so many rows need."""
        return [(rows, self.components * self.points)]

    def to_grid(self, x: Tensor, space: Space | None = None) -> list[Tensor]:
        """x: (..., n). Returns K components (..., P)."""
        values = _multiply(x, self.table, _at(space, 0))
        return list(values.chunk(self.components, dim=-1))

    def views(self, shape: Sequence[int], space: Space) -> list[Tensor]:
        """The K components (*shape, P) as they lie in `space`."""
        return list(_part(space[0], shape).chunk(self.components, dim=-1))

    def from_grid(self, values: Sequence[Tensor], space: Space | None = None, into: Tensor | None = None) -> Tensor:
        """K components (..., P), which lie in `space` if that is given. Returns (..., n), in `into` if that is."""
        return _multiply(_joined(values, _at(space, 0)), self.table.mT, into)


class FoldedSide(ExactTables):
    """An operand on half of a grid that inversion maps to itself: the even degrees are components, and the odd ones.

    Component k of the even degrees comes first for every k, then those of the odd degrees: 2 K in all.
    """

    even: Tensor
    odd: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, tables: Tensor, is_even: Tensor) -> None:
        """tables: (K, n, P) float64 on the half grid; is_even: (n,) whether the degree of a coefficient is even."""
        super().__init__()
        self.single, self.width, self.points = tables.shape
        self.components, self.evens = 2 * self.single, int(is_even.sum())
        order = torch.cat([is_even.nonzero().squeeze(1), (~is_even).nonzero().squeeze(1)])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        by_degree = tables[:, order].permute(1, 0, 2).flatten(1)
        self.add_table("even", by_degree[: self.evens].contiguous())
        self.add_table("odd", by_degree[self.evens :].contiguous())

    def space(self, rows: int) -> list[tuple[int, int]]:
        """Sizes of the memory that the components of so many rows need."""
        return [(rows, self.single * self.points)] * 2

    def to_grid(self, x: Tensor, space: Space | None = None) -> list[Tensor]:
        """x: (..., n). Returns 2 K components (..., P)."""
        if x.shape[-1] != self.width:  # the gather would leave what is too much
            raise RuntimeError(f"{x.shape[-1]} coefficients where {self.width} are due")
        # As a matrix: of three dimensions torch gathers four times as slowly.
        x = (
            x.flatten(0, -2).index_select(1, self.order).view(x.shape)
            if x.dim() > 2
            else x.index_select(-1, self.order)
        )
        even = _multiply(x[..., : self.evens], self.even, _at(space, 0))
        odd = _multiply(x[..., self.evens :], self.odd, _at(space, 1))
        return [*even.chunk(self.single, dim=-1), *odd.chunk(self.single, dim=-1)]

    def views(self, shape: Sequence[int], space: Space) -> list[Tensor]:
        """The 2 K components (*shape, P) as they lie in `space`."""
        return [view for half in space for view in _part(half, shape).chunk(self.single, dim=-1)]

    def from_grid(self, values: Sequence[Tensor], space: Space | None = None, into: Tensor | None = None) -> Tensor:
        """2 K components (..., P), as of `Side`. Returns (..., n), in `into` (rows, n) if that is given."""
        even = _multiply(_joined(values[: self.single], _at(space, 0)), self.even.mT)
        odd = _multiply(_joined(values[self.single :], _at(space, 1)), self.odd.mT)
        sorted_ = torch.cat([even, odd], dim=-1)
        if into is None:
            return sorted_.index_select(-1, self.back)
        return torch.index_select(sorted_.flatten(0, -2), -1, self.back, out=into).view(sorted_.shape)


def _multiply(x: Tensor, table: Tensor, into: Tensor | None = None) -> Tensor:
    """x (..., a) @ table (a, b), written to the first rows of `into` if that is given."""
    if x.dtype in LOW:
        table = table.to(x.dtype)  # as autocast would have it
    if into is None:
        return x @ table
    rows = x.flatten(0, -2)
    return torch.mm(rows, table, out=into[: len(rows)]).view(*x.shape[:-1], into.shape[1])


def _at(space: Space | None, index: int) -> Tensor | None:
    return None if space is None else space[index]


def _part(whole: Tensor, shape: Sequence[int]) -> Tensor:
    """The first rows of `whole`, as many as the shape has, in that shape."""
    return whole[: torch.Size(shape).numel()].view(*shape, whole.shape[1])


def _joined(values: Sequence[Tensor], space: Tensor | None) -> Tensor:
    if len(values) == 1:
        return values[0]
    if space is not None:  # they lie side by side already
        return _part(space, values[0].shape[:-1])
    return torch.cat(list(values), dim=-1)
