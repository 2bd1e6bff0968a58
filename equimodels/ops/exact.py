"""Constant tables that stay exact when a module changes its dtype."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class ExactTables(nn.Module):
    """A module whose constant tables are kept in float64 and rounded anew at each change of dtype.

    An ordinary buffer cast to float32 and back to float64 carries an error of 1e-7 from then on, which
    would break equivariance at 1e-10 for every checkpoint loaded in float32 and served in float64.
    The tables are buffers (they follow `.to(device)`), but are not part of the state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, tuple[Tensor, bool]] = {}

    def add_table(self, name: str, table: Tensor, *, rounded: bool = True) -> None:
        """Register `table` (float64, CPU) as the buffer `name`, in the module's dtype or, unrounded, in float64."""
        self._exact[name] = (table, rounded)
        cast = table.to(torch.get_default_dtype()) if rounded else table.clone()
        self.register_buffer(name, cast, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, (exact, rounded) in self._exact.items():
            cast = self.get_buffer(name)
            if not cast.is_meta:
                dtype = cast.dtype if rounded else torch.float64
                setattr(self, name, exact.to(device=cast.device, dtype=dtype))
        return self
