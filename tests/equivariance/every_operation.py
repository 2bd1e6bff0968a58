"""The operations, each with inputs of any number of rows: what is true of every one is tested on all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from equimodels.ops import (
    CrossProduct,
    EdgeConvolution,
    GauntConvolution,
    GauntPower,
    GauntProduct,
    RotatedConvolution,
    spherical_harmonics,
)

ATOMS = 4


class Function(torch.nn.Module):
    """A function as a module, for what wants one."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(*given)


class OnGraph(torch.nn.Module):
    """A convolution whose edges follow from their number."""

    def __init__(self, convolution: torch.nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, *given: Tensor) -> Tensor:
        edges = torch.arange(given[-1].shape[0], device=given[-1].device)
        return self.convolution(*given, edges % ATOMS, (edges // 2) % ATOMS)


@dataclass(frozen=True)
class Case:
    """An operation, and the shape of each of its inputs for a number of rows: None stands for that number."""

    make: Callable[[], torch.nn.Module]
    shapes: tuple[tuple[int | None, ...], ...]
    directions: int | None = None  # which input are vectors of length one
    by_rows: bool = True  # whether each row of the result is of one row of the inputs
    exports: bool = True


CASES = {
    "harmonics": Case(lambda: Function(lambda v: spherical_harmonics(3, v)), ((None, 3),)),
    "product": Case(lambda: GauntProduct(2, 1, 2), ((None, 2, 9), (None, 2, 4))),
    "product, dense": Case(lambda: GauntProduct(2, 1, 2, backend="dense"), ((None, 2, 9), (None, 2, 4))),
    "product, fourier": Case(lambda: GauntProduct(2, 1, 2, backend="fourier"), ((None, 2, 9), (None, 2, 4))),
    "cross product": Case(lambda: CrossProduct(2, 1, 2), ((None, 2, 9), (None, 2, 4))),
    "power": Case(lambda: GauntPower(2, 2, 3), ((None, 2, 9), (None, 2, 3))),
    "convolution": Case(
        lambda: OnGraph(GauntConvolution(1, 2, 1)), ((ATOMS, 2, 4), (None, 2, 3), (None, 9)), by_rows=False
    ),
    "edge convolution": Case(
        lambda: OnGraph(EdgeConvolution(1, 2, 1)), ((ATOMS, 2, 4), (None, 2, 3), (None, 9)), by_rows=False
    ),
    "edge convolution, rotated": Case(
        lambda: OnGraph(EdgeConvolution(1, 2, 1, form="rotated")),
        ((ATOMS, 2, 4), (None, 2, 3), (None, 9)),
        by_rows=False,
    ),
    "rotated convolution": Case(
        lambda: OnGraph(RotatedConvolution(1, 2)), ((ATOMS, 2, 4), (None, 2, 8), (None, 3)), directions=2, by_rows=False
    ),
}


def inputs(case: Case, rows: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator, found = torch.Generator().manual_seed(0), []
    for shape in case.shapes:
        found.append(
            torch.randn([rows if size is None else size for size in shape], generator=generator, dtype=torch.float64)
        )
    if case.directions is not None:
        found[case.directions] = torch.nn.functional.normalize(found[case.directions], dim=-1)
    return [tensor.to(dtype) for tensor in found]
