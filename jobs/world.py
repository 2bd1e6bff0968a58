"""The processes that train together, seen from one of them. Alone when torch.distributed is not running."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from jobs.pulse import Pulse

# By whether there are GPUs. Small things go over the CPU there, too: a flag needs no synchronisation of the device.
BACKENDS = {False: "gloo", True: "cpu:gloo,cuda:nccl"}


@dataclass(frozen=True)
class World:
    """Rank and number of the processes of a run.

    Everything here is small and goes over the CPU (gloo), also where gradients go over NCCL. A rank that waits longer
    than the process group's time limit raises RuntimeError; who was missing is then found out by the driver.
    """

    rank: int = 0
    size: int = 1
    pulse: Pulse = field(default_factory=Pulse, compare=False, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes what is written once."""
        return self.rank == 0

    def at(self, step: int) -> None:
        """Say that this rank begins a step, so that one that is missed can be told where it was last."""
        self.pulse.at(step)

    def sum(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Element-wise sum over all ranks of tensors that every rank has under the same names."""
        if self.size == 1:
            return values
        names = sorted(values)
        packed = torch.cat([values[name].reshape(-1).to(torch.float64) for name in names])
        dist.all_reduce(packed)
        parts = torch.split(packed, [values[name].numel() for name in names])
        return {name: part.reshape(values[name].shape) for name, part in zip(names, parts, strict=True)}

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes; the same answer on every rank."""
        if self.size == 1:
            return flag
        votes = torch.tensor([1 if flag else 0], dtype=torch.int32)
        dist.all_reduce(votes)
        return bool(votes.item())

    def barrier(self) -> None:
        """Nobody goes on before all have come."""
        self.any(False)

    def gather(self, value: Any) -> list[Any]:
        """The small Python values of all ranks, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found
