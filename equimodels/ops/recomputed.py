"""A function of rows in blocks of rows, which are computed again for derivatives instead of kept.

The function takes and gives rows, and a row of a result depends on that row of its operands alone. Then its gradient is
such a function too, of the operands and of what the results feel, and so on for every order. The rows of an operand may
be taken of atoms, and those of a result given to atoms, which sum them: the gradient does the one for the other.
Shapes: R rows, N atoms, `...` any.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

RowFunction = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Atoms:
    """The atom of each row, (R,) int64, one of `number`."""

    index: Tensor
    number: int


@dataclass(frozen=True)
class _Plan:
    """Rows in all and of a block; of each operand and result the atoms, None where it has the rows themselves."""

    rows: int
    step: int
    taken: tuple[Atoms | None, ...]
    given: tuple[Atoms | None, ...]
    autocast: tuple[str, torch.dtype, bool]  # as it was for the function, wherever its derivatives are wanted


def recomputed(
    function: RowFunction,
    operands: Sequence[Tensor],
    *,
    step: int,
    taken: Sequence[Atoms | None] | None = None,
    given: Sequence[Atoms | None] = (None,),
) -> tuple[Tensor, ...]:
    """function(*operands), `step` rows at a time. operands: (R, ...), or (N, ...) where rows are taken of atoms.

    Returns the results, (R, ...), or (N, ...) where rows are given to atoms. Memory beside operands and results is that
    of one block, in derivatives of every order and in forward mode too. Nothing else that the function uses may have
    derivatives, and without rows it must know the shapes of its results all the same.
    """
    taken = (None,) * len(operands) if taken is None else tuple(taken)
    rows = next(len(o) if atoms is None else len(atoms.index) for o, atoms in zip(operands, taken, strict=True))
    kind = operands[0].device.type
    autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    found: tuple[Tensor, ...] = _Blocks.apply(function, _Plan(rows, step, taken, tuple(given), autocast), *operands)  # type: ignore[no-untyped-call]
    return found


class _Blocks(Function):
    @staticmethod
    def forward(function: RowFunction, plan: _Plan, *operands: Tensor) -> tuple[Tensor, ...]:
        kind, dtype, enabled = plan.autocast
        operands = tuple(operand.detach() for operand in operands)  # else slices would say that they require gradients
        whole: list[Tensor] = []
        with torch.autocast(kind, dtype, enabled, cache_enabled=False):
            for start in range(0, max(plan.rows, 1), plan.step):
                block = slice(start, start + plan.step)
                found = function(*(_taken(o, atoms, block) for o, atoms in zip(operands, plan.taken, strict=True)))
                whole = whole or [_empty(part, atoms, plan.rows) for part, atoms in zip(found, plan.given, strict=True)]
                for out, part, atoms in zip(whole, found, plan.given, strict=True):
                    if atoms is None:
                        out[block] = part
                    else:
                        out.index_add_(0, atoms.index[block], part)
        return tuple(whole)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.function, ctx.plan, *operands = inputs
        ctx.save_for_backward(*operands)
        ctx.save_for_forward(*operands)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        plan, operands = ctx.plan, ctx.saved_tensors
        felt = [place for place, gradient in enumerate(gradients) if gradient is not None]
        wanted = [place for place, wants in enumerate(ctx.needs_input_grad[2:]) if wants]
        taken = *plan.taken, *(plan.given[place] for place in felt)
        plan = replace(plan, taken=taken, given=tuple(plan.taken[place] for place in wanted))
        function = _gradient(ctx.function, len(operands), felt, wanted)
        found = _Blocks.apply(function, plan, *operands, *(gradients[place] for place in felt))  # type: ignore[no-untyped-call]
        back = dict(zip(wanted, found, strict=True))
        return None, None, *(back.get(place) for place in range(len(operands)))

    @staticmethod
    def jvp(ctx: Any, *rates: Tensor | None) -> Any:
        plan, operands = ctx.plan, ctx.saved_tensors
        moving = {place: rate for place, rate in enumerate(rates[2:]) if rate is not None}
        plan = replace(plan, taken=(*plan.taken, *(plan.taken[place] for place in moving)))
        return _Blocks.apply(_rate(ctx.function, len(operands), [*moving]), plan, *operands, *moving.values())  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: RowFunction, plan: _Plan, *operands: Tensor) -> Any:
        if any((*plan.taken, *plan.given)):
            raise NotImplementedError("vmap over many edges at once; map over fewer, or give all structures as one")
        rows = [  # what vmap runs over becomes more rows
            (o.expand(info.batch_size, *o.shape) if dim is None else o.movedim(dim, 0)).flatten(0, 1)
            for o, dim in zip(operands, in_dims[2:], strict=True)
        ]
        found = _Blocks.apply(function, replace(plan, rows=plan.rows * info.batch_size), *rows)  # type: ignore[no-untyped-call]
        return tuple(part.unflatten(0, (info.batch_size, -1)) for part in found), (0,) * len(found)


def _taken(operand: Tensor, atoms: Atoms | None, block: slice) -> Tensor:
    return operand[block] if atoms is None else operand.index_select(0, atoms.index[block])


def _empty(part: Tensor, atoms: Atoms | None, rows: int) -> Tensor:
    """What blocks like `part` are written or added to."""
    shape = part.shape[1:]
    return part.new_empty(rows, *shape) if atoms is None else part.new_zeros(atoms.number, *shape)


def _gradient(function: RowFunction, number: int, felt: Sequence[int], wanted: Sequence[int]) -> RowFunction:
    """The gradients by the wanted ones of `number` operands; what the results `felt` feel follows the operands."""

    def gradient(*given: Tensor) -> tuple[Tensor, ...]:
        again = torch.is_grad_enabled()  # a derivative of this is being computed
        with torch.enable_grad():
            operands = _with_gradients(given[:number], wanted)
            found = function(*operands)
            return _back([found[place] for place in felt], [operands[place] for place in wanted], given[number:], again)

    return gradient


def _rate(function: RowFunction, number: int, moving: Sequence[int]) -> RowFunction:
    """How fast the results change; the rates of the `moving` ones of `number` operands follow the operands."""

    def rate(*given: Tensor) -> tuple[Tensor, ...]:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            operands = _with_gradients(given[:number], moving)
            found = function(*operands)
            # The gradients are linear in what is felt: theirs by it is the rate. Forward mode cannot be nested.
            felt = [torch.zeros_like(part, requires_grad=True) for part in found]
            back = _back(found, [operands[place] for place in moving], felt, True)
            return _back(back, felt, given[number:], again)

    return rate


def _with_gradients(operands: Sequence[Tensor], wanted: Sequence[int]) -> list[Tensor]:
    return [
        operand.detach().requires_grad_() if place in wanted and not operand.requires_grad else operand
        for place, operand in enumerate(operands)
    ]


def _back(results: Sequence[Tensor], by: Sequence[Tensor], felt: Sequence[Tensor], again: bool) -> tuple[Tensor, ...]:
    """The gradients of the results, zero where nothing depends on an operand."""
    pairs = [(result, feels) for result, feels in zip(results, felt, strict=True) if result.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(operand) for operand in by)
    depends, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(depends, by, weights, create_graph=again, materialize_grads=True)
