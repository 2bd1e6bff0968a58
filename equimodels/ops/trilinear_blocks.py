"""A trilinear form in blocks of rows: nothing of the size of the grid is made whole, or kept for the backward passes.

Shapes: R rows, C channels (or 1, where an operand is shared by the channels), n_i coefficients of operand i.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from equimodels.ops.row_blocks import rows_of
from equimodels.ops.scratch import scratch
from equimodels.ops.tracing import is_traced
from equimodels.ops.trilinear import OTHERS, Trilinear
from equimodels.ops.trilinear_sides import Space

Channels = tuple[int, int, int]  # of the three operands: each is C or 1

# Numbers on the grid in one block: 4 MB of float32, about 2,400 rows of degree 6. With 32,000 rows and one thread the
# Gaunt product took, in microseconds a row at degree 6, 1.4 whole, 1.1 in blocks of half and of twice that, 0.9 so.
BLOCK = 1 << 20
BLOCK_CUDA = 1 << 28  # a GPU wants large launches; 1 GB of float32
WHOLE = 1  # blocks: up to so many are done at once, since a block costs 0.3 ms beside its arithmetic


def block_of(device: torch.device) -> int:
    """Numbers on the grid in one block on this device."""
    return BLOCK if device.type == "cpu" else BLOCK_CUDA


def product(form: Trilinear, x: Tensor, y: Tensor) -> Tensor:
    """x: (..., n1), y: (..., n2), broadcast against each other. Returns (..., n3), the product.

    Few rows are done at once, and autograd keeps their values on the grid: three matrix products on the backward pass
    instead of five. Many are done in blocks. Who records operations gets the plain ones, to plan memory by itself.
    """
    if is_traced():
        return form.plain(x, y)
    if rows_of(x, y).numel() * form.row <= WHOLE * block_of(x.device) and kernels_of(x.device) is None:
        return form.plain(x, y)
    return in_blocks(form, x, y)


def kernels_of(device: torch.device) -> Any:
    """What does a whole form in one kernel on this device, or None. On a GPU without Triton it says so, once."""
    return _triton() if device.type == "cuda" else None


@cache
def _triton() -> Any:
    try:
        from equimodels.ops import trilinear_triton
    except ImportError as error:
        warnings.warn(f"products on the sphere run without their fused kernel: {error}; install triton", stacklevel=2)
        return None
    return trilinear_triton


def in_blocks(form: Trilinear, x: Tensor, y: Tensor) -> Tensor:
    """x: (..., C or 1, n1), y: (..., C or 1, n2), broadcast against each other. Returns (..., C, n3), as `form.plain`.

    Derivatives of every order, forward mode too; on the backward pass the grid is computed again, block by block.
    """
    if torch.is_autocast_enabled(x.device.type):
        x, y = _autocast(x), _autocast(y)
    shape = rows_of(x, y)
    if x.shape[:-1] == y.shape[:-1] or shape[:-1].numel() < shape[-1]:  # channels are rows like others
        rows = [tensor.expand(*shape, tensor.shape[-1]).reshape(-1, 1, tensor.shape[-1]) for tensor in (x, y)]
    else:
        matrices = (tensor if tensor.dim() > 1 else tensor[None] for tensor in (x, y))
        rows = [tensor.expand(*shape[:-1], *tensor.shape[-2:]).reshape(-1, *tensor.shape[-2:]) for tensor in matrices]
    channels = rows[0].shape[1], rows[1].shape[1], max(rows[0].shape[1], rows[1].shape[1])
    out: Tensor = _Open.apply(*rows, form, 2, channels)  # type: ignore[no-untyped-call]
    return out.view(*shape, out.shape[-1])


def _autocast(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.to(torch.get_autocast_dtype(x.device.type))


def _evaluate(
    form: Trilinear, given: Mapping[int, Tensor], wanted: tuple[int, ...], channels: Channels
) -> list[Tensor]:
    """Each wanted operand, (R, C or 1, n), left open, from the others among the given ones, block by block."""
    like = next(iter(given.values()))
    kernels = kernels_of(like.device)
    if kernels is not None and set(channels) == {1} and kernels.fits(form, *given.values()):
        rows = {role: operand.squeeze(1).contiguous() for role, operand in given.items()}
        return [
            kernels.leave_open(form, role, *(rows[other] for other in OTHERS[role])).unsqueeze(1) for role in wanted
        ]
    out = [like.new_empty(len(like), channels[role], form.sides[role].width) for role in wanted]
    with torch.autocast(like.device.type, enabled=False):
        step = max(1, block_of(like.device) // (max(channels) * form.row))
        spaces, results = _spaces(form, given, wanted, min(step, len(like)) * max(channels), like)
        for block in _blocks(len(like), step):
            grid = {role: form.sides[role].to_grid(tensor[block], spaces[role]) for role, tensor in given.items()}
            for role, whole in zip(wanted, out, strict=True):
                first, second = (grid[other] for other in OTHERS[role])
                into = whole[block].flatten(0, 1)
                form.leave_open(role, first, second, channels=channels[role], space=results[role], into=into)
    return out


def _spaces(
    form: Trilinear, given: Iterable[int], wanted: Iterable[int], rows: int, like: Tensor
) -> tuple[dict[int, Space], dict[int, Space]]:
    """Memory for the components of the given operands, and for the values of the wanted ones."""
    given = list(given)
    # What is wanted alone has one place; of an operand that is given as well the components must survive.
    sizes = [form.sides[role].space(rows) for role in (*given, *wanted)]
    memory = iter(scratch([size for side in sizes for size in side], like))
    places = [[next(memory) for _ in side] for side in sizes]
    return dict(zip(given, places, strict=False)), dict(zip(wanted, places[len(given) :], strict=True))


def _blocks(rows: int, step: int) -> Iterator[slice]:
    for start in range(0, rows, step):
        yield slice(start, start + step)


class _Open(Function):
    """One operand from the two others."""

    @staticmethod
    def forward(first: Tensor, second: Tensor, form: Trilinear, role: int, channels: Channels) -> Tensor:
        i, j = OTHERS[role]
        return _evaluate(form, {i: first, j: second}, (role,), channels)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        first, second, ctx.form, ctx.role, ctx.channels = inputs
        ctx.save_for_backward(first, second)
        ctx.save_for_forward(first, second)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        first, second = ctx.saved_tensors
        form, role, channels = ctx.form, ctx.role, ctx.channels
        i, j = OTHERS[role]
        wanted = ctx.needs_input_grad
        if wanted[0] and wanted[1]:
            both = _Both.apply(first, second, gradient, form, role, channels)  # type: ignore[no-untyped-call]
            return *both, None, None, None
        to_first = _open(form, i, {j: second, role: gradient}, channels) if wanted[0] else None
        to_second = _open(form, j, {i: first, role: gradient}, channels) if wanted[1] else None
        return to_first, to_second, None, None, None

    @staticmethod
    def jvp(ctx: Any, first_dot: Any, second_dot: Any, *_: Any) -> Any:
        first, second = ctx.saved_tensors
        i, j = OTHERS[ctx.role]
        return _sum(
            None if first_dot is None else _open(ctx.form, ctx.role, {i: first_dot, j: second}, ctx.channels),
            None if second_dot is None else _open(ctx.form, ctx.role, {i: first, j: second_dot}, ctx.channels),
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        tensors, rest = _as_rows(info, in_dims[:2], given[:2]), given[2:]
        return _Open.apply(*tensors, *rest).unflatten(0, (info.batch_size, -1)), 0  # type: ignore[no-untyped-call]


class _Both(Function):
    """The gradients by two operands at once: the third is brought to the grid once for both."""

    @staticmethod
    def forward(
        first: Tensor, second: Tensor, third: Tensor, form: Trilinear, role: int, channels: Channels
    ) -> tuple[Tensor, ...]:
        i, j = OTHERS[role]
        return tuple(_evaluate(form, {i: first, j: second, role: third}, (i, j), channels))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.form, ctx.role, ctx.channels = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, by_first: Tensor, by_second: Tensor) -> Any:
        first, second, third = ctx.saved_tensors
        form, k, channels = ctx.form, ctx.role, ctx.channels
        i, j = OTHERS[k]
        # Of T(by_first, second, third) + T(first, by_second, third).
        to_first = _open(form, i, {j: by_second, k: third}, channels)
        to_second = _open(form, j, {i: by_first, k: third}, channels)
        to_third = _sum(
            _open(form, k, {i: by_first, j: second}, channels), _open(form, k, {i: first, j: by_second}, channels)
        )
        return to_first, to_second, to_third, None, None, None

    @staticmethod
    def jvp(ctx: Any, *rates: Any) -> Any:
        form, channels = ctx.form, ctx.channels
        roles = (*OTHERS[ctx.role], ctx.role)
        here = dict(zip(roles, ctx.saved_tensors, strict=True))
        moving = {role: rate for role, rate in zip(roles, rates[:3], strict=True) if rate is not None}
        return tuple(
            _sum(*(_open(form, k, {**here, other: moving[other]}, channels) for other in OTHERS[k] if other in moving))
            for k in roles[:2]
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        tensors, rest = _as_rows(info, in_dims[:3], given[:3]), given[3:]
        both = _Both.apply(*tensors, *rest)  # type: ignore[no-untyped-call]
        return tuple(part.unflatten(0, (info.batch_size, -1)) for part in both), (0, 0)


def _as_rows(info: Any, in_dims: Any, tensors: Any) -> list[Tensor]:
    """What vmap runs over becomes more rows."""
    return [
        (tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)).flatten(0, 1)
        for tensor, dim in zip(tensors, in_dims, strict=True)
    ]


def _open(form: Trilinear, role: int, operands: Mapping[int, Tensor], channels: Channels) -> Tensor:
    out: Tensor = _Open.apply(*(operands[other] for other in OTHERS[role]), form, role, channels)  # type: ignore[no-untyped-call]
    return out


def _sum(*parts: Tensor | None) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return there[0] if len(there) == 1 else there[0] + there[1] if there else None
