"""Products of functions on the sphere as trilinear forms: the product and each of its gradients are one operation.

A form is T(x, y, z) = sum over grid points p and terms (a, b, c) of X_a(p) Y_b(p) Z_c(p), where X_a are the components
of x on the grid, and so on. Leaving the third operand open gives the product of x and y; leaving the first open gives
the gradient by x of <product, z>. So derivatives of any order are the same operation with other operands open.
Shapes: `...` any, C channels, P grid points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equimodels.ops.row_blocks import rows_of
from equimodels.ops.trilinear_sides import FoldedSide, Side, Space

Term = tuple[int, int, int]
OTHERS = ((1, 2), (0, 2), (0, 1))  # the operands that are given when this one is open


class Trilinear(nn.Module):
    """The form T of three sides and its terms. Every component of every side is in at least one term."""

    def __init__(self, sides: Sequence[Side | FoldedSide], terms: Sequence[Term]) -> None:
        super().__init__()
        self.x, self.y, self.z = sides
        self.terms = tuple(terms)
        # Numbers a row has on the grid, of all operands: what decides how many rows fit into a block.
        self.row = sum(side.components * side.points for side in sides)

    @property
    def sides(self) -> tuple[Side | FoldedSide, ...]:
        """x, y and z."""
        return self.x, self.y, self.z

    def leave_open(
        self,
        open_one: int,
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        *,
        channels: int = 0,
        space: Space | None = None,
        into: Tensor | None = None,
    ) -> Tensor:
        """The coefficients of the open operand from the components (..., C, P) of the other two, in their order.

        channels: 1 sums over the channels, on the grid, where that is cheapest; else they are kept. into: memory for
        the result, a row for each (rows, n).
        """
        side = self.sides[open_one]
        i, j = OTHERS[open_one]
        places: list[Tensor] | None = None
        if space is not None:
            places = side.views(rows_of(first[0], second[0]), space)
        values: list[Tensor | None] = [None] * side.components
        for term in self.terms:
            c, a, b = term[open_one], first[term[i]], second[term[j]]
            value = values[c]
            if value is not None:
                value.addcmul_(a, b)
            else:
                values[c] = a * b if places is None else torch.mul(a, b, out=places[c])
        found = [value for value in values if value is not None]
        if channels == 1 and found[0].shape[-2] > 1:
            return side.from_grid([value.sum(dim=-2, keepdim=True) for value in found], into=into)
        return side.from_grid(found, space, into)

    def plain(self, x: Tensor, y: Tensor) -> Tensor:
        """The product, with everything on the grid at once; autograd keeps it there. The slow twin for many rows."""
        return self.leave_open(2, self.x.to_grid(x), self.y.to_grid(y))
