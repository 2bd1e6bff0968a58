"""A polynomial of a function on the sphere and its derivatives of every order, in blocks of rows.

Shapes: R rows, n_i coefficients, K powers, P grid points. On the grid g = x A, u = y B^T and h_i = d_i A, and the forms

    T(x, w, y, d_1 ... d_m) = sum over points of u p_w^(m)(g) h_1 ... h_m,    p_w(g) = sum_k w_k g^k

are closed under derivatives: T is linear in w, y and each d_i, so its gradient by one of them is T with that operand
left open; by x it is T with one direction more, left open. The polynomial itself is T with m = 0 and y left open.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from equimodels.ops.edge_blocks import edge_blocks

Kinds = tuple[str, ...]  # of the operands: "x" for x and directions, "w" or "y"
Tables = tuple[Tensor, Tensor]  # A (n_in, P) and B (P, n_out)
X, W, Y = 0, 1, 2  # where the operands of the polynomial stand; directions and what takes the place of one follow


@dataclass(frozen=True)
class Term:
    """One T: the places of its w, its y and its directions among the operands."""

    w: int = W
    y: int = Y
    directions: tuple[int, ...] = ()


def power_in_blocks(x: Tensor, weights: Tensor, to_grid: Tensor, from_grid: Tensor) -> Tensor:
    """sum_k w_k x^k for k = 1..K, the powers taken on the grid. Returns (..., n_out).

    x: (..., n_in); weights: (..., K), broadcast to the rows of x; to_grid: (n_in, P); from_grid: (P, n_out). Nothing of
    the size of the grid is made whole or kept: derivatives of every order compute it again, a few rows at a time.
    """
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        x = x.to(torch.get_autocast_dtype(x.device.type))
    shape = x.shape[:-1]
    each = weights.expand(*shape, weights.shape[-1]).reshape(-1, weights.shape[-1])
    tables = to_grid.to(x.dtype), from_grid.to(x.dtype)
    (out,) = _Gradient.apply((Term(),), ("x", "w", "y"), (Y,), tables, x.reshape(-1, x.shape[-1]), each, None)  # type: ignore[no-untyped-call]
    whole: Tensor = out.view(*shape, out.shape[-1])
    return whole


class _Gradient(Function):
    """The gradients of a sum of terms by the wanted operands. An operand that is never given is None."""

    @staticmethod
    def forward(
        terms: tuple[Term, ...], kinds: Kinds, wanted: tuple[int, ...], tables: Tables, *operands: Tensor | None
    ) -> tuple[Tensor, ...]:
        x, weights = operands[X], operands[W]
        assert x is not None
        assert weights is not None
        sizes = {"x": x.shape[1], "w": weights.shape[1], "y": tables[1].shape[1]}
        out = [(weights if kinds[k] == "w" else x).new_empty(len(x), sizes[kinds[k]]) for k in wanted]
        with torch.autocast(x.device.type, enabled=False):
            for rows in edge_blocks(len(x), tables[0].shape[1], x.device):
                block = _Block(kinds, tables, [None if each is None else each[rows] for each in operands])
                for place, whole in zip(wanted, out, strict=True):
                    block.gradient(terms, place, whole[rows])
        return tuple(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.terms, ctx.kinds, ctx.wanted, ctx.tables, *operands = inputs
        ctx.save_for_backward(*operands)
        ctx.save_for_forward(*operands)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        felt = {place: gradient for place, gradient in zip(ctx.wanted, gradients, strict=True) if gradient is not None}
        wanted = tuple(place for place, wants in enumerate(ctx.needs_input_grad[4:]) if wants)
        back = dict(zip(wanted, _along(ctx, felt, wanted), strict=True))
        return None, None, None, None, *(back.get(place) for place in range(len(ctx.kinds)))

    @staticmethod
    def jvp(ctx: Any, *rates: Tensor | None) -> Any:
        return _along(ctx, {place: rate for place, rate in enumerate(rates[4:]) if rate is not None}, ctx.wanted)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        rows = []  # what vmap runs over becomes more rows
        for operand, dim in zip(given[4:], in_dims[4:], strict=True):
            each = operand
            if operand is not None:
                each = operand.expand(info.batch_size, *operand.shape) if dim is None else operand.movedim(dim, 0)
                each = each.flatten(0, 1)
            rows.append(each)
        found = _Gradient.apply(*given[:4], *rows)  # type: ignore[no-untyped-call]
        return tuple(part.unflatten(0, (info.batch_size, -1)) for part in found), (0,) * len(found)


def _along(ctx: Any, rates: Mapping[int, Tensor], wanted: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The gradients by the wanted operands of how fast the terms of `ctx` change when operands move at these rates."""
    operands = ctx.saved_tensors
    places = {place: len(operands) + index for index, place in enumerate(rates)}
    kinds = *ctx.kinds, *(ctx.kinds[place] for place in rates)
    terms = []
    for term in ctx.terms:
        if X in places:
            terms.append(Term(term.w, term.y, (*term.directions, places[X])))
        if term.w in places:
            terms.append(Term(places[term.w], term.y, term.directions))
        if term.y in places:
            terms.append(Term(term.w, places[term.y], term.directions))
        for place in places.keys() & set(term.directions):
            moved = (places[place] if direction == place else direction for direction in term.directions)
            terms.append(Term(term.w, term.y, tuple(moved)))
    found: tuple[Tensor, ...] = _Gradient.apply(tuple(terms), kinds, wanted, ctx.tables, *operands, *rates.values())  # type: ignore[no-untyped-call]
    return found


class _Block:
    """Some rows, and what has been computed of them on the grid."""

    def __init__(self, kinds: Kinds, tables: Tables, operands: Sequence[Tensor | None]) -> None:
        self.kinds, self.operands = kinds, operands
        self.to_grid, self.from_grid = tables
        self.found: dict[tuple[int, ...], Tensor] = {}

    def gradient(self, terms: Sequence[Term], place: int, out: Tensor) -> None:
        """Writes the gradient of the terms by one operand, in which all that have it but x are linear."""
        kind, total = self.kinds[place], None
        if kind == "w":
            out.zero_()
        for term in terms:
            factors, order = [term.y, *term.directions], len(term.directions)
            if place == term.w:
                self._to_weights(_product([*map(self.at, factors)]), order, out)
                continue
            if place == X:
                order += 1
            elif place in factors:
                factors.remove(place)
            else:
                continue
            polynomial = self.polynomial(term.w, order)
            if polynomial is not None:
                part = _product([*map(self.at, factors), polynomial])
                total = part if total is None else total + part
        if total is not None:
            torch.mm(total.to(out.dtype), self.from_grid if kind == "y" else self.to_grid.mT, out=out)
        elif kind != "w":
            out.zero_()

    def at(self, place: int) -> Tensor:
        """An operand on the grid, (R, P)."""
        if (place,) not in self.found:
            operand = self.operands[place]
            assert operand is not None
            self.found[place,] = operand @ (self.from_grid.mT if self.kinds[place] == "y" else self.to_grid)
        return self.found[place,]

    def polynomial(self, w: int, order: int) -> Tensor | None:
        """p_w^(order)(g) by Horner's rule, (R, P), or (R, 1) where it does not depend on g; None where it is zero."""
        weights = self.operands[w]
        assert weights is not None
        highest = weights.shape[1]
        if order > highest:
            return None
        if (w, order) not in self.found:
            if order:
                factors = [float(math.perm(power, order)) for power in range(1, highest + 1)]
                weights = weights * weights.new_tensor(factors)
            total = weights[:, -1:]
            for power in reversed(range(order, highest)):
                g = self.at(X)
                total = torch.addcmul(weights[:, power - 1 : power], total, g) if power else total * g
            self.found[w, order] = total
        return self.found[w, order]

    def _to_weights(self, through: Tensor, order: int, out: Tensor) -> None:
        """Adds the sum over the points of `through` times that derivative of each power of g."""
        for power in range(max(order, 1), out.shape[1] + 1):
            if power > order:
                through = through * self.at(X)
            out[:, power - 1].add_(through.sum(1), alpha=math.perm(power, order))


def _product(factors: Sequence[Tensor]) -> Tensor:
    """At least one; none of them is changed."""
    if len(factors) == 1:
        return factors[0]
    product = factors[0] * factors[1]
    for factor in factors[2:]:
        product.mul_(factor)
    return product
