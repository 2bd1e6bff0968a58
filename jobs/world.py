"""The processes that train together, seen from one of them. Alone when torch.distributed is not running."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """Rank and number of the processes of a run."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes what is written once."""
        return self.rank == 0

    def sum(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Element-wise sum over all ranks of tensors that every rank has under the same names."""
        if self.size == 1:
            return values
        names = sorted(values)
        packed = torch.cat([values[name].reshape(-1).to(torch.float64) for name in names])
        dist.all_reduce(packed)
        parts = torch.split(packed, [values[name].numel() for name in names])
        return {name: part.reshape(values[name].shape) for name, part in zip(names, parts, strict=True)}

    def gather(self, value: Any) -> list[Any]:
        """The small Python values of all ranks, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found
